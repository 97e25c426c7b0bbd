"""When an endpoint is left alone altogether: pure functions from one state of it to the next.

The breaker is closed until the endpoint has refused so often in a row, has said to come back later than a run
would wait, or has banned the client. Then it is open until a time: nothing is asked before. After that time one
request is tried: a good answer closes the breaker, another refusal opens it for twice as long.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from kbsync.facts import EndpointState
from kbsync.settings import SourceSettings

LONGEST = timedelta(days=1)  # as long as the public service bans


def is_open(state: EndpointState, at: datetime) -> bool:
    """Whether the endpoint must not be asked at this time."""
    return state.open_until is not None and at < state.open_until


def refused(
    state: EndpointState, settings: SourceSettings, at: datetime, reason: str, wait_s: float | None, banned: bool
) -> EndpointState:
    """The state after a refusal. `wait_s` is what the endpoint said, None where it said nothing."""
    row = replace(state, refusals=state.refusals + 1, refused=state.refused + 1)
    too_long = wait_s is not None and wait_s > settings.max_wait_s
    tried = state.open_until is not None  # one request after the time: the breaker was half open
    if not (banned or too_long or tried or row.refusals >= settings.breaker_after):
        return row
    pause = min(LONGEST, timedelta(seconds=settings.breaker_s) * 2 ** min(row.trips, 20))
    if banned and wait_s is None:
        pause = LONGEST
    if wait_s is not None:
        pause = max(pause, timedelta(seconds=min(wait_s, 366 * 86400.0)))
    return replace(row, trips=row.trips + 1, open_until=at + pause, reason=reason)


def answered(state: EndpointState) -> EndpointState:
    """The state after a good answer: closed, and nothing held against the endpoint."""
    if state.refusals == 0 and state.trips == 0 and state.open_until is None:
        return state
    return replace(state, refusals=0, trips=0, open_until=None, reason=None)
