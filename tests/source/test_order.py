"""Pages in any order, and any page twice, end in the same statements: those that a plain model says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.facts import Reading
from tests.source.mirror import Mirror
from tests.source.order_model import (
    CODES,
    RELATION,
    cursor_of,
    decoded,
    expected,
    facts_of,
    moment,
    page_of,
)

T1, T2, T3 = (datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3))


@settings(max_examples=10_000, derandomize=True, database=None)
@given(st.lists(st.integers(0, CODES - 1), max_size=5))
def test_any_order_of_pages_ends_in_the_model_s_state(numbers: list[int]) -> None:
    """Whatever pages come, in whatever order and however often: the highest revision is held, an item that was
    missing since is not, and the cursor is the highest."""
    looks = decoded(numbers)
    mirror = Mirror(RELATION)
    for look in looks:
        mirror.take(page_of(look), moment(look.time))
    held = {one: rows for one, rows in mirror.statements.items() if rows}
    assert held == expected(looks)
    assert {(one, value.text) for one, value in mirror.facts()} == facts_of(held)
    assert mirror.cursor == max((cursor_of(look) for look in looks), default=None)


def state_of(mirror: Mirror) -> tuple[object, ...]:
    """All that it holds."""
    live = {one: dict(rows) for one, rows in mirror.statements.items() if rows}
    return live, dict(mirror.readings), mirror.cursor


@settings(max_examples=300, derandomize=True, database=None)
@given(st.lists(st.integers(0, CODES - 1), min_size=1, max_size=5), st.data())
def test_a_page_that_comes_again_changes_nothing(numbers: list[int], data: st.DataObject) -> None:
    """Any page of the past, read and applied again, leaves statements, readings and cursor as they are."""
    looks = decoded(numbers)
    mirror = Mirror(RELATION)
    for look in looks:
        mirror.take(page_of(look), moment(look.time))
    before = state_of(mirror)
    again = data.draw(st.sampled_from(looks))
    pulled = mirror.take(page_of(again), moment(again.time))
    assert pulled.changes == ()
    assert state_of(mirror) == before


times = st.sampled_from([None, T1, T2, T3])
readings = st.builds(Reading, st.sampled_from([None, 1, 2, 3]), times, times)


@given(readings, readings, readings)
def test_readings_merge_in_any_order(a: Reading, b: Reading, c: Reading) -> None:
    """Merging is commutative, associative and idempotent: a semilattice."""
    assert a.merged(b) == b.merged(a)
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(a) == a


@pytest.mark.parametrize(
    ("known", "seen", "takes"),
    [
        (Reading(), Reading(1, T1), True),
        (Reading(5, T1), Reading(6, T1), True),
        (Reading(5, T2), Reading(6, T1), True),
        (Reading(5, T1), Reading(4, T3), False),
        (Reading(5, T1), Reading(5, T1), True),
        (Reading(5, T2), Reading(5, T1), False),
        (Reading(5, T1), Reading(absent_at=T2), True),
        (Reading(5, T2), Reading(absent_at=T2), True),
        (Reading(5, T3), Reading(absent_at=T2), False),
        (Reading(5, T1, T2), Reading(5, T3), True),
        (Reading(5, T1, T2), Reading(4, T3), False),
        (Reading(5, T1, T2), Reading(6, T1), False),
        (Reading(None, T1), Reading(None, T2), True),
        (Reading(None, T2), Reading(None, T1), False),
    ],
)
def test_which_reading_is_taken(known: Reading, seen: Reading, takes: bool) -> None:
    """A higher revision, or the same one later; missing since the last reading; back since it was missing."""
    assert known.takes(seen) is takes
