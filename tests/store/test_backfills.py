"""The place of a first pull: where it goes on, by which filter, and where the tail begins."""

from __future__ import annotations

from datetime import UTC, datetime

from kbsync.facts import Cursor
from kbsync.store import backfills, known, runs
from kbsync.store.engine import Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
START, LATER = Cursor(NOON, ""), Cursor(datetime(2026, 1, 2, tzinfo=UTC), "Q7")


def test_from_the_first_page_to_the_last(store: Store) -> None:
    """Each page moves it; at the end it is complete by its filter's key, and another key is not."""
    with store.begin() as tx:
        run = runs.start_run(tx, "manual", NOON, {})
        assert backfills.filter_key(tx, "P6") is None
        begun = backfills.begin(tx, run, "P6", "key", START, NOON)
        assert (begun.after, begun.done) == ("", False)
        assert known.cursor(tx, "P6") == START
        backfills.advance(tx, run, "P6", "http://e/Q5", 3)
        backfills.advance(tx, run, "P6", "http://e/Q8", 2)
        assert not backfills.is_complete(tx, "P6", "key")
    with store.begin() as tx:
        one = backfills.backfill(tx, "P6")
        assert one == backfills.Backfill("P6", "key", "http://e/Q8", 5, 2, False)
        backfills.finish(tx, run, "P6", "key", NOON)
        known.complete_first_pull(tx, run, "P6", NOON)
        assert backfills.is_complete(tx, "P6", "key")
        assert not backfills.is_complete(tx, "P6", "")
        assert backfills.backfills(tx)["P6"].done


def test_another_filter_begins_anew_and_the_tail_stays(store: Store) -> None:
    """Begun again, it is at the first subject and not complete, and the tail has not gone back."""
    with store.begin() as tx:
        run = runs.start_run(tx, "manual", NOON, {})
        backfills.begin(tx, run, "P6", "", LATER, NOON)
        backfills.finish(tx, run, "P6", "", NOON)
        known.complete_first_pull(tx, run, "P6", NOON)
        backfills.begin(tx, run, "P6", "key", START, NOON)
        assert known.first_pull_complete(tx, "P6") is None
        assert known.cursor(tx, "P6") == LATER
        assert backfills.filter_key(tx, "P6") == "key"
        backfills.forget(tx, "P6")
        assert known.cursor(tx, "P6") is None
        assert backfills.backfill(tx, "P6") is None


def test_a_first_pull_of_an_older_program(store: Store) -> None:
    """A relation with a cursor and no row of its own was read whole, without a filter."""
    with store.begin() as tx:
        run = runs.start_run(tx, "manual", NOON, {})
        known.complete_first_pull(tx, run, "P6", NOON)
        assert backfills.filter_key(tx, "P6") == ""
        assert backfills.is_complete(tx, "P6", "")
