"""`kbsync sql` answers in three forms, and reads only."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from kbsync.errors import StoreError
from kbsync.store.query import run_sql
from tests.cli.conftest import Call, data, error
from tests.stores import Stores, execute


def test_a_table_for_people(told: Call) -> None:
    """Columns by name, values whole, numbers to the right."""
    result = told("sql", "SELECT new_object, facts FROM live_facts, publication_at ORDER BY 2 LIMIT 1;")
    assert result.exit_code == 0
    head, _, row = (line.split("  ") for line in result.stdout.rstrip().splitlines())
    assert head[0] == "new_object"
    assert row[0] == "Joe Biden"
    assert result.stderr == ""


def test_json(told: Call) -> None:
    """Columns, rows, and whether there was more."""
    query = "SELECT id, started_at FROM runs ORDER BY id"
    assert data(told("sql", query, "--json", "--limit", "2")) == {
        "columns": ["id", "started_at"],
        "rows": [[1, "2024-03-01T12:00:00.000000Z"], [2, "2024-03-01T13:00:00.000000Z"]],
        "truncated": True,
    }
    assert data(told("sql", query, "--json"))["truncated"] is False


def test_csv(told: Call) -> None:
    """CSV that csv reads back, with line breaks, quotes and NULL."""
    result = told("sql", "SELECT 'a\n\"b\",c' AS text, NULL AS absent, 1.5 AS number", "--csv")
    assert list(csv.reader(io.StringIO(result.stdout))) == [["text", "absent", "number"], ['a\n"b",c', "", "1.5"]]


def test_more_rows_than_asked_for_are_told(told: Call) -> None:
    """A limit that cut something off says so on stderr, where it doesn't get into the data."""
    result = told("sql", "SELECT id FROM runs ORDER BY id", "--csv", "--limit", "1")
    assert result.stdout == "id\n1\n"
    assert "only the first 1 rows" in result.stderr


def test_from_stdin(told: Call) -> None:
    """`-` reads the query from stdin."""
    assert data(told("sql", "-", "--json", input="SELECT 1 AS one\n"))["rows"] == [[1]]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM runs",
        "UPDATE runs SET status = 'failed'",
        "DROP TABLE runs",
        "INSERT INTO triggers VALUES (1, '2024', 'me', NULL, NULL)",
        "SELECT 1; DELETE FROM runs",
        "PRAGMA journal_mode=DELETE",
        "ATTACH 'x.db' AS x",
        "",
    ],
)
def test_writes_are_refused(told: Call, query: str) -> None:
    """Anything but one SELECT ends with 4, and changes nothing."""
    refused = told("sql", query, "--json")
    assert refused.exit_code == 4
    assert error(refused)["kind"] == "StoreError"
    assert data(told("sql", "SELECT COUNT(*), MIN(status) FROM runs", "--json"))["rows"] == [[3, "published"]]


def test_time_runs_out(told: Call) -> None:
    """A query that never ends is given up."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    result = told("sql", endless, "--timeout", "0.2")
    assert result.exit_code == 4
    assert "longer than 0.2 s" in result.stderr


def test_one_form_at_a_time(told: Call) -> None:
    """--csv and --json together are a mistake, told as one."""
    assert error(told("sql", "SELECT 1", "--csv", "--json"))["kind"] == "ConfigError"


def test_no_store(call: Call, stores: Stores) -> None:
    """Asking a store that isn't there makes none."""
    for _ in range(2):
        assert stores.blank in error(call("sql", "SELECT id FROM runs", "--json"))["message"]


def test_a_store_that_is_not_laid_out(stores: Stores, tmp_path: Path) -> None:
    """A database without a single table: one line says what fills it. Where others' tables are, the database's own
    words say what there is not."""
    elsewhere = stores.url(tmp_path / "elsewhere.db")
    execute(elsewhere, "CREATE TABLE other (a INTEGER)")
    with pytest.raises(StoreError, match=r'no such table: runs|relation "runs" does not exist'):
        run_sql(elsewhere, "SELECT id FROM runs")
    execute(elsewhere, "DROP TABLE other")
    with pytest.raises(StoreError, match=r"^the store .* is empty; `kbsync sync` fills it$"):
        run_sql(elsewhere, "SELECT id FROM runs")
    assert run_sql(elsewhere, "SELECT 1").rows == ((1,),)


def test_a_place_of_its_own(stores: Stores, told: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`store.query_url` is where questions go, and nothing else does."""
    elsewhere = stores.url(tmp_path / "elsewhere.db")
    execute(elsewhere, "CREATE TABLE only_here (a INTEGER)")
    monkeypatch.setenv("KBSYNC_STORE__QUERY_URL", elsewhere)
    assert data(told("sql", "SELECT count(*) FROM only_here", "--json"))["rows"] == [[0]]
    assert told("sql", "SELECT 1 FROM runs").exit_code == 4
    assert data(told("status", "--json"))["live"] is not None
