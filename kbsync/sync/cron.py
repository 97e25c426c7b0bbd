"""Cron lines as crontab means them. APScheduler counts weekdays from Monday; crontab counts them from Sunday."""

from __future__ import annotations

import re
from datetime import UTC

from apscheduler.triggers.cron import CronTrigger

from kbsync.errors import ConfigError, one_line

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?:(\*)|([0-7]|[a-z]{3})(?:-([0-7]|[a-z]{3}))?)(?:/([1-7]))?", re.IGNORECASE)


def cron_trigger(line: str, key: str) -> CronTrigger:
    """The trigger of a line of five fields, in UTC. Raises ConfigError, which names the setting."""
    *fields, weekdays = line.split()
    try:
        minute, hour, day, month = fields
        days = named_days(weekdays)
        return CronTrigger(minute=minute, hour=hour, day=day, month=month, day_of_week=days, timezone=UTC)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(one_line(f"{key}: {line!r} is no cron line: {error}")) from None


def named_days(field: str) -> str:
    """The field for the days of the week with names for its numbers: 0 and 7 are Sunday, `5-7` is fri,sat,sun."""
    if field == "*":
        return field
    found: list[str] = []
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} names no days of the week")
        star, first, last, step = match.groups()
        begin = 0 if star else _number(first)
        end = 6 if star else _number(last) if last else 6 if step else begin
        if end < begin:
            end += 7  # fri-mon, and sat-sun
        found += [_DAYS[number % 7] for number in range(begin, end + 1, int(step or 1))]
    return ",".join(dict.fromkeys(found))


def _number(day: str) -> int:
    if day.isdigit():
        return int(day)
    if day.lower() not in _DAYS:
        raise ValueError(f"{day!r} is no day of the week")
    return _DAYS.index(day.lower())
