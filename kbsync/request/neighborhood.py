"""Neighborhood prompts: other subjects of the relation, whose objects an edit must leave alone.

As in the ROME and MEMIT papers, the neighbours share the edit's *old* object (other works of the company
that no longer makes this one), since that is where a careless edit bleeds. Where they run out, any other
subject of the relation stands in with its own object.

The choice is pseudo-random and yet a pure function of the set of candidates: each candidate has a place on
a ring, the hash of its id, and an edit takes the candidates that follow the hash of its own fact. A subject
that comes or goes changes a choice only where it stands itself.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from kbsync.facts import EditRequest, KnownFact, Neighbor, Value, is_entity_id
from kbsync.request.catalogue import Catalogue, Relation
from kbsync.request.verbalise import Labels, fold, own_label, place, value_text
from kbsync.request.words import label_fault

_Ring = list[tuple[int, KnownFact]]


@dataclass(frozen=True)
class Neighborhood:
    """The candidates, by relation and by (relation, object), each sorted by its place on the ring."""

    by_relation: dict[str, _Ring]
    by_object: dict[tuple[str, Value], _Ring]
    labels: Labels
    catalogue: Catalogue

    @classmethod
    def build(
        cls, candidates: Iterable[KnownFact], edited: Set[str], labels: Labels, catalogue: Catalogue
    ) -> Neighborhood:
        """Index the current facts that may serve as neighbours.

        A subject in `edited` never does, nor one that goes by the name of an edited subject.
        `candidates` holds at most one fact per subject and relation: a subject with several objects has
        none that the model could be held to.
        """
        by_relation: dict[str, _Ring] = {}
        by_object: dict[tuple[str, Value], _Ring] = {}
        names = {fold(own_label(subject, labels) or "") for subject in edited} | {""}
        for one in candidates:
            fact = one.fact
            if not is_entity_id(fact.subject) or fold(own_label(fact.subject, labels) or "") in names:
                continue
            entry = (_place_of(fact.relation, fact.subject), one)
            by_relation.setdefault(fact.relation, []).append(entry)
            by_object.setdefault((fact.relation, fact.value), []).append(entry)
        for ring in (*by_relation.values(), *by_object.values()):
            ring.sort(key=lambda entry: (entry[0], entry[1].fact))
        return cls(by_relation, by_object, labels, catalogue)

    def choose(self, request: EditRequest, old: Value | None, count: int) -> tuple[Neighbor, ...]:
        """At most `count` neighbours of `request`: those with the `old` object first, then others.

        A neighbour never has the edit's new object, and one of the second kind never its old one.
        """
        fact = request.fact
        relation = self.catalogue.relation(fact.relation, own_label(fact.relation, self.labels))
        chosen: list[Neighbor] = []
        if old is not None and old != fact.value:
            same = self.by_object.get((fact.relation, old), [])
            avoid = {fold(request.target_new)}
            self._take(chosen, count, _from(same, request), relation, request, avoid, same_object=True)
        others = self.by_relation.get(fact.relation, [])
        taken = sum(len(self.by_object.get((fact.relation, v), [])) for v in {old, fact.value} if v)
        if len(chosen) < count and taken < len(others):
            avoid = {fold(text) for text in (request.target_new, request.target_old) if text is not None}
            # Skipped by value first, since putting thousands of them into words would be slow.
            ring = (one for one in _from(others, request) if one.fact.value not in (old, fact.value))
            self._take(chosen, count, ring, relation, request, avoid, same_object=False)
        return tuple(chosen)

    def _take(
        self,
        chosen: list[Neighbor],
        count: int,
        ring: Iterator[KnownFact],
        relation: Relation,
        request: EditRequest,
        avoid: set[str],
        same_object: bool,
    ) -> None:
        """Add neighbours from `ring` to `chosen` until there are `count`."""
        names = {fold(request.subject_label)} | {fold(one.prompt.subject) for one in chosen}
        while len(chosen) < count and (candidate := next(ring, None)) is not None:
            name = own_label(candidate.fact.subject, self.labels)
            if name is None or label_fault(name) is not None or fold(name) in names:
                continue
            target, _ = value_text(candidate.fact.value, self.labels, relation)
            if target is None or fold(target) in avoid or fold(target) == fold(name):
                continue
            names.add(fold(name))
            prompt = place(relation.rewrite, name, relation)
            chosen.append(Neighbor(candidate.fact.subject, prompt, target, same_object))


def _place_of(*parts: str) -> int:
    """A place on the ring: the first 8 bytes of the sha256 of `parts`."""
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:8])


def _from(ring: Sequence[tuple[int, KnownFact]], request: EditRequest) -> Iterator[KnownFact]:
    """Once around `ring`, from the edit's own place on it."""
    fact = request.fact
    place_of_edit = _place_of(fact.relation, fact.subject, fact.value.kind, fact.value.text)
    begin = bisect_left(ring, place_of_edit, key=lambda entry: entry[0])
    for step in range(len(ring)):
        yield ring[(begin + step) % len(ring)][1]
