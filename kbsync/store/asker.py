"""Users' own SQL, run in a process of its own that has little memory and little time, and that reads only.

This file is run by its path and imports nothing of kbsync: the process is small, starts in some hundredths of
a second, and has neither the settings nor their secrets. Its standard input is one JSON object (see `Task`),
its output JSON lines: `{"ready": pid}` once the database is open (for PostgreSQL, the server's process), the
names of the columns, the rows as lists, and last either `{"more": bool}` or `{"error": …}`.
`kbsync.store.query` is who asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypedDict
from urllib.parse import quote

_CHECK_EVERY = 1000  # SQLite's virtual machine steps between two looks at the clock
_MOST_CELL = 10_000_000  # bytes of one value
_MOST_FILE = 16_000_000  # bytes of a file: what SQLite keeps beside a store to share it, and nothing else
_TABLES = "SELECT 1 FROM pg_class WHERE relkind = 'r' AND oid >= 16384"  # PostgreSQL's own have lower numbers
_BATCH = 50  # rows that PostgreSQL sends at once
_ALLOWED = (
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
)
_DENIED_FUNCTIONS = ("load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "sqlite_log")
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: _MOST_CELL,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class Task(TypedDict):
    """What is asked. `place` is SQLite's file, or PostgreSQL's address; `memory` and `answer` are bytes."""

    backend: str
    place: str
    sql: str
    limit: int
    seconds: float
    memory: int
    answer: int


class Refused(Exception):
    """The question or its answer is not one that is allowed. The text says why."""


class Empty(Exception):
    """There is no table at all, so the store was not laid out yet."""


def main() -> None:
    """Answer one task."""
    task: Task = json.load(sys.stdin)
    out = _Out(task["answer"])
    confine(task["memory"], task["seconds"])
    try:
        (_sqlite if task["backend"] == "sqlite" else _postgres)(task, out)
    except MemoryError:
        out.last({"error": {"kind": "memory"}})
    except Empty:
        out.last({"error": {"kind": "empty"}})
    except Refused as error:
        out.last({"error": {"kind": "refused", "words": str(error)}})
    except (sqlite3.Error, sqlite3.Warning) as error:
        out.last({"error": {"kind": "sqlite", "name": getattr(error, "sqlite_errorname", ""), "words": str(error)}})


def confine(memory: int, seconds: float) -> None:
    """Set this process' limits, where the system has such: address space, processor time, files, no core
    dumps."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    cpu = int(seconds) + 2
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, _MOST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        with contextlib.suppress(ValueError, OSError):  # some systems know a limit and don't take it
            resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


class _Out:
    """Standard output, with a limit on what goes through it."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def ready(self, server: int = 0) -> None:
        self.last({"ready": server})

    def last(self, line: Mapping[str, Any]) -> None:
        """A line that does not count."""
        sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
        sys.stdout.buffer.flush()

    def row(self, values: Sequence[Any]) -> None:
        """A line of the answer. Raises Refused beyond the limit."""
        line = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        self._left -= len(line)
        if self._left < 0:
            raise Refused(f"the answer is over {self._most} bytes; ask for fewer or shorter values")
        sys.stdout.buffer.write(line)

    def answer(self, columns: Iterable[str], rows: Iterator[Sequence[Any]], limit: int) -> None:
        """Columns, at most `limit` rows, and whether there were more."""
        self.row(list(columns))
        for number, row in enumerate(rows):
            if number == limit:
                self.last({"more": True})
                return
            self.row([cell(value) for value in row])
        self.last({"more": False})


def cell(value: Any) -> str | int | float | bool | None:
    """A value in JSON's types: times as ISO 8601 in UTC, bytes by their length."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    try:
        return float(value)  # PostgreSQL's numeric: sums and averages
    except (TypeError, ValueError):
        return str(value)


def _sqlite(task: Task, out: _Out) -> None:
    deadline = time.monotonic() + task["seconds"]
    connection = sqlite3.connect(f"file:{quote(task['place'])}?mode=ro", uri=True, timeout=task["seconds"])
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA temp_store=MEMORY")  # what is sorted counts as memory, not as a file
    connection.execute(f"PRAGMA hard_heap_limit={task['memory'] // 2}")
    for what, most in _LIMITS.items():
        connection.setlimit(what, most)
    connection.set_authorizer(_read_only)
    connection.set_progress_handler(lambda: int(time.monotonic() > deadline), _CHECK_EVERY)
    out.ready()
    try:
        cursor = connection.execute(task["sql"])
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) and connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            raise Empty from None
        raise
    if cursor.description is None:
        raise Refused("only a query that returns rows can be run here")
    out.answer((column[0] for column in cursor.description), cursor, task["limit"])


def _read_only(action: int, first: str | None, second: str | None, *_where: str | None) -> int:
    """SQLite's authorizer: reading tables and calling functions, nothing else."""
    del first
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _DENIED_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _postgres(task: Task, out: _Out) -> None:
    import psycopg
    from psycopg import sql

    options = (
        f"-c timezone=UTC -c statement_timeout={int(task['seconds'] * 1000)} -c lock_timeout=5000 "
        "-c default_transaction_read_only=on -c idle_in_transaction_session_timeout=60000"
    )
    try:
        with psycopg.connect(task["place"], connect_timeout=10, options=options) as connection:
            connection.read_only = True
            _lower(connection.execute)
            out.ready(connection.info.backend_pid)
            with connection.cursor(name="kbsync_query") as cursor:
                # A named cursor is DECLAREd in the extended protocol: the server takes one SELECT, nothing else.
                try:
                    cursor.execute(sql.SQL(task["sql"]))  # the user's own text, on purpose
                except psycopg.errors.UndefinedTable:
                    connection.rollback()
                    if connection.execute(_TABLES).fetchone() is None:
                        raise Empty from None
                    raise
                cursor.itersize = _BATCH
                assert cursor.description is not None
                out.answer([column.name for column in cursor.description], iter(cursor), task["limit"])
    except psycopg.Error as error:
        if error.sqlstate is None and ("results from command" in str(error) or "out of memory" in str(error)):
            raise MemoryError from None  # libpq's ways to say that an answer did not fit
        words = error.diag.message_primary or str(error)
        state = error.sqlstate or ("08" if isinstance(error, psycopg.OperationalError) else "")
        out.last({"error": {"kind": "postgres", "name": state, "words": words}})


def _lower(execute: Callable[[str], Any]) -> None:
    """A superuser becomes one who may read all tables, for this transaction. Whoever can set it can set it
    back, were it not for the words that are refused before."""
    if execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,):
        execute("SET LOCAL ROLE pg_read_all_data")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
    sys.stdout.flush()
    os._exit(0)  # freeing what a query has taken is the system's work
