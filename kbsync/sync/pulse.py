"""Whether the work advances: each sign of it is a beat, and the service manager's watchdog is fed while they come.

Signs are a turn of the daemon's loop, an answer of the endpoint, whatever a stage reports, and a layer of the model
that was run. What only shows that the process exists, such as the beats of its leases, is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from kbsync.sync.notify import Notifier
from kbsync.sync.progress import Progress, Task
from kbsync.sync.repeating import repeated

log = structlog.get_logger("kbsync")


class Pulse:
    """When the work advanced last, and at what it is. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self.at_work = ""

    def beat(self) -> None:
        """The work has advanced."""
        self._at = self._clock()

    def age_s(self) -> float:
        """Seconds since it did."""
        return self._clock() - self._at


class Watchdog:
    """Feeds the service manager's watchdog from a thread, as long as the pulse is younger than `stall_s`."""

    def __init__(self, pulse: Pulse, notifier: Notifier, stall_s: float) -> None:
        self._pulse, self._notifier, self._stall_s = pulse, notifier, stall_s
        self._starving = False

    def look(self) -> bool:
        """Feed it if the work advances; whether it was fed."""
        age = self._pulse.age_s()
        if age > self._stall_s:
            if not self._starving:
                log.error(
                    "no progress; the watchdog is no longer fed",
                    seconds=round(age),
                    at=self._pulse.at_work or "idle",
                )
            self._starving = True
            return False
        self._starving = False
        self._notifier.alive()
        return True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look three times in the time that the manager waits, where it does."""
        if self._notifier.watchdog_s is None:
            yield
            return
        self.look()
        with repeated(self.look, self._notifier.watchdog_s / 3, "watchdog"):
            yield


class Ticking:
    """A progress whose every report is a beat, and which tells the service manager the stage."""

    def __init__(self, inner: Progress, pulse: Pulse, notifier: Notifier) -> None:
        self._inner, self._pulse, self._notifier = inner, pulse, notifier

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        """Enter a stage; both its ends are beats."""
        before, self._pulse.at_work = self._pulse.at_work, name
        self._pulse.beat()
        self._notifier.status(name)
        try:
            with self._inner.stage(name, total, unit) as task:
                yield _TickingTask(task, self._pulse)
        finally:
            self._pulse.at_work = before
            self._pulse.beat()

    def note(self, text: str) -> None:
        """One line of interest."""
        self._pulse.beat()
        self._inner.note(text)


class _TickingTask:
    def __init__(self, inner: Task, pulse: Pulse) -> None:
        self._inner, self._pulse = inner, pulse

    def advance(self, n: int = 1) -> None:
        self._pulse.beat()
        self._inner.advance(n)

    def total(self, n: int) -> None:
        self._pulse.beat()
        self._inner.total(n)

    def describe(self, text: str) -> None:
        self._pulse.beat()
        self._inner.describe(text)
