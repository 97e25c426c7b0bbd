"""Rows that are written many at once are the rows that SQLAlchemy itself would have written one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Table, insert, select

from kbsync.facts import LONG_AGO, Rank, References, ValueKind
from kbsync.store import bulk
from kbsync.store.engine import Store
from kbsync.store.tables import EntityRow, StatementRow, WatchRow
from tests.store.examples import NOON, new_run

TEXTS = ["plain", "naïve", "日本 {} %s :x", "NUL \0", "half \ud800 a pair", "", "' \" \\"]
TIMES = [
    None,
    LONG_AGO,
    NOON,
    NOON + timedelta(microseconds=1),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-9))),
]


def statement(number: int, run_id: int) -> dict[str, Any]:
    """A row that differs from its neighbors in each kind of column."""
    return {
        "id": f"Q{number}-{number}",
        "subject": f"Q{number}",
        "relation": "P6",
        "value_kind": list(ValueKind)[number % len(ValueKind)],
        "value": TEXTS[number % len(TEXTS)],
        "rank": list(Rank)[number % len(Rank)],
        "best": number % 2 == 0,
        "start_time": TIMES[number % len(TIMES)],
        "end_time": TIMES[(number + 1) % len(TIMES)],
        "refs": [None, *References][number % 4],
        "detail": [None, "11"][number % 2],
        "seen_run": run_id,
        "seen_at": NOON,
        "changed_at": None,
    }


def stored(store: Store, table: Table) -> list[tuple[Any, ...]]:
    """All rows of a table, as SQLAlchemy reads them."""
    with store.read() as tx:
        return [tuple(row) for row in tx.execute(select(table).order_by(table.c.id))]


def test_inserted_as_one_by_one(store: Store) -> None:
    """Text, times, numbers, words and nothing at all come out as they do after SQLAlchemy's own insert."""
    table = bulk.table_of(StatementRow)
    with store.begin() as tx:
        run_id = new_run(tx)
        rows = [statement(number, run_id) for number in range(1, 60)]
        for row in rows:
            tx.execute(insert(table).values(row))
    expected = stored(store, table)
    with store.begin() as tx:
        tx.execute(table.delete())
        bulk.insert_rows(tx, StatementRow, rows)
    assert stored(store, table) == expected
    assert len(expected) == 59


def test_clean_pages_and_unclean_ones(store: Store) -> None:
    """What can't be kept is replaced wherever it stands among what can."""
    with store.begin() as tx:
        bulk.insert_rows(
            tx, EntityRow, [{"id": f"Q{n}", "label": text, "seen_at": NOON} for n, text in enumerate(TEXTS)]
        )
    with store.read() as tx:
        labels = tx.execute(select(EntityRow.label).order_by(EntityRow.id)).scalars().all()
    assert labels == [text.replace("\0", "\ufffd").replace("\ud800", "\ufffd") for text in TEXTS]


def test_updated_by_key(store: Store) -> None:
    """Only the rows that are named change, and of these only the columns that are named."""
    table = bulk.table_of(StatementRow)
    with store.begin() as tx:
        bulk.insert_rows(tx, StatementRow, [statement(number, new_run(tx)) for number in range(1, 5)])
    before = stored(store, table)
    with store.begin() as tx:
        news = [{"rank": Rank.DEPRECATED, "id": f"Q{n}-{n}", "retired_at": NOON, "value": f"\0{n}"} for n in (2, 4)]
        bulk.update_rows(tx, StatementRow, news)
    names = [column.name for column in table.columns]
    for old, new in zip(before, stored(store, table), strict=True):
        changed = {name for name, a, b in zip(names, old, new, strict=True) if a != b}
        if old[0] in ("Q2-2", "Q4-4"):
            values = dict(zip(names, new, strict=True))
            assert (values["rank"], values["retired_at"]) == (Rank.DEPRECATED, NOON)
            assert values["value"] == "\ufffd" + old[0][1]
            assert {"retired_at", "value"} <= changed <= {"rank", "retired_at", "value"}
        else:
            assert not changed


def test_no_rows_are_no_statement(store: Store) -> None:
    """Nothing to write asks the database nothing."""
    with store.begin() as tx:
        bulk.insert_rows(tx, StatementRow, [])
        bulk.update_rows(tx, StatementRow, [])


def test_defaults_of_python_must_be_named(store: Store) -> None:
    """A column whose value SQLAlchemy would make up is not left to chance."""
    with store.begin() as tx, pytest.raises(AssertionError, match="watches has defaults"):
        bulk.insert_rows(tx, WatchRow, [{"relation": "P6"}])


def test_a_time_without_zone_is_refused(store: Store) -> None:
    """As when it is written alone."""
    with store.begin() as tx, pytest.raises(ValueError, match="no time zone"):
        bulk.insert_rows(tx, EntityRow, [{"id": "Q1", "seen_at": datetime(2024, 3, 1)}])


def test_times_keep_utc(store: Store) -> None:
    """Of any zone."""
    with store.begin() as tx:
        bulk.insert_rows(tx, EntityRow, [{"id": "Q1", "seen_at": TIMES[-1]}])
    with store.read() as tx:
        (found,) = tx.execute(select(EntityRow.seen_at)).scalars()
    assert found == TIMES[-1]
    assert found.tzinfo is UTC
