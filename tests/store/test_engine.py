"""The open store: one writer at a time, all or nothing, every failure one line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from kbsync.errors import StoreError
from kbsync.store import entities
from kbsync.store.connect import explain
from kbsync.store.engine import Store, open_store
from kbsync.store.tables import TriggerRow
from tests.store.examples import NOON, all_rows, named
from tests.stores import Server


def sqlite_store(path: Path, wait_s: float = 0.2) -> Store:
    return open_store(f"sqlite:///{path}", wait_s=wait_s)


def add_trigger(store: Store, by: str = "a test") -> None:
    with store.begin() as tx:
        tx.add(TriggerRow(requested_at=NOON, requested_by=by))


def test_sqlite_is_set_up_to_keep_what_it_was_told(tmp_path: Path) -> None:
    """A store's file is in WAL mode, and each connection syncs fully and checks foreign keys."""
    with sqlite_store(tmp_path / "deep" / "kbsync.db") as store, store.begin() as tx:
        pragmas = {
            name: tx.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_rows_of_a_block_that_raises_are_not_stored(store: Store) -> None:
    """An error inside a write transaction undoes everything that the block had written."""
    with store.read() as tx:
        before = all_rows(tx)

    def stumble() -> None:
        with store.begin() as tx:
            entities.save(tx, NOON, [named("Q30", "United States")])
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        stumble()
    with store.read() as tx:
        assert all_rows(tx) == before


def test_second_writer_waits_for_the_first(store: Store) -> None:
    """A writer that comes while another is at work begins when that one ends, and sees its rows."""
    order: list[str] = []
    inside = threading.Event()

    def first() -> None:
        with store.begin() as tx:
            inside.set()
            time.sleep(0.3)
            tx.add(TriggerRow(requested_at=NOON, requested_by="first"))
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with store.begin() as tx:
        order.append("second")
        seen = tx.execute(text("SELECT requested_by FROM triggers")).scalars().all()
    thread.join()
    assert order == ["first", "second"]
    assert seen == ["first"]


def test_writer_locks_before_its_first_statement(url: str) -> None:
    """An idle write transaction already keeps others out: what a writer reads can't change before it writes."""
    with open_store(url, wait_s=0.2) as one, open_store(url, wait_s=0.2) as other, one.begin():  # noqa: SIM117
        with pytest.raises(StoreError, match="locked by another writer") as caught, other.begin():
            pass
    assert "\n" not in str(caught.value)


def test_readers_do_not_wait_and_see_one_moment(store: Store) -> None:
    """A reader works while a writer does, and does not see rows that were committed after it began."""
    with store.read() as reader:
        count = text("SELECT COUNT(*) FROM triggers")
        assert reader.execute(count).scalar() == 0
        add_trigger(store)
        assert reader.execute(count).scalar() == 0
    with store.read() as reader:
        assert reader.execute(count).scalar() == 1


def test_read_transaction_cannot_write(store: Store) -> None:
    """A write in a read transaction fails, and nothing is stored."""
    row = TriggerRow(requested_at=NOON, requested_by="a reader")
    with pytest.raises(StoreError), store.read() as tx:
        tx.add(row)
    add_trigger(store)  # the connection is whole, and writers may write again
    with store.read() as tx:
        assert tx.execute(text("SELECT COUNT(*) FROM triggers")).scalar() == 1


def test_foreign_keys_hold(store: Store) -> None:
    """A row that points at a run that is not there is refused as a broken rule."""
    with pytest.raises(StoreError, match="breaks one of its rules"), store.begin() as tx:
        tx.add(TriggerRow(requested_at=NOON, requested_by="a test", taken_run=77))


def test_text_file_is_no_store(tmp_path: Path) -> None:
    """A file that is not SQLite's is named as that."""
    path = tmp_path / "notes.db"
    path.write_text("This is not a database, whatever its name says. " * 50)
    with pytest.raises(StoreError, match="is not a SQLite database") as caught:
        sqlite_store(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    """A store whose pages were overwritten is reported as damaged, not as a traceback."""
    path = tmp_path / "kbsync.db"
    sqlite_store(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(StoreError, match="is damaged; restore it from a copy"):
        sqlite_store(path)


def test_full_disk_stores_nothing(tmp_path: Path) -> None:
    """When the disk runs full the transaction is undone and the message says what to do."""

    def fill(store: Store) -> None:
        with store.begin() as tx:
            pages = tx.execute(text("PRAGMA page_count")).scalar()
            tx.execute(text(f"PRAGMA max_page_count={pages}"))
            tx.add(TriggerRow(requested_at=NOON, requested_by="x" * 100_000))

    with sqlite_store(tmp_path / "kbsync.db") as store:
        with pytest.raises(StoreError, match="no room left on its disk"):
            fill(store)
        with store.read() as tx:
            assert tx.execute(text("SELECT COUNT(*) FROM triggers")).scalar() == 0


def test_missing_store_is_not_made_for_a_reader(tmp_path: Path) -> None:
    """Commands that only look get an error for a missing store, and leave no file behind."""
    with pytest.raises(StoreError, match="there is no store at"):
        open_store(f"sqlite:///{tmp_path}/none/kbsync.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_empty_database_is_not_laid_out_for_a_reader(empty_url: str) -> None:
    """An empty database is an error for commands that only look, and is laid out for the others."""
    with pytest.raises(StoreError, match=r"is empty|there is no store"):
        open_store(empty_url, create=False)
    open_store(empty_url).close()
    open_store(empty_url, create=False).close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "can't be read"),
        ("not a url", "can't be read"),
        ("mysql://localhost/kbsync", "can't be a mysql database"),
        ("sqlite://", "must outlive the process"),
        ("sqlite:///:memory:", "must outlive the process"),
    ],
)
def test_urls_that_cannot_be_a_store(url: str, message: str) -> None:
    """A URL that no store can live at is refused by name before anything is opened."""
    with pytest.raises(StoreError, match=message):
        open_store(url)


def test_unreachable_server_is_one_line_without_the_password() -> None:
    """A server that does not answer is named by its URL, and the password is not."""
    with pytest.raises(StoreError, match="can't be reached") as caught:
        open_store("postgresql+psycopg://someone:hunter2@127.0.0.1:1/kbsync")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('FATAL:  database "kb" does not exist', "create it first"),
        ('FATAL:  password authentication failed for user "kb"', "check the name and password"),
        ('FATAL:  role "kb" does not exist', "check the name and password"),
        ('FATAL:  role "kb" is not permitted to log in', "check the name and password"),
        (
            'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "kb", database "kb"',
            "check the name and password",
        ),
        ("FATAL:  sorry, too many clients already", "try again later"),
        ("FATAL:  remaining connection slots are reserved for superusers", "try again later"),
        ("FATAL:  the database system is starting up", "run again once it is up"),
        ("connection refused", "check that the server runs"),
    ],
)
def test_why_a_server_lets_nobody_in(said: str, advice: str) -> None:
    """Where the driver has the server's words and no code, the next step is that of the cause all the same."""
    error = psycopg.OperationalError(f'connection failed: connection to server at "10.0.0.2" failed: {said}')
    assert advice in explain(error, make_url("postgresql://kb@10.0.0.2/kb"))


@pytest.mark.postgres
def test_missing_database_is_named(server: Server) -> None:
    """A PostgreSQL server without the database tells so, and what to do; so it does of a user."""
    with pytest.raises(StoreError, match="does not exist on the server; create it first") as caught:
        open_store(server.admin.set(database="kbsync_no_such_database").render_as_string(False))
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="refuses this user"):
        open_store(server.admin.set(username="kbsync_nobody").render_as_string(False))


def test_folder_is_no_store(tmp_path: Path) -> None:
    """A path that is a folder is a one-line error."""
    with pytest.raises(StoreError, match="can't be opened"):
        sqlite_store(tmp_path)


def test_killed_writer_leaves_a_whole_store(tmp_path: Path) -> None:
    """A process that dies inside a transaction leaves no row of it and no lock."""
    path = tmp_path / "kbsync.db"
    sqlite_store(path).close()
    program = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO triggers (requested_at, requested_by) VALUES ('2024', 'the dead')")
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -9
    with sqlite_store(path) as store:
        add_trigger(store, "the living")
        with store.read() as tx:
            assert tx.execute(text("SELECT requested_by FROM triggers")).scalars().all() == ["the living"]
