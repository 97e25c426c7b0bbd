"""What a store must hold after any pages, in plain dict code; and pages made of small numbers.

A page speaks of some subjects at one time of the source. Of each it says that it is missing, or which statements it
has at a revision. One server may be behind another, so any revision can come at any time, in any order.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from kbsync.facts import Cursor, Item, Rank, Statement, Value, ValueKind
from kbsync.source.page import Page

START = datetime(2024, 1, 1, tzinfo=UTC)
RELATION = "P6"
TIMES, REVISIONS = 4, 4
SILENT, MISSING = 0, 1  # what a page may say of a subject besides its revision
STATES = 2 + REVISIONS
VALUES = (Value(ValueKind.ITEM, "Q7"), Value(ValueKind.ITEM, "Q8"), Value(ValueKind.UNKNOWN, ""))


@dataclass(frozen=True, slots=True)
class Look:
    """One page: its time, and of each subject, by its place, SILENT, MISSING or 1 + the revision."""

    time: int
    states: tuple[int, ...]


@cache
def statements_at(subject: str, revision: int) -> tuple[Statement, ...]:
    """The statements of a subject at a revision: a few of the same ids, with other values, ranks and ends."""
    chance = random.Random(f"{subject} {revision}")
    found = []
    for key in sorted(chance.sample("abcd", chance.randint(0, 3))):
        value = chance.choice(VALUES)
        rank = chance.choice(list(Rank))
        end = chance.choice([None, START])
        best = rank is not Rank.DEPRECATED and chance.random() < 0.8
        found.append(Statement(f"{subject}-{key}", subject, RELATION, value, rank, best, None, end))
    return tuple(found)


def subject_at(place: int) -> str:
    """The id of the subject at a place."""
    return f"Q{100 + place}"


def moment(time: int) -> datetime:
    """A time of the source."""
    return START + timedelta(hours=time)


def page_of(look: Look) -> Page:
    """The page as the source's reader makes it."""
    said = {subject_at(place): state for place, state in enumerate(look.states) if state != SILENT}
    there = {one: state - 1 for one, state in said.items() if state != MISSING}
    return Page(
        RELATION,
        False,
        cursor_of(look),
        subjects=tuple(said),
        items=tuple(Item(one, f"{one} at {n}", "en", n, moment(look.time)) for one, n in there.items()),
        statements=tuple(s for one, n in there.items() for s in statements_at(one, n)),
        fates={one: "item deleted" for one in said if one not in there},
    )


def cursor_of(look: Look) -> Cursor:
    """The cursor that the page brings."""
    return Cursor(moment(look.time), subject_at(max(look.states) % 3))


def expected(looks: Iterable[Look]) -> dict[str, dict[str, Statement]]:
    """The statements of each subject that has any: those of its highest revision, unless it was missing at the last
    time at which that was read, or later. No order of `looks` matters here: only what is highest and latest."""
    read: dict[str, dict[int, int]] = {}  # subject → revision → last time
    missing: dict[str, int] = {}
    for look in looks:
        for place, state in enumerate(look.states):
            one = subject_at(place)
            if state == MISSING:
                missing[one] = max(missing.get(one, -1), look.time)
            elif state != SILENT:
                times = read.setdefault(one, {})
                times[state - 1] = max(times.get(state - 1, -1), look.time)
    held = {}
    for one, times in read.items():
        highest = max(times)
        if missing.get(one, -1) < times[highest]:
            held[one] = {s.id: s for s in statements_at(one, highest)}
    return {one: rows for one, rows in held.items() if rows}


def facts_of(held: dict[str, dict[str, Statement]]) -> set[tuple[str, str]]:
    """The truthy (subject, object) pairs of these statements."""
    return {
        (one, s.value.text)
        for one, rows in held.items()
        for s in rows.values()
        if s.best and s.value.kind is not ValueKind.UNKNOWN
    }


def decoded(numbers: Sequence[int]) -> list[Look]:
    """One look at two subjects for each number."""
    looks = []
    for number in numbers:
        rest, time = divmod(number, TIMES)
        second, first = divmod(rest, STATES)
        looks.append(Look(time, (first, second)))
    return looks


CODES = TIMES * STATES * STATES
