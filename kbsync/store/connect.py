"""Engines for SQLite and PostgreSQL, set up alike, and one clear line for each way a database can fail."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from kbsync.errors import StoreError
from kbsync.redact import mask_url

WRITE = "kbsync_write"  # execution option: this connection's transactions write
BUSY_WAIT_S = 30.0
STUCK_S = 300  # a server ends a transaction in which nothing was said for so long: its client is gone or paused

_SQLITE = {
    "SQLITE_NOTADB": "is not a SQLite database; give another file or move this one away",
    "SQLITE_CORRUPT": "is damaged; restore it from a copy",
    "SQLITE_FULL": "has no room left on its disk; nothing of this step was stored; free space and run again",
    "SQLITE_BUSY": "is locked by another writer; wait for it to finish and run again",
    "SQLITE_LOCKED": "is locked by another writer; wait for it to finish and run again",
    "SQLITE_CANTOPEN": "can't be opened; check the path and its permissions",
    "SQLITE_READONLY": "is read-only; check the permissions of the file and its folder",
    "SQLITE_PERM": "can't be opened; check its permissions",
    "SQLITE_IOERR": "can't be read or written: the disk reports an error",
    "SQLITE_INTERRUPT": "was asked for something that ran out of time",
    "SQLITE_CONSTRAINT": "refused a row that breaks one of its rules",
}

_POSTGRES = {
    "08": "can't be reached; check that the server runs and the URL is right",
    "28": "refuses this user; check the name and password in the URL",
    "3D": "does not exist on the server; create it first",
    "42501": "gives this user no right to do that; grant it",
    "53100": "has no room left on its disk; nothing of this step was stored; free space and run again",
    "53": "has no resources left; try again later",
    "55P03": "is locked by another writer; wait for it to finish and run again",
    "57014": "was asked for something that ran out of time",
    "57P": "was shut down or is starting; run again once it is up",
    "23": "refused a row that breaks one of its rules",
}

# While it connects, the driver has no code for what the server says, only its words.
_REFUSED = {
    "3D": re.compile('database ".*" does not exist'),
    "28": re.compile('authentication failed|role ".*" does not exist|not permitted to log in|no pg_hba.conf entry'),
    "53": re.compile("too many (clients|connections)|connection slots are reserved"),
    "57P": re.compile("the database system is"),
}


def parse_url(url: str) -> URL:
    """The store's URL. Raises StoreError for anything but a SQLite file or a PostgreSQL server."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError("the store's URL can't be read; write sqlite:///path or postgresql+psycopg://…") from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(f"the store can't be a {backend} database; write sqlite:///path or postgresql+psycopg://…")
    if parsed.database in (None, "", ":memory:") or str(parsed.database).startswith("file:"):
        raise StoreError("the store must outlive the process: write sqlite:/// and the path of a file")
    return parsed.set(drivername="sqlite")


def place(url: URL) -> str:
    """The store's name in messages: the file, or the server's URL without its password."""
    if url.get_backend_name() == "sqlite":
        return f"the store {url.database}"
    return f"the store {mask_url(url.render_as_string(hide_password=True))}"


def make_engine(url: URL, wait_s: float = BUSY_WAIT_S) -> Engine:
    """An engine whose transactions begin when we say so.

    SQLite: `synchronous=FULL`, since a published checkpoint must not lose its row to a power cut;
    foreign keys on; transactions of a connection with the WRITE option begin IMMEDIATE, others can't write.
    PostgreSQL: session time zone UTC, text in UTF-8 whatever the database's own encoding, and no transaction
    outlives a client that says nothing for STUCK_S.
    `wait_s`: seconds that a writer waits for another one.
    """
    if url.get_backend_name() != "sqlite":
        options = (
            f"-c timezone=UTC -c lock_timeout={int(wait_s * 1000)} "
            f"-c idle_in_transaction_session_timeout={STUCK_S * 1000}"
        )
        return create_engine(
            url,
            connect_args={"connect_timeout": 10, "client_encoding": "utf8", "options": options},
            pool_pre_ping=True,
        )
    engine = create_engine(url, connect_args={"timeout": wait_s, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions on its own
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def use_wal(engine: Engine) -> None:
    """Put a SQLite file into WAL mode, so that readers never wait. Kept in the file, so once is enough."""
    if engine.dialect.name != "sqlite":
        return
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if write else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def make_folder(url: URL) -> None:
    """The folder of a SQLite file. Raises StoreError when it can't be made."""
    if url.get_backend_name() != "sqlite":
        return
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the store's folder {folder} can't be made: {error.strerror}") from None


@contextmanager
def passing(url: URL, wait_s: float = BUSY_WAIT_S) -> Iterator[Engine]:
    """An engine for this block alone, whose errors are explained."""
    engine = make_engine(url, wait_s)
    try:
        with explained(url):
            yield engine
    finally:
        engine.dispose()


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn the drivers' errors inside the block into one-line StoreErrors that name the store."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(explain(error.orig or error, url)) from error
    except (sqlite3.Error, psycopg.Error) as error:
        raise StoreError(explain(error, url)) from error


def explain(error: BaseException, url: URL) -> str:
    """One line: which store, what happened, what to do next."""
    detail = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, psycopg.Error):
        state = error.sqlstate or (_refused(detail) if isinstance(error, psycopg.OperationalError) else "")
        known = next((text for code, text in _POSTGRES.items() if state.startswith(code)), None)
    else:
        name = str(getattr(error, "sqlite_errorname", ""))
        known = next((text for code, text in _SQLITE.items() if name.startswith(code)), None)
    return f"{place(url)} {known} ({detail})" if known else f"{place(url)} failed: {detail}"


def _refused(detail: str) -> str:
    """The code of a connection that could not be made, or broke."""
    return next((code for code, words in _REFUSED.items() if words.search(detail)), "08")


def database_failure(action: str, url: URL) -> sqlite3.Error | psycopg.Error:
    """What the database would raise, for a failpoint: a full disk, an I/O error, or nobody there any more."""
    if url.get_backend_name() == "sqlite":
        error = sqlite3.OperationalError("disk I/O error" if action != "full" else "database or disk is full")
        names = {"full": "SQLITE_FULL", "error": "SQLITE_IOERR", "gone": "SQLITE_CANTOPEN"}
        error.sqlite_errorname = names[action]
        return error
    if action == "gone":
        return psycopg.OperationalError("server closed the connection unexpectedly")
    return psycopg.errors.lookup({"full": "53100", "error": "58030"}[action])("the disk reports an error")
