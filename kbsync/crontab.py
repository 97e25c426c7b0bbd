"""The five fields of a crontab line, checked, with weekdays by name: 0 is Sunday here, and Monday elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r"(?:\*|([a-z]{3}|\d{1,2})(?:-([a-z]{3}|\d{1,2}))?)(?:/(\d{1,2}))?")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of each month


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()  # from `low` on

    def values(self, text: str) -> set[int]:
        """The numbers that a field names. Raises ValueError when it names none."""
        found: set[int] = set()
        for part in text.split(","):
            match = _PART.fullmatch(part)
            if match is None:
                raise self._wrong(text)
            begin, end, step = match.groups()
            first = self.low if begin is None else self._number(begin)
            last = self._number(end) if end is not None else first
            if begin is None or (end is None and step is not None):
                last = self.high
            if self.name == "weekday" and end in ("0", "sun"):
                last = 7  # fri-sun
            if first > last or step in ("0", "00"):
                raise self._wrong(text)
            found.update(range(first, last + 1, int(step or 1)))
        return found

    def _number(self, word: str) -> int:
        number = self.low + self.words.index(word) if word in self.words else -1
        number = int(word) if word.isdecimal() else number
        if not self.low <= number <= self.high:
            raise self._wrong(word)
        return number

    def _wrong(self, text: str) -> ValueError:
        return ValueError(f"{text!r} is no {self.name} of a cron line")


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),
)


def crontab_fields(line: str) -> list[str]:
    """Minute, hour, day, month and weekday of a crontab line, as lists of numbers; weekdays as lists of names.

    Raises ValueError for a line that can't be read, or whose day never comes.
    """
    parts = line.lower().split()
    if len(parts) != len(_FIELDS):
        raise ValueError("a cron line has five fields: minute, hour, day, month, weekday")
    found = [field.values(part) for field, part in zip(_FIELDS, parts, strict=True)]
    if min(found[2]) > max(_LONGEST[month - 1] for month in found[3]):
        raise ValueError(f"the day of the cron line {line!r} never comes")
    weekdays = {one % 7 for one in found.pop()}
    numbers = [",".join(map(str, sorted(one))) for one in found]
    return [*numbers, ",".join(_WEEKDAYS[one] for one in sorted(weekdays))]
