"""Where a benchmark's edits come from: the demo's real changes, and counterfactual edits.

Both ship with kbsync, and both are put into words by the relation catalogue.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from kbsync.errors import ConfigError
from kbsync.facts import EditRequest, Fact, KnownFact, Value, ValueKind, digest
from kbsync.request.catalogue import Catalogue
from kbsync.request.neighborhood import Neighborhood
from kbsync.request.verbalise import sentence, verbalise
from kbsync.settings import share

_SEEN = datetime(2022, 2, 10, tzinfo=UTC)  # when CounterFact came out; a neighbor's age plays no part
_NAMED = (("subject", "label"), ("old", "old_label"))  # columns of the counterfactual edits: an item and its name
_ENTITY = r"<http://www\.wikidata\.org/entity/(Q[0-9]+)>"
_LABEL = re.compile(rf'{_ENTITY} <http://www\.w3\.org/2000/01/rdf-schema#label> "([^"\\]+)"@en \.')
_DIRECT = re.compile(rf"{_ENTITY} <http://www\.wikidata\.org/prop/direct/(P[0-9]+)> {_ENTITY} \.")


def real_changes(catalogue: Catalogue, count: int, neighbors: int = 0) -> list[EditRequest]:
    """The first `count` real changes of the demo's windows that can be said, each subject and relation once.

    Each has up to `neighbors` neighbors from the demo's slice, chosen as a sync chooses them. Raises ConfigError
    when the demo has fewer changes.
    """
    found: dict[tuple[str, str], tuple[EditRequest, Value | None]] = {}
    words: set[str] = set()
    for row in _table("data/demo/expected.tsv"):
        request, old = _real_change(row, catalogue)
        if request is None or request.rewrite.text in words:
            continue
        words.add(request.rewrite.text)
        found.setdefault((row["subject"], row["property"]), (request, old))
    _enough(len(found), count, "the demo", "changes")
    first = list(found.values())[:count]
    if neighbors == 0:
        return [request for request, _ in first]
    hood = _slice_neighborhood(catalogue)
    return [replace(request, neighborhood=hood.choose(request, old, neighbors)) for request, old in first]


def _real_change(row: dict[str, str], catalogue: Catalogue) -> tuple[EditRequest | None, Value | None]:
    if row["kind"] not in ("replaced", "added"):
        return None, None
    fact = Fact(row["subject"], row["property"], Value(ValueKind.ITEM, row["new"]))
    labels: dict[str, str | None] = {
        row["subject"]: row["label"],
        row["property"]: row["property_label"],
        row["new"]: row["new_label"],
    }
    previous = None
    if row["old"]:
        previous = Value(ValueKind.ITEM, row["old"])
        labels[row["old"]] = row["old_label"]
    request = verbalise(fact, labels, catalogue, previous)
    return (request, previous) if isinstance(request, EditRequest) else (None, None)


def _slice_neighborhood(catalogue: Catalogue) -> Neighborhood:
    """Those of the demo's slice that can be neighbors and are not for C."""
    labels, objects = _slice()
    facts = _single(catalogue, objects)
    return Neighborhood.build(_beside_c(facts), _touched(), labels, catalogue)


def _touched() -> frozenset[str]:
    return frozenset(row["subject"] for row in _table("data/demo/expected.tsv"))


def _single(catalogue: Catalogue, objects: Mapping[tuple[str, str], Sequence[str]]) -> list[KnownFact]:
    """The slice's facts of subjects that no window touches and that have one object of the relation."""
    touched = _touched()
    return [
        _known(subject, relation, values[0])
        for (subject, relation), values in objects.items()
        if len(values) == 1 and relation in catalogue and subject not in touched
    ]


def _slice() -> tuple[dict[str, str | None], dict[tuple[str, str], list[str]]]:
    """The demo's slice: labels by id, and objects by subject and relation."""
    labels: dict[str, str | None] = {}
    objects: dict[tuple[str, str], list[str]] = {}
    with gzip.open(share("data/demo/wikidata.nt.gz"), "rt", encoding="utf-8") as lines:
        for line in lines:
            if label := _LABEL.match(line):
                labels[label[1]] = label[2]
            elif direct := _DIRECT.match(line):
                objects.setdefault((direct[1], direct[2]), []).append(direct[3])
    return labels, objects


def descriptions(catalogue: Catalogue, real: bool = False) -> dict[str, str]:
    """What is known of each item, by id: the sentences of all facts that have it as subject or object.

    The facts are the true ones behind the counterfactual edits and their neighbors, or those of the demo's slice.
    """
    labels: dict[str, str | None]
    if real:
        labels, objects = _slice()
        triples = [(s, relation, value) for (s, relation), values in objects.items() for value in values]
    else:
        rows = list(_table("data/bench/counterfact.tsv"))
        labels = {row[item]: row[name] for row in rows for item, name in _NAMED}
        triples = [(row["subject"], row["relation"], row["old"]) for row in rows]
    found: dict[str, list[str]] = {}
    for subject, relation, value in triples:
        fact = Fact(subject, relation, Value(ValueKind.ITEM, value))
        said = sentence(fact, labels, catalogue) if relation in catalogue else None
        if said is not None:
            found.setdefault(subject, []).append(said)
            found.setdefault(value, []).append(said)
    return {item: " ".join(said) for item, said in found.items()}


def sentences(catalogue: Catalogue, real: bool = False) -> list[str]:
    """True facts in words, for C to hold: up to a quarter of what could be neighbors, which then are nobody's.

    They are the same whichever edits are drawn. `real`: those of the demo's slice.
    """
    labels: dict[str, str | None]
    if real:
        labels, objects = _slice()
        facts = [known.fact for known in _single(catalogue, objects)]
    else:
        rows = list(_table("data/bench/counterfact.tsv"))
        labels = {row[item]: row[name] for row in rows for item, name in _NAMED}
        facts = [_known(row["subject"], row["relation"], row["old"]).fact for row in rows if not row["new"]]
    chosen = sorted(_for_c(facts), key=_place)
    return [said for fact in chosen if (said := sentence(fact, labels, catalogue)) is not None]


def _for_c(facts: Iterable[Fact]) -> set[Fact]:
    """Of those that share relation and object a quarter, so that edits with few neighbors keep them."""
    alike: dict[tuple[str, Value], list[Fact]] = {}
    for fact in facts:
        alike.setdefault((fact.relation, fact.value), []).append(fact)
    return {fact for own in alike.values() for fact in sorted(own, key=_place)[: len(own) // 4]}


def _beside_c(facts: Sequence[KnownFact]) -> list[KnownFact]:
    """Those that may be neighbors."""
    taken = _for_c(known.fact for known in facts)
    return [known for known in facts if known.fact not in taken]


def _place(fact: Fact) -> tuple[str, str]:
    """A hash to sort by, the same under every Python, and what tells apart the objects of one subject."""
    return digest([fact.relation, fact.subject]), fact.value.text


def counterfactual(
    catalogue: Catalogue, count: int, seed: int, neighbors: int, *, last: bool = False
) -> list[EditRequest]:
    """The first `count` counterfactual edits in the order that `seed` shuffles them into, or the `last`: fewer are
    the first of more, or the last. Each has up to `neighbors` neighbors, which all have its old object and are
    edited by no seed.

    An edit that the catalogue can't say is left out. Raises ConfigError when there are fewer than `count`.
    """
    rows = list(_table("data/bench/counterfact.tsv"))
    labels: dict[str, str | None] = {}
    for row in rows:
        labels |= {row["subject"]: row["label"], row["old"]: row["old_label"], row["new"]: row["new_label"]}
    edited = frozenset(row["subject"] for row in rows if row["new"])
    near = [row for row in rows if not row["new"] and row["relation"] in catalogue]
    facts = [_known(row["subject"], row["relation"], row["old"]) for row in near]
    hood = Neighborhood.build(_beside_c(facts), edited, labels, catalogue)
    order = sorted((row for row in rows if row["new"]), key=lambda row: _draw(seed, row))
    _enough(len(order), count, "data/bench/counterfact.tsv", "counterfactual edits")
    requests = []
    for row in order[-count:] if last else order[:count]:
        old = Value(ValueKind.ITEM, row["old"])
        fact = Fact(row["subject"], row["relation"], Value(ValueKind.ITEM, row["new"]))
        request = verbalise(fact, labels, catalogue, old) if row["relation"] in catalogue else None
        if isinstance(request, EditRequest):
            chosen = tuple(one for one in hood.choose(request, old, neighbors) if one.same_object)
            requests.append(replace(request, neighborhood=chosen))
    return requests


def _known(subject: str, relation: str, value: str) -> KnownFact:
    fact = Fact(subject, relation, Value(ValueKind.ITEM, value))
    return KnownFact(fact, baseline=True, preferred=False, start=None, end=None, seen=_SEEN)


def _draw(seed: int, row: dict[str, str]) -> str:
    """A row's place in the shuffle: a hash, so that it is the same under every Python."""
    return hashlib.sha256(f"{seed}\t{row['relation']}\t{row['subject']}".encode()).hexdigest()


def _table(path: str) -> Iterator[dict[str, str]]:
    with share(path).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def _enough(there: int, count: int, where: str, what: str) -> None:
    if there < count:
        raise ConfigError(f"{where} has only {there} {what} to measure with; ask for that many or fewer")
