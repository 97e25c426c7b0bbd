"""The trust filter over the store: history and evidence in, believed facts and labels and verdicts out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from kbsync.facts import Fact, Held, KnownFact, Signal, ValueKind
from kbsync.request.catalogue import Catalogue, Current, Relation
from kbsync.request.verbalise import own_label
from kbsync.settings import Settings, duration
from kbsync.store import known, states, trust
from kbsync.store.tables import Way
from kbsync.store.trust import StoredVerdict, label_fact
from kbsync.trust import verdicts as words
from kbsync.trust.judge import Case, bursts, judge
from kbsync.trust.labels import Named, believed_label
from kbsync.trust.policy import Policy, policy_of, rules_of
from kbsync.trust.standing import stretches
from kbsync.trust.verdicts import Believed, Decisions, Evidence, Verdict

Pair = tuple[str, str]  # subject, relation


@dataclass(frozen=True, slots=True)
class Trusted:
    """What the planner may go by.

    `known` are the believed facts: what the source has, without what is held, and with what it has lost lately.
    `held` are facts of the source that are held; `kept` are facts that the source has lost and the reason why they
    are believed all the same. `standing` and `never` are what `known.previous_values` must know.
    """

    known: list[KnownFact]
    labels: dict[str, str | None]
    held: list[Held]
    kept: dict[Fact, str]
    verdicts: list[Verdict]
    standing: set[Fact]
    never: set[Fact]

    @property
    def changes(self) -> dict[Fact, datetime]:
        """When the facts that came lately came, of those that passed."""
        return {one.fact: one.since for one in self.verdicts if one.passed and one.since is not None}


def policies_of(settings: Settings, catalogue: Catalogue, labels: Mapping[str, str | None]) -> dict[str, Policy]:
    """The policy of each watched relation."""
    return {one: _policy(settings, catalogue, one, labels) for one in settings.watch.relations}


def _policy(settings: Settings, catalogue: Catalogue, relation: str, labels: Mapping[str, str | None]) -> Policy:
    try:
        entry = catalogue.relation(relation, own_label(relation, labels))
    except LookupError:
        return policy_of(settings.trust)
    return policy_of(
        settings.trust,
        settling=entry.settling,
        references=entry.references,
        max_changes=entry.max_changes,
        many=entry.current is Current.MANY,
        subject_classes=classes_of(entry, "subject"),
        object_classes=classes_of(entry, "object"),
    )


def classes_of(entry: Relation, side: str) -> tuple[str, ...]:
    """The classes that the catalogue has for one side, if there is one for each type that it names."""
    if side == "subject":
        names, classes = entry.subjects, entry.subject_classes
    else:
        names, classes = entry.objects, entry.object_classes
    return classes if classes and len(classes) >= len(names) else ()


def judged_pairs(tx: Session, settings: Settings) -> set[Pair]:
    """Whose facts the filter must look at: those that ever changed, and those that are taught without a change."""
    relations, teach = settings.watch.relations, settings.watch.baseline == "teach"
    return states.pairs_with_a_past(tx, relations) | known.pairs_to_judge(tx, relations, teach)


def trusted(
    tx: Session,
    settings: Settings,
    catalogue: Catalogue,
    facts: Sequence[KnownFact],
    labels: Mapping[str, str | None],
    at: datetime,
    waiting: Iterable[Fact] = (),
) -> Trusted:
    """Judge every change that the store knows of, at the source's time `at`.

    `facts` are all live facts of the watched relations and `labels` what they are called; `waiting` are facts that
    are beyond what this run may change.
    """
    pairs = judged_pairs(tx, settings)
    signals = states.signals(tx, pairs)
    rules, policies = rules_of(settings.trust), policies_of(settings, catalogue, labels)
    decided = _decisions(tx)
    named, label_verdicts = _labels(tx, settings, {**labels, **_more_labels(tx, signals, labels)}, decided, at)
    relation_bursts, subject_bursts = bursts(signals, policies, rules)
    evidence = Evidence(
        decisions=decided,
        kinds=_kinds(tx, signals),
        labels={one: name for one, name in named.items() if name.label is None and name.reason},
        scores=trust.scores(
            tx, (past.revision for one in signals for past in one.past if past.revision is not None)
        ),
        relation_bursts=relation_bursts,
        subject_bursts=subject_bursts,
        waiting=frozenset(waiting),
    )
    groups: dict[Pair, list[Signal]] = {}
    for one in signals:
        groups.setdefault((one.fact.subject, one.fact.relation), []).append(one)
    believed: list[Believed] = []
    told: list[Verdict] = []
    teach = settings.watch.baseline == "teach"
    for (_, relation), group in groups.items():
        more, verdicts = judge(group, Case(policies[relation], rules, evidence, at, teach))
        believed += more
        told += verdicts
    return _result(facts, pairs, signals, believed, [*told, *label_verdicts], named, policies, at)


def _result(
    facts: Sequence[KnownFact],
    pairs: set[Pair],
    signals: Sequence[Signal],
    believed: Sequence[Believed],
    told: list[Verdict],
    named: Mapping[str, Named],
    policies: Mapping[str, Policy],
    at: datetime,
) -> Trusted:
    """Put the judged facts beside those that need no judgement."""
    rest = [one for one in facts if (one.fact.subject, one.fact.relation) not in pairs]
    there = {one.fact for one in signals if one.now.present}
    standing = {one.fact for one in believed}
    live = {one.fact: one for one in facts}
    return Trusted(
        known=sorted(rest + [_known(one, live) for one in believed], key=lambda one: one.fact.order()),
        labels={one: name.label for one, name in named.items()},
        held=[Held(one.fact, one.reason) for one in told if one.way == words.ENTER and not one.passed],
        kept={one.fact: one.reason for one in told if one.way == words.LEAVE and not one.passed},
        verdicts=told,
        standing=standing - there,
        never={
            one.fact
            for one in signals
            if not one.now.present
            and not any(s.state.present for s in stretches(one, policies[one.fact.relation].settling, at))
        },
    )


def _known(one: Believed, live: Mapping[Fact, KnownFact]) -> KnownFact:
    """A believed fact as the planner reads it."""
    state, now = one.state, live.get(one.fact)
    seen = one.seen or (now.seen if now is not None else None)
    assert seen is not None, f"{one.fact} was never seen"
    return KnownFact(one.fact, one.adopted, state.preferred, state.start, state.end, seen)


def _decisions(tx: Session) -> Decisions:
    """What people decided, the last word for each."""
    approved: set[tuple[Fact, datetime | None]] = set()
    rejected: set[tuple[Fact, datetime | None]] = set()
    facts: set[Fact] = set()
    for one in trust.decisions(tx):
        change = (one.fact, one.since)
        if one.approved:
            approved.add(change)
            rejected.discard(change)
            facts.discard(one.fact)
        else:
            approved.discard(change)
            rejected.add(change)
            if one.way is Way.ENTER:
                facts.add(one.fact)
    return Decisions(frozenset(approved), frozenset(rejected), frozenset(facts))


def _more_labels(tx: Session, signals: Sequence[Signal], labels: Mapping[str, str | None]) -> dict[str, str | None]:
    """Labels of what the source has lost, and the filter may still believe."""
    ids = {one.fact.value.text for one in signals if one.fact.value.kind is ValueKind.ITEM}
    ids |= {one.fact.subject for one in signals}
    missing = ids - labels.keys()
    found = known.labels(tx, sorted(missing))
    return {one: found.get(one) for one in missing}


def _labels(
    tx: Session, settings: Settings, labels: Mapping[str, str | None], decided: Decisions, at: datetime
) -> tuple[dict[str, Named], list[Verdict]]:
    """The believed label of each of `labels`, and a verdict for each one that is held."""
    past = states.past_labels(tx, labels)
    settling = duration(settings.trust.label_settling)
    length = settings.trust.label_length if settings.trust.label_checks else None
    named: dict[str, Named] = {}
    told: list[Verdict] = []
    for one, label in labels.items():
        before = past.get(one, [])
        fact = label_fact(one, label or "")
        since = before[-1][1] if before else None
        approved = (fact, since) in decided.approved
        if not one.startswith("Q"):
            named[one] = Named(label)
            continue
        name = believed_label(before, label, settling, at, length, approved)
        if fact in decided.facts or (fact, since) in decided.rejected:
            name = believed_label(before, None, settling, at, length)
        named[one] = name
        if name.reason is not None:
            told.append(Verdict(fact, words.LABEL, False, name.reason, None, name.since, name.until))
    return named, told


def _kinds(tx: Session, signals: Sequence[Signal]) -> dict[str, frozenset[str] | None]:
    """Of each item that was read: the catalogue's classes that it belongs to, or None where it has no class."""
    ids = {one.fact.subject for one in signals}
    ids |= {one.fact.value.text for one in signals if one.fact.value.kind is ValueKind.ITEM}
    below = trust.roots(tx)
    roots: dict[str, set[str]] = {}
    for (one, root), is_below in below.items():
        if is_below:
            roots.setdefault(one, set()).add(root)
    return {
        item: frozenset().union(*(roots.get(one, set()) | {one} for one in classes)) if classes else None
        for item, classes in trust.classes_of(tx, ids).items()
    }


def stored(verdicts: Iterable[Verdict]) -> list[StoredVerdict]:
    """The verdicts as the store keeps them."""
    return [
        StoredVerdict(one.fact, Way(one.way), one.passed, one.reason, one.detail, one.since, one.until)
        for one in verdicts
    ]


def counts(found: Trusted) -> dict[str, int]:
    """Verdicts by name: what passed, and what is kept although the source has lost or changed it."""
    counted: Counter[str] = Counter()
    for one in found.verdicts:
        if one.passed:
            counted["passed"] += 1
        elif one.way == words.LEAVE:
            counted[f"kept: {one.reason}"] += 1
        elif one.way == words.CHANGE:
            counted[f"unchanged: {one.reason}"] += 1
        elif one.way == words.LABEL:
            counted[f"name kept: {one.reason}"] += 1
    return dict(sorted(counted.items()))
