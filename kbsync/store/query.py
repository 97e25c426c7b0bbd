"""Users' own SQL: one statement that only reads, with a limit on rows and on time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql as pgsql
from sqlalchemy import URL

from kbsync.errors import StoreError
from kbsync.store.connect import explain, parse_url, place
from kbsync.store.tables.base import iso

Cell = str | int | float | bool | None

_MOST_ROWS = 2**31 - 2  # what both drivers can be asked for, and one more
_LONGEST_S = 86_400.0
_CHECK_EVERY = 1000  # SQLite's virtual machine steps between two looks at the clock
_MAX_CELL = 10_000_000  # bytes of one value: an expression must not fill the memory
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns and rows of a query. `truncated`: there were more rows than the limit."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    truncated: bool


def run_sql(url: str, sql: str, limit: int = 1000, timeout_s: float = 10.0) -> Answer:
    """Run one SELECT on the store's tables and views.

    Times come as ISO 8601 text in UTC, bytes as their length. Writes, several statements, attached files
    and settings are refused. Raises StoreError with the database's own words in one line.
    """
    parsed = parse_url(url)
    statement = sql.strip().rstrip(";").rstrip()
    if not statement:
        raise StoreError("there is no SQL to run")
    if "\0" in statement or not _is_utf8(statement):
        raise StoreError("the SQL has a NUL, or bytes that are not UTF-8")
    if not 0 < timeout_s <= _LONGEST_S:  # NaN neither
        raise StoreError(f"a query may take from 0 to {_LONGEST_S:g} seconds, not {timeout_s:g}")
    limit = min(limit, _MOST_ROWS)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, statement, limit, timeout_s)
    return _postgres(parsed, statement, limit, timeout_s)


def _is_utf8(text: str) -> bool:
    """Whether it can be sent: what a shell hands over that is not UTF-8 comes as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sqlite(url: URL, sql: str, limit: int, timeout_s: float) -> Answer:
    path = Path(str(url.database)).absolute()
    if not path.exists():
        raise StoreError(f"there is no store at {path}; `kbsync sync` makes one")
    deadline = time.monotonic() + timeout_s
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=timeout_s)
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_CELL)
            connection.set_authorizer(_read_only)
            connection.set_progress_handler(lambda: int(time.monotonic() > deadline), _CHECK_EVERY)
            cursor = connection.execute(sql)
            if cursor.description is None:
                raise StoreError("only a query that returns rows can be run here")
            return _answer([column[0] for column in cursor.description], cursor.fetchmany(limit + 1), limit)
        finally:
            connection.close()
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise StoreError(_sqlite_words(error, url, timeout_s)) from error


def _read_only(action: int, first: str | None, second: str | None, *_where: str | None) -> int:
    """SQLite's authorizer: reading tables and calling functions, nothing else."""
    del first, second
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _sqlite_words(error: Exception, url: URL, timeout_s: float) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_INTERRUPT":
        return f"the query took longer than {timeout_s:g} s; ask for less"
    if name == "SQLITE_AUTH" or "one statement" in str(error):
        return f"only one statement that reads can be run here ({error})"
    if name in ("SQLITE_ERROR", "SQLITE_TOOBIG", ""):
        return f"SQL: {' '.join(str(error).split())}"
    return explain(error, url)


def _postgres(url: URL, sql: str, limit: int, timeout_s: float) -> Answer:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    options = f"-c timezone=UTC -c statement_timeout={int(timeout_s * 1000)}"
    try:
        with (
            psycopg.connect(address, connect_timeout=10, options=options) as connection,
            connection.cursor(name="kbsync_query") as cursor,
        ):
            connection.read_only = True
            # A named cursor is DECLAREd in the extended protocol: the server takes one SELECT, nothing else.
            cursor.execute(pgsql.SQL(sql))  # the user's own text, on purpose
            assert cursor.description is not None
            return _answer([c.name for c in cursor.description], cursor.fetchmany(limit + 1), limit)
    except psycopg.errors.QueryCanceled as error:
        raise StoreError(f"the query took longer than {timeout_s:g} s; ask for less") from error
    except psycopg.errors.OperationalError as error:
        raise StoreError(explain(error, url)) from error
    except psycopg.Error as error:
        words = error.diag.message_primary or str(error)
        raise StoreError(f"{place(url)}: SQL: {' '.join(words.split())}") from error


def _answer(columns: Sequence[str], rows: Sequence[Sequence[Any]], limit: int) -> Answer:
    shown = tuple(tuple(_cell(value) for value in row) for row in rows[:limit])
    return Answer(tuple(columns), shown, len(rows) > limit)


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    try:
        return float(value)  # PostgreSQL's numeric: sums and averages
    except (TypeError, ValueError):
        return str(value)
