"""What stands between a client and its endpoint: the request budget, the circuit breaker, the page size.

A guard lives for one pull. What it knows is an `EndpointState`, which `keep` writes down whenever it matters, so
the next pull, also of another process, goes on with the same budget and does not forget a ban.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from kbsync.errors import CircuitOpen
from kbsync.facts import EndpointState
from kbsync.settings import SourceSettings
from kbsync.source import breaker
from kbsync.source.budget import Bucket
from kbsync.source.transport import place_of

KEEP_S = 5.0  # seconds of budget that a killed program may forget
PAGE_FLOOR = 25  # rows; a server that can't answer these in time can't answer at all
GROW_AFTER = 8  # good pages in a row until a page grows again


class Guard:
    """Asked before each request and told how it ended. Not for several threads at once.

    `sleep` is called for the seconds that the budget makes a request wait; `clock` gives POSIX seconds.
    """

    def __init__(
        self,
        settings: SourceSettings,
        state: EndpointState | None = None,
        keep: Callable[[EndpointState], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.state = state or EndpointState(place_of(settings.endpoint))  # or the state of another place
        self.waited_s = 0.0
        self.refused_now = 0  # by this guard, not all that the state counts
        self._keep, self._sleep, self._clock = keep, sleep, clock
        at = self.state.budget_at.timestamp() if self.state.budget_at else clock()
        self._seconds = _bucket(settings.seconds_per_minute, settings.seconds_burst, self.state.seconds_left, at)
        self._errors = _bucket(settings.errors_per_minute, settings.errors_burst, self.state.errors_left, at)
        self._kept_at = clock()
        self._good_pages = 0

    def admit(self) -> None:
        """Wait until a request may be made. Raises CircuitOpen when that is not soon."""
        at = self._clock()
        if self.is_open:
            assert self.state.open_until is not None
            raise CircuitOpen(
                f"{self.state.host} asked to be left alone ({self.state.reason}); nothing was asked, "
                f"and the next try is at {self.state.open_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
                self.state.open_until.timestamp() - at,
            )
        wait = max((bucket.wait_s(1.0, at) for bucket in (self._seconds, self._errors) if bucket), default=0.0)
        if wait > 0:
            self._save()
            self._sleep(wait)
            self.waited_s += wait

    def answered(self, seconds: float) -> None:
        """A request brought a good answer after so many seconds."""
        self._spend(seconds, errors=0)
        closed = breaker.answered(self.state)
        changed = closed != self.state
        self.state = closed
        self._save(only_if_old=not changed)

    def failed(self, seconds: float) -> None:
        """A request brought an error or no answer."""
        self._spend(seconds, errors=1)
        self._save(only_if_old=True)

    def refused(self, seconds: float, reason: str, wait_s: float | None, banned: bool = False) -> None:
        """The endpoint refused a request; it may have said for how long."""
        self._spend(seconds, errors=1)
        self.refused_now += 1
        at = datetime.fromtimestamp(self._clock(), UTC)
        self.state = breaker.refused(self.state, self.settings, at, reason, wait_s, banned)
        self._save()

    @property
    def is_open(self) -> bool:
        """Whether the endpoint must be left alone now."""
        return breaker.is_open(self.state, datetime.fromtimestamp(self._clock(), UTC))

    @property
    def page_size(self) -> int:
        """Rows of the next page: `source.page_size`, or fewer after the endpoint ran out of time."""
        return min(self.state.page_size or self.settings.page_size, self.settings.page_size)

    def page_was_read(self) -> None:
        """A page came whole. After some of them the next may be a quarter larger again."""
        size, whole = self.page_size, self.settings.page_size
        self._good_pages += 1
        if size < whole and self._good_pages >= GROW_AFTER:
            self._good_pages = 0
            size = min(whole, size + max(1, size // 4))
            self.state = replace(self.state, page_size=size if size < whole else None)

    def can_shrink(self, rows: int) -> bool:
        """Whether fewer than `rows` may be asked for."""
        return rows > min(PAGE_FLOOR, self.settings.page_size)

    def page_was_too_large(self, rows: int) -> None:
        """A request for `rows` ran out of time or came cut: the next is for half as many."""
        self._good_pages = 0
        half = max(1, min(PAGE_FLOOR, self.settings.page_size), min(rows, self.page_size) // 2)
        self.state = replace(self.state, page_size=half)
        self._save()

    def close(self) -> None:
        """Write down what is known."""
        self._save()

    def _spend(self, seconds: float, errors: int) -> None:
        at = self._clock()
        self._seconds = self._seconds and self._seconds.take(seconds, at)
        self._errors = self._errors and self._errors.take(errors, at)
        self.state = replace(self.state, requests=self.state.requests + 1)

    def _save(self, only_if_old: bool = False) -> None:
        at = self._clock()
        if self._keep is None or (only_if_old and 0 <= at - self._kept_at < KEEP_S):
            return
        self._kept_at = at
        self.state = replace(
            self.state,
            seconds_left=self._seconds.now(at).level if self._seconds else None,
            errors_left=self._errors.now(at).level if self._errors else None,
            budget_at=datetime.fromtimestamp(at, UTC),
        )
        self._keep(self.state)


def _bucket(per_minute: float | None, burst: float, level: float | None, at: float) -> Bucket | None:
    """A bucket that goes on where it was left, full when it is new; None when it is off."""
    if per_minute is None:
        return None
    return Bucket(per_minute, burst, burst if level is None else min(level, burst), at)
