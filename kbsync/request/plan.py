"""The planner: which facts the synced model should hold now, each in words, or why not.

It is level-triggered and pure: the plan follows from the facts as they are, not from the events that led
here, and is the same whatever order they are given in. Every known fact ends in one counted outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime

from kbsync.facts import EditRequest, Fact, Held, KnownFact, Value, is_entity_id
from kbsync.request.catalogue import Catalogue, Current
from kbsync.request.current import Choice, choose, newest
from kbsync.request.neighborhood import Neighborhood
from kbsync.request.verbalise import Labels, fold, own_label, verbalise
from kbsync.settings import WatchSettings

AMBIGUOUS_SUBJECT = "ambiguous subject"
SEVERAL_CURRENT_VALUES = "several current values"
SAME_WORDS = "same words as another fact"
BEYOND_MAX_LIVE = "beyond max_live"
MODEL_FULL = "model full"
QUARANTINED = "quarantined"
LEFT_OUT = "left out by the gate"
ROLLED_BACK = "rolled back"

Group = tuple[str, str]  # (subject, relation)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known at the time `at`, of which the plan is a function.

    `facts` are all truthy facts, with those of the baseline: they decide what is current, what is ambiguous, and
    serve as neighbours. `previous` has the object before the current one; `labels` maps subjects, objects and
    relations to their labels. Facts that ended before `at` are not current.
    """

    facts: Sequence[KnownFact]
    previous: Mapping[Group, Value]
    labels: Labels
    at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """What the synced model should hold.

    `wanted` is sorted by content hash and holds no hash twice; `held` is sorted by fact. `counts` has one
    outcome per known fact: `wanted`, `adopted`, `superseded`, `ended`, `not begun`, `duplicate`,
    `not watched` or `held: <reason>`; and `kept by a rollback`, whose facts need not be known any more.
    `ended` are the groups whose asides stand no longer.
    """

    wanted: tuple[EditRequest, ...]
    held: tuple[Held, ...]
    counts: dict[str, int]
    ended: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True)
class Aside:
    """A group in which a rollback changed the model.

    While Wikidata has the `disliked` value there (None: nothing to teach), the model keeps what it went back to:
    `kept`, or nothing. `words` is the disliked request's content hash.
    """

    group: Group
    disliked: Value | None
    words: str | None
    kept: EditRequest | None


@dataclass(frozen=True, slots=True)
class Limit:
    """How many edits a model holds that was found full.

    `known` has the content hashes of requests that the base model answers by itself: they take no room.
    """

    edits: int
    known: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Constraints:
    """What earlier runs, and people, have found of the model, whatever the facts are.

    `limit` is there when the model was found full; `kept_out` has the reasons why requests are held, by content
    hash; `asides` are the groups that a rollback has settled, as long as they stand.
    """

    limit: Limit | None = None
    kept_out: Mapping[str, str] = field(default_factory=dict)
    asides: Sequence[Aside] = ()


@dataclass(frozen=True, slots=True)
class _Words:
    """How facts are said: the names of things, and the relations' sentences."""

    labels: Labels
    catalogue: Catalogue

    def say(self, fact: Fact, old: Value | None) -> EditRequest | Held:
        return verbalise(fact, self.labels, self.catalogue, old)

    def policy(self, relation_id: str) -> Current:
        try:
            return self.catalogue.relation(relation_id, own_label(relation_id, self.labels)).current
        except LookupError:
            return Current.SINGLE  # its facts are held by `say`, which names the missing label


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A fact that should be taught, if it can be said."""

    known: KnownFact
    old: Value | None


def plan(
    known: Known, catalogue: Catalogue, watch: WatchSettings, neighbors: int, constraints: Constraints
) -> Plan:
    """Plan the live set from what is known of the watched relations; `neighbors` is the number of neighborhood
    prompts per request."""
    words = _Words(known.labels, catalogue)
    watched = set(watch.relations)
    counts: Counter[str] = Counter()
    groups: dict[Group, list[KnownFact]] = {}
    for one in known.facts:
        if one.fact.relation in watched:
            groups.setdefault((one.fact.subject, one.fact.relation), []).append(one)
        else:
            counts["not watched"] += 1
    policies = {relation: words.policy(relation) for relation in watched}
    choices = {group: choose(facts, policies[group[1]], known.at) for group, facts in groups.items()}
    ambiguous = _ambiguous(choices, known.labels)
    teach = watch.baseline == "teach"

    candidates: list[_Candidate] = []
    held: list[Held] = []
    standing = {one.group: one for one in constraints.asides if one.group[1] in watched}
    ended = [group for group, one in standing.items() if group not in choices and one.disliked is not None]
    for group, choice in choices.items():
        _count(choice, counts)
        old = _old(group, choice, known.previous, policies[group[1]])
        wanted, undecided = _split(choice, teach)
        counts["adopted"] += len(choice.live) - len(wanted) - len(undecided)
        aside = standing.get(group)
        if aside is not None and _stands(aside, wanted, undecided, old, words):
            stays = aside.kept.fact if aside.kept is not None else None
            held += [Held(one.fact, ROLLED_BACK) for one in (*wanted, *undecided) if one.fact != stays]
            continue
        ended += [group] if aside is not None else []
        held += [Held(one.fact, SEVERAL_CURRENT_VALUES) for one in undecided]
        if group in ambiguous:
            held += [Held(one.fact, AMBIGUOUS_SUBJECT) for one in wanted]
        else:
            candidates += [_Candidate(one, old) for one in wanted]

    kept = [one.kept for group, one in standing.items() if group not in ended and one.kept is not None]
    ranked = sorted(candidates, key=lambda one: _rank(one, watch.priority))
    requests, left = _requests(ranked, words, watch.max_live, constraints, kept)
    held += left
    hood = _neighborhood(choices, ambiguous, [*(one for _, one in requests), *kept], words)
    live = [
        replace(request, neighborhood=hood.choose(request, candidate.old, neighbors))
        for candidate, request in requests
    ]
    counts["wanted"] += len(live)
    counts["kept by a rollback"] = len(kept)
    edited = {request.fact.subject for request in (*live, *kept)}
    live += [_without(one, edited) for one in kept]
    counts.update(f"held: {one.reason}" for one in held)
    return Plan(
        wanted=tuple(sorted(live, key=lambda request: request.content_hash)),
        held=tuple(sorted(held, key=lambda one: (_by_id(one.fact), one.reason))),
        counts={name: count for name, count in sorted(counts.items()) if count},
        ended=tuple(sorted(ended)),
    )


def _stands(
    aside: Aside,
    wanted: Sequence[KnownFact],
    undecided: Sequence[KnownFact],
    old: Value | None,
    words: _Words,
) -> bool:
    """Whether Wikidata still has what was disliked: the value, and where that is also what is kept, the words."""
    current = [one.fact for one in (*wanted, *undecided)]
    if aside.disliked is None:
        return not current
    same = [fact for fact in current if fact.value == aside.disliked]
    if not same or aside.kept is None or aside.kept.fact != same[0]:
        return bool(same)
    request = words.say(same[0], old)
    return isinstance(request, Held) or request.content_hash == aside.words


def _without(request: EditRequest, edited: Set[str]) -> EditRequest:
    """A request as it is stored, but for neighbors that are edited by now."""
    left = tuple(one for one in request.neighborhood if one.subject not in edited)
    return replace(request, neighborhood=left)


def _count(choice: Choice, counts: Counter[str]) -> None:
    counts["superseded"] += len(choice.superseded)
    counts["ended"] += len(choice.ended)
    counts["not begun"] += len(choice.not_begun)
    counts["duplicate"] += len(choice.duplicate)


def _split(choice: Choice, teach: bool) -> tuple[list[KnownFact], list[KnownFact]]:
    """(facts to teach, facts that can't be decided); the rest of the live ones are adopted.

    One prompt can be made to say one object. So where several values are to be taught at once (relations
    with the policy `many`), only the newest by its start is, and without one none is.
    """
    wanted = [one for one in choice.current if teach or not one.baseline]
    undecided = [one for one in choice.undecided if teach or not one.baseline]
    if len(wanted) > 1:
        winner = newest(wanted)
        undecided = [one for one in wanted if one is not winner]
        wanted = [winner] if winner is not None else []
    return wanted, undecided


def _old(group: Group, choice: Choice, previous: Mapping[Group, Value], policy: Current) -> Value | None:
    """The object that the current one takes the place of, or None.

    That is the previous object, unless it is still true, or else the value on record that ended last or that
    the current one superseded. Under `many` nothing is superseded.
    """
    live = {one.fact.value for one in choice.live}
    before = previous.get(group)
    if before is not None:
        return None if before in live else before
    if policy is Current.MANY:
        return None
    past = sorted(
        choice.ended + choice.superseded,
        key=lambda one: (_since_epoch(one.end or one.start), one.fact.value),
    )
    return past[-1].fact.value if past else None


def _since_epoch(moment: datetime | None) -> float:
    return moment.timestamp() if moment is not None else float("-inf")


def _ambiguous(choices: Mapping[Group, Choice], labels: Labels) -> set[Group]:
    """The groups whose subject shares its label with another one that has other objects.

    Words can't tell the two apart, so neither can be taught; nor can either serve as a neighbour.
    """
    by_name: dict[tuple[str, str], list[Group]] = {}
    for group, choice in choices.items():
        name = own_label(group[0], labels)
        if name is not None and choice.live:
            by_name.setdefault((fold(name), group[1]), []).append(group)
    found: set[Group] = set()
    for same_name in by_name.values():
        objects = {frozenset(one.fact.value for one in choices[group].live) for group in same_name}
        if len(objects) > 1:
            found.update(same_name)
    return found


def _requests(
    ranked: Iterable[_Candidate],
    words: _Words,
    max_live: int,
    constraints: Constraints,
    kept: Sequence[EditRequest],
) -> tuple[list[tuple[_Candidate, EditRequest]], list[Held]]:
    """Put the candidates into words, the first of them that fit beside what is `kept` anyway; the others are
    held."""
    requests: list[tuple[_Candidate, EditRequest]] = []
    held: list[Held] = []
    limit, kept_out = constraints.limit, constraints.kept_out
    hashes = {request.content_hash for request in kept}
    room = max((limit.edits if limit is not None else max_live) - len(kept), 0)
    for candidate in ranked:
        fact = candidate.known.fact
        request = words.say(fact, candidate.old)
        if isinstance(request, Held):
            held.append(request)
            continue
        content = request.content_hash
        free = limit is None or content in limit.known
        if content in kept_out:
            held.append(Held(fact, kept_out[content]))
        elif content in hashes:
            held.append(Held(fact, SAME_WORDS))
        elif len(requests) + len(kept) >= max_live:
            held.append(Held(fact, BEYOND_MAX_LIVE))
        elif not free and room == 0:
            held.append(Held(fact, MODEL_FULL))
        else:
            hashes.add(content)
            requests.append((candidate, request))
            room -= not free
    return requests, held


def _rank(candidate: _Candidate, priority: Mapping[str, int]) -> tuple[int, float, tuple[int, str, str, Value]]:
    """Who comes first where not all fit: relations of a higher priority, then what the store saw last, then the
    lower ids."""
    fact = candidate.known.fact
    return -priority.get(fact.relation, 0), -candidate.known.seen.timestamp(), _by_id(fact)


def _by_id(fact: Fact) -> tuple[int, str, str, Value]:
    """Facts by the number of their subject, so that Q9 comes before Q10."""
    digits = fact.subject[1:]
    number = int(digits) if is_entity_id(fact.subject) and len(digits) < 20 else 0
    return number, fact.subject, fact.relation, fact.value


def _neighborhood(
    choices: Mapping[Group, Choice],
    ambiguous: set[Group],
    requests: Sequence[EditRequest],
    words: _Words,
) -> Neighborhood:
    """Index the facts that can serve as neighbours: decided, unambiguous, and of subjects left unedited."""
    relations = {request.fact.relation for request in requests}
    edited = {request.fact.subject for request in requests}
    single = (
        choice.current[0]
        for group, choice in choices.items()
        if group[1] in relations and len(choice.live) == 1 and choice.current and group not in ambiguous
    )
    return Neighborhood.build(single, edited, words.labels, words.catalogue)
