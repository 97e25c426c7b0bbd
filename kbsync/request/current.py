"""Which of a subject's truthy values of one relation is the current one.

Truthy does not mean current: a statement that has ended stays truthy until an editor gives another one
preferred rank, and many relations keep all their values at normal rank. Each relation's catalogue entry
names the policy that decides; where it can't decide, the values are left undecided, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kbsync.facts import KnownFact
from kbsync.request.catalogue import Current


@dataclass(frozen=True, slots=True)
class Choice:
    """What each of a group's facts is at one moment; every fact is in exactly one of these."""

    current: tuple[KnownFact, ...] = ()  # one value, or every live one under `many`
    undecided: tuple[KnownFact, ...] = ()  # several values that the policy can't tell apart
    superseded: tuple[KnownFact, ...] = ()  # not ended on record, but an other value is the current one
    ended: tuple[KnownFact, ...] = ()  # the end lies in the past
    not_begun: tuple[KnownFact, ...] = ()  # the start lies in the future
    duplicate: tuple[KnownFact, ...] = ()  # a further statement of a value that is already there

    @property
    def live(self) -> tuple[KnownFact, ...]:
        """Every fact that may be true now: current or undecided."""
        return self.current + self.undecided


def choose(facts: Sequence[KnownFact], policy: Current, now: datetime) -> Choice:
    """Sort one group (same subject and relation) by `policy` at `now`. The order of `facts` is irrelevant."""
    distinct, duplicate = _distinct(facts, now)
    ended = tuple(one for one in distinct if _has_ended(one, now))
    not_begun = tuple(one for one in distinct if not _has_ended(one, now) and not _has_begun(one, now))
    live = tuple(one for one in distinct if not _has_ended(one, now) and _has_begun(one, now))
    if len(live) <= 1 or policy is Current.MANY:
        return Choice(live, (), (), ended, not_begun, duplicate)
    winner: KnownFact | None = None
    if policy is Current.PREFERRED:
        winner = _preferred(live)
    elif policy is Current.LATEST:
        winner = _latest(live)
    if winner is None:
        return Choice((), live, (), ended, not_begun, duplicate)
    rest = tuple(one for one in live if one is not winner)
    return Choice((winner,), (), rest, ended, not_begun, duplicate)


def newest(facts: Sequence[KnownFact]) -> KnownFact | None:
    """The one fact with the latest start, when every fact has a start and no other began then."""
    if any(one.start is None for one in facts):
        return None
    return _one(_with_latest_start(facts))


def _preferred(live: Sequence[KnownFact]) -> KnownFact | None:
    """Rank decides; among equals the latest start, when all of them have one."""
    ranked = [one for one in live if one.preferred] or list(live)
    return _one(ranked) or newest(ranked)


def _latest(live: Sequence[KnownFact]) -> KnownFact | None:
    """The latest start decides; among equals, rank. A value without a start counts as the oldest."""
    last = _with_latest_start(live)
    return _one(last) or _one([one for one in last if one.preferred])


def _with_latest_start(facts: Sequence[KnownFact]) -> list[KnownFact]:
    starts = [one.start for one in facts if one.start is not None]
    return [one for one in facts if one.start == max(starts)] if starts else list(facts)


def _one(facts: Sequence[KnownFact]) -> KnownFact | None:
    return facts[0] if len(facts) == 1 else None


def _has_ended(one: KnownFact, now: datetime) -> bool:
    return one.end is not None and one.end < now


def _has_begun(one: KnownFact, now: datetime) -> bool:
    return one.start is None or one.start <= now


def _distinct(facts: Sequence[KnownFact], now: datetime) -> tuple[tuple[KnownFact, ...], tuple[KnownFact, ...]]:
    """(one record per value, the further ones), both in the order of the values.

    Of several statements with one value (two terms of office), the one that is live now speaks for it, then
    the latest start, then preferred rank, then the baseline, the latest end and the first seen.
    """

    def merit(one: KnownFact) -> tuple[bool, bool, float, bool, bool, float, float]:
        return (
            not _has_ended(one, now),
            _has_begun(one, now),
            one.start.timestamp() if one.start is not None else -math.inf,
            one.preferred,
            one.baseline,
            one.end.timestamp() if one.end is not None else math.inf,
            -one.seen.timestamp(),
        )

    ordered = sorted(facts, key=merit, reverse=True)
    first = {one.fact: one for one in reversed(ordered)}
    kept = tuple(sorted(first.values(), key=lambda one: one.fact))
    further = [one for one in ordered if first[one.fact] is not one]
    return kept, tuple(sorted(further, key=lambda one: one.fact))
