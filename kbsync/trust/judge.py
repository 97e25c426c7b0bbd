"""The filter: which facts of one subject and relation are believed, and the verdict on each change.

It looks at what is, never at what it said before: the same history, evidence and time give the same answer. Of
each fact the last state is believed that stood long enough and that nothing speaks against. So a suspicious
change leaves what was there before it, be it that a fact comes, goes, or gets other dates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kbsync.facts import ABSENT, Fact, References, Signal, State, ValueKind
from kbsync.trust import verdicts as words
from kbsync.trust.policy import Policy, Rules
from kbsync.trust.standing import Stretch, War, before, crowded, stretches, war
from kbsync.trust.verdicts import Believed, Evidence, Finding, Moment, Verdict

_FIRST = Stretch(ABSENT, None)


@dataclass(frozen=True, slots=True)
class Case:
    """All that the facts of one group are judged by. `teach`: those of the first pull are edits too."""

    policy: Policy
    rules: Rules
    evidence: Evidence
    now: datetime
    teach: bool = False
    war: War | None = None
    frozen: Finding | None = None  # a fact that would take the place of others is held
    frozen_since: datetime | None = None


def bursts(
    signals: Sequence[Signal], policies: Mapping[str, Policy], rules: Rules
) -> tuple[dict[str, list[Moment]], dict[str, list[Moment]]]:
    """The stretches of time with more changes than are usual: by relation (counted in subjects), by subject."""
    by_relation: dict[str, dict[str, datetime]] = {}
    by_subject: dict[str, list[datetime]] = {}
    relation_times: dict[str, list[datetime]] = {}
    for signal in signals:
        for time in sorted({past.until for past in signal.past}):
            last = by_relation.setdefault(signal.fact.relation, {})
            by_subject.setdefault(signal.fact.subject, []).append(time)
            if last.get(signal.fact.subject) != time:  # both halves of a replacement are one change
                relation_times.setdefault(signal.fact.relation, []).append(time)
                last[signal.fact.subject] = time
    relations = {
        relation: found
        for relation, times in relation_times.items()
        if (found := crowded(times, policies[relation].max_changes, rules.burst_window))
    }
    subjects = {
        subject: found
        for subject, times in by_subject.items()
        if (found := crowded(times, rules.max_per_subject, rules.burst_window))
    }
    return relations, subjects


def judge(group: Sequence[Signal], case: Case) -> tuple[list[Believed], list[Verdict]]:
    """The facts of `group` (all of one subject and relation) that are believed, and what is said of each change."""
    approved = case.evidence.decisions.approved
    if not any((one.fact, one.since) in approved for one in group):
        fight = war(group, case.rules.war_flips, case.rules.war_window, case.now)
        case = replace(case, war=fight)
    chosen = {one.fact: _choose(one, case) for one in group}
    cases = {one.fact: _case_of(one, group, case, chosen) for one in group}
    for one in group:
        if cases[one.fact].frozen is not None:
            chosen[one.fact] = _choose(one, cases[one.fact])
    believed = [
        Believed(one.fact, chosen[one.fact].state, _adopted(one, chosen[one.fact], case), one.seen)
        for one in group
        if chosen[one.fact].state.present
    ]
    told = [_verdict(one, chosen[one.fact], cases[one.fact]) for one in group]
    return believed, [one for one in told if one is not None]


def _choose(signal: Signal, case: Case) -> Stretch:
    """The last state that stood and that nothing speaks against."""
    seen = before(signal, case.war.since) if case.war is not None else signal
    options = stretches(seen, case.policy.settling, case.now)
    if _waved_through(signal, case) is not None:
        options.append(Stretch(signal.now, signal.since))
    for stretch in reversed(options):
        if not _against(signal, stretch, case):
            return stretch
    return _FIRST


def _case_of(signal: Signal, group: Sequence[Signal], case: Case, chosen: Mapping[Fact, Stretch]) -> Case:
    """`case`, with what `signal`'s going has to wait for: while a new value is held, what it would take the place
    of stays as it was, if no other value explains that it went."""
    if case.policy.many or signal.since is None or not _is_gone(signal.now, case.now):
        return case
    slack = case.policy.settling
    others = [one for one in group if one.fact != signal.fact]
    held = [
        (came, one)
        for one in others
        if (came := _came(one)) is not None
        and not _is_gone(one.now, case.now)
        and not chosen[one.fact].state.present
    ]
    explained = any(
        (since := chosen[one.fact].since) is not None
        and since >= signal.since - slack
        and not _is_gone(chosen[one.fact].state, case.now)
        for one in others
    )
    if not held or explained:
        return case
    waits = [_longest(_findings(one, case)).until for _, one in held]
    until = None if None in waits else max(one for one in waits if one is not None)
    first = min(came for came, _ in held)
    return replace(case, frozen=Finding(words.REPLACEMENT_HELD, until), frozen_since=first - slack)


def _came(signal: Signal) -> datetime | None:
    """When the fact came that is there now; None when it always was."""
    for past in reversed(signal.past):
        if not past.state.present:
            return past.until
    return None


def _is_gone(state: State, now: datetime) -> bool:
    """Whether a fact in this state is not, or no longer, true."""
    return not state.present or (state.end is not None and state.end < now)


def _adopted(signal: Signal, stretch: Stretch, case: Case) -> bool:
    """Whether the fact was there at the first pull, and ever since as far as it is believed."""
    if not signal.baseline:
        return False
    for one in stretches(signal, case.policy.settling, case.now):
        if not one.state.present:
            return False
        if one.state == stretch.state and one.since == stretch.since:
            return True
    return stretch.since == signal.since  # approved before it stood


def _waved_through(signal: Signal, case: Case) -> str | None:
    """The word for a change that needs no check: approved by hand, or on the allow list."""
    decisions = case.evidence.decisions
    if _refused(signal, signal.now, signal.since, case) is not None:
        return None
    if (signal.fact, signal.since) in decisions.approved:
        return words.APPROVED
    return words.ALLOWED if _ids(signal.fact) & case.rules.allow else None


def _refused(signal: Signal, state: State, since: datetime | None, case: Case) -> Finding | None:
    """What nothing but another decision or configuration can lift."""
    decisions = case.evidence.decisions
    if state.present and signal.fact in decisions.facts:
        return Finding(words.REJECTED, None)
    if (signal.fact, since) in decisions.rejected:
        return Finding(words.REJECTED, None)
    if state.present and _ids(signal.fact) & case.rules.deny:
        return Finding(words.DENIED, None)
    return None


def _ids(fact: Fact) -> set[str]:
    value = {fact.value.text} if fact.value.kind is ValueKind.ITEM else set()
    return {fact.subject, fact.relation} | value


def _against(signal: Signal, stretch: Stretch, case: Case) -> list[Finding]:
    """All that speaks against believing `stretch`, apart from time."""
    adopted = _adopted(signal, stretch, case) and not case.teach
    if stretch.since is None and (adopted or not stretch.state.present):
        return []
    present = stretch.state.present
    if not adopted and (refused := _refused(signal, stretch.state, stretch.since, case)) is not None:
        return [refused]
    if stretch.since == signal.since and _waved_through(signal, case) is not None:
        return []
    found = _of_the_moment(signal, stretch, case)
    if present and not adopted and not _is_gone(stretch.state, case.now):
        found += _of_the_fact(signal, stretch, case)
    return found


def _of_the_moment(signal: Signal, stretch: Stretch, case: Case) -> list[Finding]:
    """What the time of a change, and what came with it, say against it."""
    found: list[Finding] = []
    since, evidence = stretch.since, case.evidence
    if since is None:
        return found
    quiet = since + case.rules.burst_settling
    if (stretch.until or case.now) < quiet:
        if _within(since, evidence.relation_bursts.get(signal.fact.relation, ())):
            found.append(Finding(words.RELATION_BURST, quiet))
        if _within(since, evidence.subject_bursts.get(signal.fact.subject, ())):
            found.append(Finding(words.SUBJECT_BURST, quiet))
    freezes = case.frozen_since is not None and since >= case.frozen_since
    if case.frozen is not None and freezes and _is_gone(stretch.state, case.now):
        found.append(case.frozen)
    if signal.fact in evidence.waiting and since == signal.since:
        found.append(Finding(words.RUN_LIMIT, case.now))
    return found


def _within(time: datetime, moments: Sequence[Moment]) -> bool:
    return any(start <= time <= last for start, last in moments)


def _of_the_fact(signal: Signal, stretch: Stretch, case: Case) -> list[Finding]:
    """What the statement and the items that it names say against a fact."""
    found = _references(stretch, case)
    if case.rules.rank == "preferred" and not stretch.state.preferred:
        found.append(Finding(words.NOT_PREFERRED, None))
    fact, kinds = signal.fact, case.evidence.kinds
    if _is_other(kinds.get(fact.subject), case.policy.subject_classes, case):
        found.append(Finding(words.SUBJECT_CLASS, None))
    if fact.value.kind is ValueKind.ITEM and _is_other(
        kinds.get(fact.value.text), case.policy.object_classes, case
    ):
        found.append(Finding(words.OBJECT_CLASS, None))
    for one in (fact.subject, fact.value.text):
        named = case.evidence.labels.get(one)
        if named is not None and named.label is None and named.reason is not None:
            found.append(Finding(named.reason, named.until))
    return found + _score(signal, stretch, case)


def _references(stretch: Stretch, case: Case) -> list[Finding]:
    wanted, has = case.policy.references, stretch.state.references
    if wanted == "optional" or has is None or has is References.SOURCED:
        return []
    if wanted == "required" and has is References.IMPORTED:
        return []
    after = case.rules.unreferenced_after
    until = None if after is None or stretch.since is None else stretch.since + after
    if until is not None and (stretch.until or case.now) >= until:
        return []
    return [Finding(words.NO_REFERENCE if has is References.NONE else words.ONLY_IMPORTED, until)]


def _is_other(kinds: frozenset[str] | None, wanted: frozenset[str], case: Case) -> bool:
    """Whether an item is known to be none of the classes that are wanted."""
    if not wanted:
        return False
    return not case.rules.untyped_pass if kinds is None else not kinds & wanted


def _score(signal: Signal, stretch: Stretch, case: Case) -> list[Finding]:
    threshold = case.rules.score_threshold
    if threshold is None or stretch.since is None:
        return []
    revision = next((past.revision for past in reversed(signal.past) if past.until == stretch.since), None)
    score = None if revision is None else case.evidence.scores.get(revision)
    if score is None:
        return [] if case.rules.unscored_pass else [Finding(words.NO_SCORE, None)]
    return [Finding(words.REVERT_RISK, None)] if score >= threshold else []


def _findings(signal: Signal, case: Case) -> list[Finding]:
    """Why the present state of `signal` is not believed."""
    found = []
    if signal.since is not None and case.policy.settling:
        settled = signal.since + case.policy.settling
        if case.now < settled:
            found.append(Finding(words.SETTLING, settled))
    found += _against(signal, Stretch(signal.now, signal.since), case)
    if signal.since is not None and case.war is not None and signal.since >= case.war.since:
        found.append(Finding(words.EDIT_WAR, case.war.until))
    return found


def _longest(found: Sequence[Finding]) -> Finding:
    """What a change has to wait for longest; of equals the first."""
    forever = next((one for one in found if one.until is None), None)
    return forever or max(found, key=lambda one: (one.until is not None, one.until))


def _verdict(signal: Signal, stretch: Stretch, case: Case) -> Verdict | None:
    """What is said of the last change of a fact; None where there was none, or where it came to nothing."""
    there, is_believed = signal.now.present, stretch.state.present
    if stretch.state == signal.now:
        if signal.since is None or not (there or _was_believed(signal, case)):
            return None
        way = words.ENTER if there else words.LEAVE
        return Verdict(signal.fact, way, True, _waved_through(signal, case) or words.PASSED, since=signal.since)
    way = words.CHANGE if there and is_believed else words.ENTER if there else words.LEAVE
    found = _findings(signal, case)
    first = _longest(found)
    detail = ", ".join(dict.fromkeys(one.reason for one in found)) if len(found) > 1 else None
    return Verdict(signal.fact, way, False, first.reason, detail, signal.since, first.until)


def _was_believed(signal: Signal, case: Case) -> bool:
    return any(one.state.present for one in stretches(signal, case.policy.settling, case.now))
