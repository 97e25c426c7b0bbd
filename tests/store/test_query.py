"""Users' own SQL: it reads, and nothing else."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
from sqlalchemy import make_url

from kbsync.errors import StoreError
from kbsync.store import entities
from kbsync.store.engine import Store, open_store
from kbsync.store.query import run_sql
from tests.store.examples import NOON, all_rows, named
from tests.stores import Server

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"

FORBIDDEN = [
    "INSERT INTO triggers (requested_at, requested_by) VALUES ('2024-03-01', 'me')",
    "UPDATE entities SET label = 'me'",
    "DELETE FROM entities",
    "DROP TABLE entities",
    "CREATE TABLE mine (id INTEGER)",
    "CREATE TEMP TABLE mine (id INTEGER)",
    "SELECT 1; DELETE FROM entities",
    "SELECT 1; SELECT 2",
    "COMMIT",
    "VACUUM",
]


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with three labels."""
    with store.begin() as tx:
        entities.save(tx, NOON, [named(f"Q{n}", f"item {n}") for n in (1, 2, 3)])
    return store


def test_query_returns_columns_and_plain_rows(url: str, filled: Store) -> None:
    """Rows come with their column names, and times as the same text from both databases."""
    answer = run_sql(url, "SELECT id AS item, modified FROM entities WHERE id = 'Q1' ;  ")
    assert answer.columns == ("item", "modified")
    assert answer.rows == (("Q1", "2024-03-01T12:00:00.000000Z"),)
    assert not answer.truncated


def test_values_of_all_kinds_are_plain(url: str, filled: Store) -> None:
    """Numbers, averages, NULL and per cent signs come as Python's own; nothing is a placeholder."""
    answer = run_sql(url, "SELECT COUNT(*), AVG(revision), NULL, '100 %s :x ?' FROM entities")
    assert answer.rows == ((3, 1.0, None, "100 %s :x ?"),)


def test_bytes_are_shown_by_their_length(url: str, filled: Store) -> None:
    """A blob is not poured onto the screen."""
    literal = "x'0102'" if url.startswith("sqlite") else "'\\x0102'::bytea"
    assert run_sql(url, f"SELECT {literal}").rows == (("<2 bytes>",),)


def test_rows_beyond_the_limit_are_cut_and_said_to_be(url: str, filled: Store) -> None:
    """The limit holds, and the answer tells that there was more."""
    answer = run_sql(url, "SELECT id FROM entities ORDER BY id", limit=2)
    assert answer.rows == (("Q1",), ("Q2",))
    assert answer.truncated
    assert not run_sql(url, "SELECT id FROM entities", limit=3).truncated


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_what_does_not_read_is_refused(url: str, filled: Store, sql: str) -> None:
    """Writes, definitions, several statements and transaction control fail in one line and change nothing."""
    with filled.read() as tx:
        before = all_rows(tx)
    with pytest.raises(StoreError) as caught:
        run_sql(url, sql)
    assert "\n" not in str(caught.value)
    with filled.read() as tx:
        assert all_rows(tx) == before


def test_other_files_cannot_be_reached(tmp_path: Path) -> None:
    """No other database is attached to a SQLite store, no setting changed, no file made."""
    url = f"sqlite:///{tmp_path}/kbsync.db"
    open_store(url).close()
    for sql in (f"ATTACH '{tmp_path}/other.db' AS other", "PRAGMA query_only=OFF", "PRAGMA user_version=7"):
        with pytest.raises(StoreError, match="only one statement that reads"):
            run_sql(url, sql)
    assert not (tmp_path / "other.db").exists()


@pytest.mark.postgres
def test_function_that_writes_is_refused(server: Server) -> None:
    """In PostgreSQL a SELECT can call functions that write; the transaction is read-only all the same, also for a
    role that may do all."""
    url = make_url(server.laid_out())
    role = f"kbsync_writer_{uuid.uuid4().hex[:8]}"
    server.run(url, f"CREATE ROLE {role} LOGIN; GRANT ALL ON SEQUENCE triggers_id_seq TO {role}")
    try:
        with pytest.raises(StoreError, match="read-only transaction"):
            run_sql(url.set(username=role).render_as_string(False), "SELECT nextval('triggers_id_seq')")
    finally:
        server.run(url, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_query_that_takes_too_long_is_stopped(url: str, store: Store) -> None:
    """An endless query ends at its time limit, in one line that names the limit."""
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"took longer than 0\.3 s"):
        run_sql(url, FOREVER, timeout_s=0.3)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing FROM entities", "", " ;  "])
def test_wrong_sql_is_explained_in_one_line(url: str, store: Store, sql: str) -> None:
    """The database's own words come back, without a traceback."""
    with pytest.raises(StoreError, match="SQL") as caught:
        run_sql(url, sql)
    assert "\n" not in str(caught.value)


def test_missing_store_is_named(tmp_path: Path) -> None:
    """A query makes no file."""
    with pytest.raises(StoreError, match="there is no store at"):
        run_sql(f"sqlite:///{tmp_path}/none.db", "SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_value_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """A single value of a gigabyte is an error in SQLite, which has no time to notice."""
    url = f"sqlite:///{tmp_path}/kbsync.db"
    open_store(url).close()
    with pytest.raises(StoreError, match="too big"):
        run_sql(url, "SELECT zeroblob(1000000000)")


def test_unreachable_server_is_one_line() -> None:
    """A server that does not answer is named without the password."""
    with pytest.raises(StoreError, match="can't be reached") as caught:
        run_sql("postgresql://someone:hunter2@127.0.0.1:1/kbsync", "SELECT 1")
    assert "hunter2" not in str(caught.value)
