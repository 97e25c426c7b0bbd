"""How times, text and numbers are kept."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import StatementError

from kbsync.store import entities, outcomes, runs
from kbsync.store.chunks import chunked
from kbsync.store.engine import Store
from kbsync.store.known import labels
from kbsync.store.outcomes import Metric
from kbsync.store.tables import CursorRow, TriggerRow
from kbsync.store.tables.base import iso
from tests.store.examples import NOON, named, new_run

aware = st.datetimes(
    datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9))])
)


@given(aware, aware)
def test_times_as_text_compare_as_times(one: datetime, other: datetime) -> None:
    """The text of a time sorts as the time does, whatever zone it came in, from year 1 to 9999."""
    assert (iso(one) < iso(other)) == (one < other)
    assert datetime.fromisoformat(iso(one)) == one


def test_time_without_zone_is_refused(store: Store) -> None:
    """A time that does not say its zone can't be stored."""
    row = TriggerRow(requested_at=datetime(2024, 3, 1), requested_by="a test")
    with pytest.raises(StatementError, match="no time zone"), store.begin() as tx:
        tx.add(row)


@pytest.mark.parametrize("time", [NOON, datetime(1, 1, 1, tzinfo=UTC), NOON + timedelta(microseconds=1)])
def test_times_come_back_as_they_went(store: Store, time: datetime) -> None:
    """A time keeps its microseconds and its place in history, and comes back in UTC."""
    with store.begin() as tx:
        run_id = new_run(tx)
        tx.add(CursorRow(relation="P6", modified=time, item="Q1", updated_run=run_id))
    with store.read() as tx:
        row = tx.get_one(CursorRow, "P6")
        assert row.modified == time
        assert row.modified.tzinfo is UTC


def test_users_sql_compares_times_with_text(store: Store) -> None:
    """`at >= '2024-03-01T12:00'` means the same in both databases."""
    with store.begin() as tx:
        tx.add(TriggerRow(requested_at=NOON, requested_by="noon"))
        tx.add(TriggerRow(requested_at=NOON - timedelta(seconds=1), requested_by="before"))
    with store.read() as tx:
        query = text("SELECT requested_by FROM triggers WHERE requested_at >= '2024-03-01T12:00'")
        assert tx.execute(query).scalars().all() == ["noon"]


def test_characters_that_no_database_holds_are_replaced(store: Store) -> None:
    """NUL and half a surrogate pair become U+FFFD instead of stopping a pull."""
    with store.begin() as tx:
        entities.save(tx, NOON, [named("Q1", "a\0b\ud800c {} 日本")])
    with store.read() as tx:
        assert labels(tx, ["Q1"]) == {"Q1": "a\ufffdb\ufffdc {} 日本"}


def test_not_a_number_is_kept_as_such(store: Store) -> None:
    """A metric that is NaN or infinite is stored, so that the gate's refusal has its row."""
    with store.begin() as tx:
        run_id = new_run(tx)
        odd = [Metric("perplexity", "after", math.inf, 1), Metric("efficacy_success", "after", math.nan, 1)]
        outcomes.save_metrics(tx, run_id, odd)
    with store.read() as tx:
        found = outcomes.metrics_of(tx, run_id)
    assert math.isnan(found[0].value)
    assert found[1].value == math.inf


def test_a_document_is_json_whatever_was_counted(store: Store) -> None:
    """NaN and infinity, which JSON has no word for, are null; what the database makes of it reads as JSON."""
    counts = {"residual": math.nan, "lists": [1, math.inf, {"deep": -math.inf}], "steps": 20.0, "none": None}
    with store.begin() as tx:
        run_id = runs.start_run(tx, "tests", NOON, {})
        runs.stage_started(tx, run_id, "rebuild", NOON)
        runs.stage_finished(tx, run_id, "rebuild", NOON, counts)
    with store.read() as tx:
        (stage,) = runs.stages(tx, run_id)
        kept = str(tx.execute(text("SELECT CAST(counts AS TEXT) FROM run_stages")).scalar())
    assert stage.counts == {"residual": None, "lists": [1, None, {"deep": None}], "steps": 20.0, "none": None}
    assert json.loads(kept, parse_constant=pytest.fail) == stage.counts


def test_long_lists_are_cut_in_order() -> None:
    """Chunks have the size asked for and together are the list."""
    assert list(chunked(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunked([])) == []
