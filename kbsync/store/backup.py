"""Copies of a SQLite store: taken while others write, checked, and put back in one step.

A PostgreSQL server has tools of its own for that, which know more than we do.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL

from kbsync import disk
from kbsync.errors import StoreError
from kbsync.store import schema
from kbsync.store.connect import parse_url, place
from kbsync.store.schema import SchemaState


def backup(url: str, file: Path, *, force: bool = False) -> int:
    """Copy the store to `file`, whole or not at all, while others read and write; returns the copy's bytes.

    The copy is one moment of the store. Raises StoreError when there is no store, when `file` is there already
    (unless `force`), when the copy is not sound, or the disk fails.
    """
    source = _file_of(url, f"pg_dump --format=custom --file={file}")
    if not source.exists():
        raise StoreError(f"there is no store at {source}; nothing was copied")
    if file.exists() and file.samefile(source):
        raise StoreError(f"{file} is the store itself; give another file")
    if file.exists() and not force:
        raise StoreError(f"{file} is there already; give another name, or --force to replace it")
    _copy(source, file)
    return file.stat().st_size


def restore(url: str, file: Path, *, force: bool = False) -> SchemaState:
    """Put a copy in the store's place, in one step; returns the state of its schema, CURRENT or OLDER.

    Raises StoreError when the copy is not sound, and when there is a store already (unless `force`), and
    SchemaMismatch when the copy is newer than this program or another program's. Nothing was changed then. Nobody
    else may have the old store open: the caller sees to that.
    """
    target = _file_of(url, f"pg_restore --clean --if-exists --no-owner {file}")
    if not file.is_file():
        raise StoreError(f"there is no backup at {file}")
    if target.exists() and file.samefile(target):
        raise StoreError(f"{file} is the store itself; give a backup")
    check(file)
    state = schema.check(f"sqlite:///{file.resolve()}")
    schema.refuse(state, f"the backup {file}", upgradable=True)
    if state is SchemaState.EMPTY:
        raise StoreError(f"the backup {file} is empty")
    if target.exists() and not force:
        raise StoreError(f"there is a store at {target} already; --force replaces it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the store's folder {target.parent} can't be made: {error.strerror}") from None
    _copy(file, target)
    return state


def check(file: Path) -> None:
    """Raise StoreError unless a SQLite file is sound: its pages, its indexes, its foreign keys."""
    with _explained(file), _opened(file) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            raise StoreError(f"{file} is damaged: {found[0]}; use another copy")
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise StoreError(
                f"{file} is damaged: a row of {broken[0]} refers to one of {broken[2]} that is not there"
            )


def _file_of(url: str, instead: str) -> Path:
    """The file of a SQLite store. Raises StoreError with what to do for a server."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(f"{place(parsed)} is PostgreSQL's to copy: run `{instead} --dbname={_plain(parsed)}`")
    return Path(str(parsed.database))


def _plain(url: URL) -> str:
    """A server's URL as its own tools read it, without the password: they have ~/.pgpass and PGPASSWORD."""
    return URL.create("postgresql", url.username, None, url.host, url.port, url.database).render_as_string()


def _copy(source: Path, target: Path) -> None:
    """Copy one SQLite file over another, by way of a new file that is checked and on the disk before it is renamed.

    What lies in the write-ahead log of the old one goes with it.
    """
    building = target.with_name(f".tmp-{target.name}-{secrets.token_hex(4)}")
    try:
        with _explained(target):
            with _opened(source) as old, contextlib.closing(sqlite3.connect(building)) as new:
                old.backup(new)
                new.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            check(building)
            disk.fsync(building)
            if target.exists():
                _fold(target)
            for log in ("-wal", "-shm"):
                target.with_name(target.name + log).unlink(missing_ok=True)
            disk.rename(building, target)
            disk.fsync(target.parent)
    finally:
        for left in (building, building.with_name(building.name + "-journal")):
            with contextlib.suppress(OSError):
                left.unlink()


def _fold(store: Path) -> None:
    """Bring what a store's log has into its file, so that a kill before the rename loses none of it. Raises
    StoreError while somebody has it open; a store that is damaged is left as it is."""
    try:
        with contextlib.closing(sqlite3.connect(store, timeout=1.0)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreError(f"{store} is in use by another process; stop it first") from None


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{quote(os.fsencode(file.resolve()))}?mode=ro", uri=True)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{file} can't be copied or read: {error}") from None
    except OSError as error:
        raise StoreError(f"{file} can't be written: {error.strerror}") from None
