"""Short ways to write a fact's line through time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kbsync.facts import ABSENT, Fact, Past, References, Signal, State, Value, ValueKind
from kbsync.settings import TrustSettings
from kbsync.trust.judge import Case, judge
from kbsync.trust.policy import policy_of, rules_of
from kbsync.trust.verdicts import Believed, Decisions, Evidence, Verdict

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
SEEN = datetime(2024, 1, 1, tzinfo=UTC)


def hour(number: float) -> datetime:
    """So many hours after noon."""
    return NOON + timedelta(hours=number)


def fact(value: str, subject: str = "Q30", relation: str = "P6") -> Fact:
    return Fact(subject, relation, Value(ValueKind.ITEM, value))


def here(**more: object) -> State:
    """A truthy state with a reference, unless told otherwise."""
    return State(True, **{"references": References.SOURCED, **more})  # type: ignore[arg-type]


def line(value: str, *steps: State | float, baseline: bool = False, revision: int | None = None) -> Signal:
    """A fact that was in the first state until the first hour, then in the next, and is in the last one now.

    `revision` is the one at which each change was found."""
    states = [one for one in steps if isinstance(one, State)]
    times = [hour(one) for one in steps if not isinstance(one, State)]
    past = tuple(Past(state, until, revision) for state, until in zip(states, times, strict=False))
    return Signal(fact(value), states[-1], past, baseline, SEEN)


def came(value: str, at: float, **more: object) -> Signal:
    """A fact that came at an hour."""
    return line(value, ABSENT, at, here(**more))


def went(value: str, at: float, baseline: bool = True) -> Signal:
    """A fact that was always there, and went."""
    return line(value, here(), at, ABSENT, baseline=baseline)


def told(
    *group: Signal,
    at: float,
    teach: bool = False,
    evidence: Evidence | None = None,
    many: bool = False,
    classes: tuple[str, ...] = (),
    **settings: object,
) -> tuple[list[Believed], list[Verdict]]:
    """What the filter makes of a group at an hour."""
    trust = TrustSettings.model_validate(settings)
    policy = policy_of(trust, many=many, object_classes=classes, subject_classes=classes)
    return judge(group, Case(policy, rules_of(trust), evidence or Evidence(), hour(at), teach))


def believed(*group: Signal, at: float, **more: object) -> list[str]:
    """The values that are believed at an hour."""
    return [one.fact.value.text for one in told(*group, at=at, **more)[0]]  # type: ignore[arg-type]


def why(*group: Signal, at: float, **more: object) -> dict[str, tuple[str, str, datetime | None]]:
    """(way, reason, until) of what is held, by value."""
    verdicts = told(*group, at=at, **more)[1]  # type: ignore[arg-type]
    return {one.fact.value.text: (one.way, one.reason, one.until) for one in verdicts if not one.passed}


def decided(*, approved: Signal | None = None, rejected: Signal | None = None) -> Evidence:
    """Evidence of one decision by hand."""
    changes = [frozenset({(one.fact, one.since)}) if one else frozenset() for one in (approved, rejected)]
    facts = frozenset({rejected.fact}) if rejected is not None and rejected.now.present else frozenset()
    return Evidence(Decisions(changes[0], changes[1], facts))
