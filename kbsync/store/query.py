"""Users' own SQL: one statement that only reads, with limits on rows, bytes, memory and time.

It runs in a process of its own (`kbsync.store.asker`), which is ended when its time is up: SQLite looks at
the clock only between the steps of its machine, and one step may sort, or match a pattern, for minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL

from kbsync.errors import StoreError
from kbsync.store import asker
from kbsync.store.connect import explain, parse_url, place

Cell = str | int | float | bool | None

_MOST_ROWS = 2**31 - 2  # what both drivers can be asked for, and one more
_LONGEST_S = 86_400.0
_START_S = 60.0  # most seconds until the process is there and has opened the store
_GRACE_S = 0.25  # a query that ends by itself is told better than one that is ended

# What reaches the server's files, other sessions or the settings of this one, or runs SQL that is in a text, and is
# not stopped by the transaction being read-only; and what holds the server's secrets. Identifiers may be quoted,
# or written with escapes (U&"…"); neither hides a word, since the second is refused as well.
_REFUSED = re.compile(
    r"\b(set_config|pg_(read|ls|stat|file|log|sleep|reload|rotate|switch|promote|create|drop|copy|replication|"
    r"logical|notify|wal|backup|start_backup|stop_backup|cancel|terminate|signal|advisory|try_advisory|import|export|"
    r"current_logfile|stat_file|stat_reset|authid|shadow|user_mapping|hba_file|ident_file|subscription|largeobject)\w*|"
    r"(query|cursor|table|schema|database)_to_xml\w*|ts_(stat|rewrite)|"
    r"lo(_(import|export|creat|open|close|unlink|from_bytea|get|put|lseek|tell|truncate)\w*|read|write)|"
    r"dblink\w*|crosstab\w*|xpath_table|connectby|plpy\w*)\b|\bu&\"",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"pg_stat_(activity|database|user_tables|all_tables|user_indexes|all_indexes)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns and rows of a query. `truncated`: there were more rows than the limit."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a query may take: bytes of its process' memory, and bytes of its answer."""

    memory: int = 1_000_000_000
    answer: int = 50_000_000


def run_sql(url: str, sql: str, limit: int = 1000, timeout_s: float = 10.0, bounds: Bounds | None = None) -> Answer:
    """Run one SELECT on the store's tables and views.

    Times come as ISO 8601 text in UTC, bytes as their length. Writes, several statements, attached files and
    settings are refused, and so are queries that need more seconds, memory or bytes of answer than they may.
    Raises StoreError with the database's own words in one line.
    """
    parsed = parse_url(url)
    statement = sql.strip().rstrip(";").rstrip()
    if not statement:
        raise StoreError("there is no SQL to run")
    if "\0" in statement or not _is_utf8(statement):
        raise StoreError("the SQL has a NUL, or bytes that are not UTF-8")
    if not 0 < timeout_s <= _LONGEST_S:  # NaN neither
        raise StoreError(f"a query may take from 0 to {_LONGEST_S:g} seconds, not {timeout_s:g}")
    bounds = bounds or Bounds()
    backend = parsed.get_backend_name()
    return _ask(
        parsed,
        asker.Task(
            backend=backend,
            place=_file(parsed) if backend == "sqlite" else _server(parsed, statement),
            sql=statement,
            limit=min(limit, _MOST_ROWS),
            seconds=timeout_s,
            memory=bounds.memory,
            answer=bounds.answer,
        ),
    )


def _is_utf8(text: str) -> bool:
    """Whether it can be sent: what a shell hands over that is not UTF-8 comes as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _file(url: URL) -> str:
    path = Path(str(url.database)).absolute()
    if not path.exists():
        raise StoreError(f"there is no store at {path}; `kbsync sync` makes one")
    return str(path)


def _server(url: URL, sql: str) -> str:
    found = _REFUSED.search(_HARMLESS.sub("", sql))
    if found:
        raise StoreError(f"SQL: {found[0].lower()!r} is refused: it reaches beyond the store's tables")
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _ask(url: URL, task: asker.Task) -> Answer:
    """What the asker says to a task. It is gone when this returns, whatever happens."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KBSYNC_", "PYTHON"))}
    process = subprocess.Popen(  # noqa: S603  a file of ours
        [sys.executable, "-I", *(["-S"] if task["backend"] == "sqlite" else []), asker.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=inherited,
    )
    server = 0
    lines = _Lines(process, task["answer"] + 100_000)
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(task).encode())
        first = lines.next(time.monotonic() + _START_S)
        if isinstance(first, dict) and "ready" in first:
            server = int(first["ready"])
            return _answer(lines, time.monotonic() + task["seconds"] + _GRACE_S, url, task)
        raise _failure(first, url, task)
    except BaseException:
        if server and not lines.ended:
            _end_session(url, server)
        raise
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _answer(lines: _Lines, deadline: float, url: URL, task: asker.Task) -> Answer:
    columns = lines.next(deadline)
    if not isinstance(columns, list):
        raise _failure(columns, url, task)
    rows: list[tuple[Cell, ...]] = []
    while isinstance(line := lines.next(deadline), list):
        rows.append(tuple(line))
    if not isinstance(line, dict) or "more" not in line:
        raise _failure(line, url, task)
    return Answer(tuple(columns), tuple(rows), bool(line["more"]))


class _Lines:
    """What the process says, line by line, up to a time and a number of bytes."""

    def __init__(self, process: subprocess.Popen[bytes], most: int) -> None:
        assert process.stdout is not None
        self._file, self._left = process.stdout.fileno(), most
        self._process = process
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._file, selectors.EVENT_READ)
        self._lines = self._split()
        self._deadline = 0.0
        self.ended = False  # whether the last line was there

    def next(self, deadline: float) -> Any:
        """The next line's value; the text `late`, or the exit code of a process that ended without another
        word."""
        self._deadline = deadline
        line = next(self._lines)
        said = json.loads(line) if isinstance(line, bytes) else line
        self.ended = isinstance(said, dict) and "ready" not in said
        return said

    def _split(self) -> Iterator[bytes | str | int]:
        rest = b""
        while True:
            if not self._selector.select(max(self._deadline - time.monotonic(), 0)):
                yield "late"
            piece = os.read(self._file, 1 << 16)
            self._left -= len(piece)
            if self._left < 0:
                self._process.kill()
            if not piece or self._left < 0:
                yield self._process.wait()
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole


def _end_session(url: URL, server: int) -> None:
    """End the server's process that ran the query: it may have set its own time limit aside."""
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with contextlib.suppress(psycopg.Error), psycopg.connect(address, connect_timeout=5) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (server,))


def _failure(said: Any, url: URL, task: asker.Task) -> StoreError:
    """What became of a task, in one line."""
    error = said.get("error") if isinstance(said, dict) else None
    if error is None:
        # A process that is gone without a word was ended by a limit: of time (SIGXCPU), else of memory.
        error = {"kind": "late" if said == "late" or said == -24 else "memory"}
    name, words = str(error.get("name", "")), " ".join(str(error.get("words", "")).split())
    if error["kind"] == "late" or name in ("SQLITE_INTERRUPT", "57014"):
        return StoreError(f"the query took longer than {task['seconds']:g} s; ask for less")
    if error["kind"] == "memory" or name == "SQLITE_NOMEM":
        return StoreError(f"the query needs more memory than {task['memory'] / 1e6:g} MB; ask for less")
    if error["kind"] == "empty":
        return StoreError(f"{place(url)} is empty; `kbsync sync` fills it")
    if error["kind"] == "refused":
        return StoreError(f"SQL: {words}")
    if error["kind"] == "postgres":
        return _postgres_failure(name, words, url)
    if name == "SQLITE_AUTH" or "one statement" in words or words == "not authorized":
        return StoreError(f"only one statement that reads can be run here ({words})")
    if name in ("SQLITE_ERROR", "SQLITE_TOOBIG", ""):
        return StoreError(f"SQL: {words}")
    failure = sqlite3.OperationalError(words)
    failure.sqlite_errorname = name
    return StoreError(explain(failure, url))


def _postgres_failure(state: str, words: str, url: URL) -> StoreError:
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.OperationalError if state == "08" else psycopg.DatabaseError
    if issubclass(kind, psycopg.OperationalError):
        return StoreError(explain(kind(words), url))
    return StoreError(f"{place(url)}: SQL: {words}")
