"""Which states of a fact, and which labels, stood long enough; and whether editors fight over a fact.

A fact is a signal over time. What lasted less than the settling time is taken out of it, as if it had never
been: a value that was reverted within that time, and the revert, leave nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kbsync.facts import Signal, State


@dataclass(frozen=True, slots=True)
class Stretch:
    """A state that stood long enough. `since` is None for the first, which was there before the store looked;
    `until` is None for the present one."""

    state: State
    since: datetime | None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class War:
    """Editors fight over a fact: since when, and until when it is left alone if they stop now."""

    since: datetime
    until: datetime


def stretches(signal: Signal, settling: timedelta, now: datetime) -> list[Stretch]:
    """The states of `signal` that stood for `settling` by `now`, the oldest first, equal neighbours joined.

    The first state always stood.
    """
    found: list[Stretch] = []
    since: datetime | None = None
    for state, end in [*((past.state, past.until) for past in signal.past), (signal.now, None)]:
        stood = since is None or not settling or (end or now) - since >= settling
        if stood and found and found[-1].state == state:
            found[-1] = Stretch(state, found[-1].since, end)
        elif stood:
            found.append(Stretch(state, since, end))
        since = end
    return found


def before(signal: Signal, moment: datetime) -> Signal:
    """`signal` as it was just before `moment`, as if nothing had come afterwards."""
    kept = [past for past in signal.past if past.until < moment]
    if len(kept) == len(signal.past):
        return signal
    return Signal(signal.fact, signal.past[len(kept)].state, tuple(kept), signal.baseline, signal.seen)


def war(group: Iterable[Signal], flips: int, window: timedelta, now: datetime) -> War | None:
    """The edit war over the facts of one subject and relation that is not over yet, if there is one.

    A flip is a fact that comes back after it was gone. `flips` of them within `window` are a war. It begins with
    the first change after a quiet `window`, and is over when a whole `window` has passed without a change.
    """
    if not flips:
        return None
    events, returns = set(), set()
    for signal in group:
        states = [*(past.state for past in signal.past), signal.now]
        been = False
        for past, following in zip(signal.past, states[1:], strict=True):
            events.add(past.until)
            been = been or past.state.present
            if following.present and not past.state.present and been:
                returns.add(past.until)
    ordered = sorted(events)
    if len(returns) < flips or now - ordered[-1] >= window:
        return None
    first = len(ordered) - 1
    while first > 0 and ordered[first] - ordered[first - 1] < window:
        first -= 1
    came = sorted(one for one in returns if one >= ordered[first])
    close = any(last - start <= window for start, last in zip(came, came[flips - 1 :], strict=False))
    return War(ordered[first], ordered[-1] + window) if close else None


def crowded(times: Sequence[datetime], limit: int, window: timedelta) -> list[tuple[datetime, datetime]]:
    """The stretches of time, from first to last change, in which more than `limit` of `times` lie in a `window`."""
    ordered = sorted(times)
    found: list[tuple[datetime, datetime]] = []
    for start, last in zip(ordered, ordered[limit:], strict=False) if limit else ():
        if last - start < window:
            if found and start <= found[-1][1]:
                found[-1] = found[-1][0], last
            else:
                found.append((start, last))
    return found


def label_stretches(
    past: Sequence[tuple[str | None, datetime]], now_label: str | None, settling: timedelta, now: datetime
) -> list[tuple[str, datetime | None]]:
    """The labels that stood long enough, the oldest first, each with when it came."""
    found: list[tuple[str, datetime | None]] = []
    since: datetime | None = None
    for label, until in [*past, (now_label, now)]:
        stood = since is None or not settling or until - since >= settling
        if label is not None and stood and not (found and found[-1][0] == label):
            found.append((label, since))
        since = until
    return found
