"""The doctor's checks of what is asked for: the relations, and the times."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from kbsync.cli.checks import Check, reading
from kbsync.cli.show import words

if TYPE_CHECKING:
    from kbsync.settings import Settings

FAR = timedelta(days=8)  # a schedule whose next time is further away was hardly meant so
_STEP = timedelta(seconds=1)
_TIMES = 60  # of the schedule that are looked at


def check_watch(settings: Settings) -> Iterator[Check]:
    """The catalogue can be read, and has words for what is watched."""
    from kbsync.request.catalogue import load_catalogue

    catalogue = load_catalogue(settings.watch.catalogue)
    yield Check("catalogue", "ok", f"{len(catalogue.relations)} relations in {settings.watch.catalogue}")
    watched = _watched(settings)
    strange = [relation for relation in watched if relation not in catalogue]
    if not watched:
        then = 'set watch.relations, such as ["P6", "P35"], or `kbsync watch add P6`'
        yield Check("watch", "fail", "no relation is watched", then)
    elif strange:
        text = f"{len(watched)} relations, {len(strange)} without prompts of their own: {', '.join(strange)}"
        yield Check(
            "watch", "warn", text, "add them to the catalogue (docs/relations.md); plain prompts do till then"
        )
    else:
        yield Check("watch", "ok", f"{len(watched)} relations, each with prompts")


def _watched(settings: Settings) -> tuple[str, ...]:
    """The relations of the file, and those that commands have added. Raises ConfigError for a filter of theirs."""
    from kbsync.sync import watching

    with reading(settings) as tx:
        found = watching.of_file(settings) if tx is None else watching.watches(tx, settings)
    watching.check(found.values())
    return tuple(found)


def check_schedule(settings: Settings) -> Iterator[Check]:
    """The schedule has times, soon, and outside of the quiet hours."""
    from kbsync.settings import quiet_hours
    from kbsync.sync.clock import now
    from kbsync.sync.timetable import Quiet, schedule_of

    schedule, at = settings.schedule, now()
    quiet = None if schedule.quiet_hours is None else Quiet(*quiet_hours(schedule.quiet_hours))
    trigger = schedule_of(schedule)
    times: list[datetime] = []
    for _ in range(_TIMES):
        following = trigger.get_next_fire_time(times[-1] if times else at, times[-1] + _STEP if times else at)
        if following is None:
            break
        times.append(following)
    asked = f"every {schedule.interval_minutes:g} min" if schedule.cron is None else f"cron {schedule.cron!r}"
    if not times:
        yield Check(
            "schedule", "fail", f"{asked}: no time ever comes", "set schedule.cron to a line whose time comes"
        )
        return
    first = times[0] if quiet is None else quiet.over(times[0])
    text = f"{asked}; by the clock the next time is {words(first)} UTC"
    if first - at > FAR:
        yield Check(
            "schedule", "warn", f"{text}, {(first - at).days} days away", "set schedule.cron to a closer one"
        )
    elif quiet is not None and all(quiet.covers(time) for time in times):
        then = "set schedule.quiet_hours or schedule.cron to others"
        text = f"{asked}: each time lies in the quiet hours {schedule.quiet_hours}, and waits for their end"
        yield Check("schedule", "warn", text, then)
    else:
        yield Check("schedule", "ok", text)
