"""A copy is one moment of the store, and takes its place only when it is sound."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from kbsync import failpoints
from kbsync.errors import SchemaMismatch, StoreError
from kbsync.store import runs
from kbsync.store.backup import backup, check, restore
from kbsync.store.engine import open_store
from kbsync.store.schema import VERSION_TABLE, SchemaState
from tests.store.examples import all_rows, new_run
from tests.store.story import tell


@pytest.fixture
def url(tmp_path: Path, sqlite_template: Path) -> str:
    """A store in a file, with a past."""
    path = tmp_path / "kbsync.db"
    path.write_bytes(sqlite_template.read_bytes())
    with open_store(f"sqlite:///{path}") as store:
        tell(store)
    return f"sqlite:///{path}"


def rows_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    with open_store(url, create=False) as store, store.read() as tx:
        return all_rows(tx)


def test_a_copy_holds_what_the_store_held(url: str, tmp_path: Path) -> None:
    """Also what is in the write-ahead log; restored elsewhere it is the same store."""
    copy, other = tmp_path / "copy.db", f"sqlite:///{tmp_path}/new/place.db"
    with open_store(url) as store:
        with store.begin() as tx:
            new_run(tx, 600)
        assert backup(url, copy) == copy.stat().st_size
    assert restore(other, copy) is SchemaState.CURRENT
    assert rows_of(other) == rows_of(url)
    assert not list(tmp_path.glob("**/.tmp-*"))


@pytest.mark.parametrize("rule", ["fsync.before=error", "rename.before=full"])
def test_a_disk_that_fails_leaves_the_old_copy(url: str, tmp_path: Path, rule: str) -> None:
    """A copy that does not reach the disk is an error in one line, and no file beside the one that was there."""
    copy = tmp_path / "copy.db"
    backup(url, copy)
    before = copy.read_bytes()
    with open_store(url) as store, store.begin() as tx:
        new_run(tx, 600)
    failpoints.arm(rule)
    try:
        with pytest.raises(StoreError, match=r"copy\.db can't be written: "):
            backup(url, copy, force=True)
    finally:
        failpoints.disarm()
    assert copy.read_bytes() == before
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_copy_is_taken_while_others_write(url: str, tmp_path: Path) -> None:
    """A writer goes on during the copies, and each of them is whole: runs without a gap."""
    over, failures = threading.Event(), []

    def write() -> None:
        try:
            with open_store(url) as store:
                for number in range(10_000):
                    if over.is_set():
                        return
                    with store.begin() as tx:
                        new_run(tx, 1000 + number)
        except Exception as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    sizes = []
    for number in range(5):
        backup(url, tmp_path / f"{number}.db")
        with open_store(f"sqlite:///{tmp_path}/{number}.db") as copy, copy.read() as tx:
            ids = [run.id for run in runs.runs(tx, limit=100_000)]
        assert ids == list(range(max(ids), 0, -1))
        sizes.append(len(ids))
    over.set()
    writer.join()
    assert failures == []
    assert sizes == sorted(sizes)


def test_nothing_is_overwritten_unasked(url: str, tmp_path: Path) -> None:
    """Neither an older copy, nor a store, nor the store by itself."""
    copy = tmp_path / "copy.db"
    backup(url, copy)
    with pytest.raises(StoreError, match="is there already"):
        backup(url, copy)
    with pytest.raises(StoreError, match="is the store itself"):
        backup(url, tmp_path / "kbsync.db", force=True)
    with open_store(url) as store, store.begin() as tx:
        new_run(tx, 700)
    before = rows_of(url)
    with pytest.raises(StoreError, match="--force replaces it"):
        restore(url, copy)
    assert rows_of(url) == before
    restore(url, copy, force=True)
    assert len(rows_of(url)["runs"]) == len(before["runs"]) - 1
    backup(url, copy, force=True)


def test_a_store_in_use_is_not_replaced(url: str, tmp_path: Path) -> None:
    """Whoever has it open would go on with a file that is gone; a store that is damaged has to be replaceable."""
    path = tmp_path / "kbsync.db"
    backup(url, tmp_path / "copy.db")
    with open_store(url) as store, store.read() as tx:
        tx.execute(text("SELECT COUNT(*) FROM runs"))
        with pytest.raises(StoreError, match="in use by another process"):
            restore(url, tmp_path / "copy.db", force=True)
    path.write_bytes(b"no database at all" * 100)
    assert restore(url, tmp_path / "copy.db", force=True) is SchemaState.CURRENT
    check(path)


@pytest.mark.parametrize("where", [0, 3 * 4096, -4096])
def test_a_damaged_copy_is_refused(url: str, tmp_path: Path, where: int) -> None:
    """A page that is not one any more, wherever; the store that is there stays as it is."""
    copy = tmp_path / "copy.db"
    backup(url, copy)
    spoilt = bytearray(copy.read_bytes())
    start = where % len(spoilt)
    spoilt[start : start + 3000] = b"\xff" * 3000
    copy.write_bytes(spoilt)
    before = rows_of(url)
    with pytest.raises(StoreError):
        restore(url, copy, force=True)
    assert rows_of(url) == before


def test_a_row_without_what_it_refers_to_is_damage(url: str, tmp_path: Path) -> None:
    """Foreign keys are checked too."""
    copy = tmp_path / "copy.db"
    backup(url, copy)
    with sqlite3.connect(copy) as connection:
        connection.execute("DELETE FROM runs WHERE id = 1")
    connection.close()
    with pytest.raises(StoreError, match="refers to one of runs"):
        check(copy)


def test_a_copy_of_another_schema(url: str, tmp_path: Path) -> None:
    """A newer one and another program's are refused, and so is a file that is not there."""
    copy, target = tmp_path / "copy.db", f"sqlite:///{tmp_path}/new.db"
    backup(url, copy)
    with sqlite3.connect(copy) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'ffff'")
    connection.close()
    with pytest.raises(SchemaMismatch, match="newer schema"):
        restore(target, copy)
    with pytest.raises(StoreError, match="no backup at"):
        restore(target, tmp_path / "none.db")
    assert not (tmp_path / "new.db").exists()


def test_a_server_has_its_own_tools(tmp_path: Path) -> None:
    """The command is named whole, without the password."""
    url = "postgresql+psycopg://me:hush@db.example.org/kbsync"
    for work, tool in ((backup, "pg_dump --format=custom"), (restore, "pg_restore --clean")):
        with pytest.raises(StoreError, match=tool) as caught:
            work(url, tmp_path / "x")
        assert "--dbname=postgresql://me@db.example.org/kbsync" in str(caught.value)
        assert "hush" not in str(caught.value)


def test_a_name_that_is_not_utf8(url: str, tmp_path: Path) -> None:
    """File names are bytes."""
    file = tmp_path / os.fsdecode(b"k\xff.db")
    assert backup(url, file) == file.stat().st_size
