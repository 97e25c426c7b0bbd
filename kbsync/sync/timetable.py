"""When work that nobody asked for is due. A decision without a clock of its own, so that tests can set the time.

All times are in UTC, which has no summer time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any, Self

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from kbsync.crontab import crontab_fields
from kbsync.settings import ScheduleSettings, quiet_hours
from kbsync.store.pauses import Pause
from kbsync.store.tables import Wants


def schedule_of(settings: ScheduleSettings) -> Any:
    """The trigger of syncs: cron where one is given, else the interval."""
    if settings.cron is not None:
        return _cron(settings.cron)
    return IntervalTrigger(minutes=settings.interval_minutes or 60.0, timezone=UTC)


def reconcile_schedule(settings: ScheduleSettings) -> Any:
    """The trigger of full passes, or None where there are none."""
    return None if settings.reconcile == "off" else _cron(settings.reconcile)


def _cron(line: str) -> CronTrigger:
    minute, hour, day, month, weekday = crontab_fields(line)
    return CronTrigger(minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, timezone=UTC)


class Quiet:
    """Hours of each day in which nothing starts by itself: `start` belongs to them, `end` does not."""

    def __init__(self, start: time, end: time) -> None:
        self.start, self.end = start, end

    def covers(self, at: datetime) -> bool:
        """Whether a moment lies in them."""
        of_day = at.astimezone(UTC).time()
        if self.start < self.end:
            return self.start <= of_day < self.end
        return of_day >= self.start or of_day < self.end  # over midnight

    def over(self, at: datetime) -> datetime:
        """When the quiet hours of a moment end; the moment itself when it is in none."""
        if not self.covers(at):
            return at
        end = datetime.combine(at.astimezone(UTC).date(), self.end, UTC)
        return end if end > at else end + timedelta(days=1)


class Timetable:
    """The times of one kind of work: all that were missed are one.

    `schedule` is a trigger of APScheduler, or None: never. Each time is put off by up to `jitter_s` seconds, drawn
    anew for each, and by the quiet hours. It never lies further ahead than the schedule's own next time, so a clock
    that was set back does not keep the work waiting.
    """

    def __init__(
        self,
        schedule: Any,
        quiet: Quiet | None = None,
        jitter_s: float = 0.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._schedule, self._quiet, self._jitter_s, self._draw = schedule, quiet, jitter_s, draw
        self._time: datetime | None = None
        self._put_off = timedelta(0)

    def start(self, since: datetime) -> None:
        """Count from the time at which the work was begun last."""
        self._time = self._following(since)
        self._put_off = timedelta(seconds=self._jitter_s * self._draw())

    def wait_until(self, at: datetime) -> None:
        """The work is due from this moment on, or when its quiet hours are over."""
        self._time, self._put_off = at, timedelta(0)

    def next_time(self, at: datetime) -> datetime | None:
        """When the work is due next, as seen at a moment: not after it when it is due."""
        following = self._following(at)
        if self._time is None or following is None:
            return None
        self._time = min(self._time, following)
        time = self._over(self._over(self._time) + self._put_off)
        return self._over(at) if time <= at else time

    def due(self, at: datetime) -> bool:
        """Whether it is time. It stays so until `start` says that the work was begun."""
        time = self.next_time(at)
        return time is not None and time <= at

    def _over(self, at: datetime) -> datetime:
        return at if self._quiet is None else self._quiet.over(at)

    def _following(self, at: datetime) -> datetime | None:
        """The schedule's first time after a moment."""
        if self._schedule is None:
            return None
        found = self._schedule.get_next_fire_time(at, at)
        assert found is None or isinstance(found, datetime)
        return found


class Agenda:
    """Everything that starts by itself, under one set of quiet hours and one pause."""

    def __init__(
        self,
        quiet: Quiet | None,
        sync: Timetable,
        reconcile: Timetable,
    ) -> None:
        self.quiet, self.sync, self.reconcile = quiet, sync, reconcile

    @classmethod
    def of(cls, settings: ScheduleSettings, draw: Callable[[], float] = random.random) -> Self:
        """The agenda that the settings ask for."""
        quiet = None if settings.quiet_hours is None else Quiet(*quiet_hours(settings.quiet_hours))
        sync = Timetable(schedule_of(settings), quiet, settings.jitter_s, draw)
        return cls(quiet, sync, Timetable(reconcile_schedule(settings), quiet, settings.jitter_s, draw))

    def free(self, at: datetime, pause: Pause | None) -> bool:
        """Whether anything may start by itself now."""
        return pause is None and (self.quiet is None or not self.quiet.covers(at))

    def due(self, at: datetime, pause: Pause | None) -> Wants | None:
        """What should start now, if anything; a sync comes before a reconcile."""
        if not self.free(at, pause):
            return None
        if self.sync.due(at):
            return Wants.SYNC
        return Wants.RECONCILE if self.reconcile.due(at) else None

    def next_sync(self, at: datetime, pause: Pause | None) -> datetime | None:
        """When a sync starts by itself next; None while it is paused until somebody resumes it."""
        time = self.sync.next_time(at)
        if pause is None or time is None:
            return time
        if pause.until is None:
            return None
        time = max(time, pause.until)
        return time if self.quiet is None else self.quiet.over(time)
