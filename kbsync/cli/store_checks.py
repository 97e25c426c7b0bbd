"""The doctor's checks of the store: that it can be reached and written, is sound, and what it stands on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.cli.checks import Check
from kbsync.errors import SchemaMismatch, StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL

    from kbsync.settings import Settings
    from kbsync.store.soundness import ServerFacts

SKEW_S = 5.0  # by which two clocks may differ: leases and heartbeats compare times of several machines
LOOK_S = 20.0  # most that looking through a SQLite file may take

_CLOCK = "timedatectl set-ntp true"


def check_store(settings: Settings) -> Iterator[Check]:
    """The store can be reached, has this program's schema, is sound, and stands on what can carry it."""
    from kbsync.store.connect import parse_url

    url = parse_url(settings.store.url)
    if url.get_backend_name() == "sqlite":
        yield from _file_ground(Path(str(url.database)))
        yield from _schema(settings, url)
    else:
        schema = list(_schema(settings, url))
        yield from schema
        if schema[0].level == "ok":
            yield from server_checks(settings, url)


def _schema(settings: Settings, url: URL) -> Iterator[Check]:
    from kbsync.store import schema
    from kbsync.store.connect import place

    where = place(url).removeprefix("the store ")
    try:
        state = schema.check(settings.store.url)
    except StoreError as error:
        yield Check("store", "fail", " ".join(str(error).split()), _when_unreachable(url))
        return
    if state is schema.SchemaState.EMPTY:
        yield Check("store", "ok", f"{where} is not there yet; the first sync makes it")
        return
    try:
        schema.refuse(state, "it")
    except SchemaMismatch as error:
        yield Check("store", "fail", f"{where}: {error}", _THEN[state.value])
        return
    if url.get_backend_name() == "sqlite":
        yield from _file(settings, Path(str(url.database)), where)
    else:
        yield Check("store", "ok", f"{where}, schema up to date")


_THEN = {
    "older": "kbsync db upgrade",
    "newer": "pip install --upgrade kbsync",
    "foreign": "set store.url to a database of its own",
}


def _when_unreachable(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return "kbsync db restore FILE --force, from a copy; or set store.url to another file"
    return "start the server, or set store.url to one that runs"


def _file(settings: Settings, file: Path, where: str) -> Iterator[Check]:
    """A file that is there: writable, and sound."""
    from kbsync.store import soundness

    found = soundness.damage(settings.store.url, LOOK_S)
    if found is not None:
        then = "kbsync db restore FILE --force, from a copy of kbsync db backup"
        yield Check("store", "fail", f"{where} is damaged: {found}", then)
    elif locked := next((one for one in _files(file) if not os.access(one, os.R_OK | os.W_OK)), None):
        then = f"chown {os.environ.get('USER', 'kbsync')} {locked}"
        yield Check("store", "fail", f"{locked} can't be written by this user", then)
    else:
        yield Check("store", "ok", f"{where}, schema up to date")


def _files(file: Path) -> list[Path]:
    """The store's file and what SQLite keeps beside it."""
    beside = (file.with_name(file.name + end) for end in ("-wal", "-shm"))
    return [file, *(one for one in beside if one.exists())]


def _file_ground(file: Path) -> Iterator[Check]:
    """SQLite itself, and the file system below."""
    from kbsync.store import soundness

    if sqlite3.sqlite_version_info < soundness.OLDEST_SQLITE:
        oldest = ".".join(map(str, soundness.OLDEST_SQLITE))
        text = f"SQLite {sqlite3.sqlite_version} of this Python is older than {oldest}"
        yield Check("sqlite", "fail", text, "use a Python with a newer SQLite, or set store.url to PostgreSQL")
    there = file.parent
    while not there.exists() and there != there.parent:
        there = there.parent
    kind = soundness.file_system(there)
    if kind in soundness.NETWORK:
        text = f"{file} lies on a network file system ({kind}), where SQLite's WAL and its locks do not hold"
        yield Check("store.url", "fail", text, "set store.url to a file on a local disk, or to PostgreSQL")


def server_checks(settings: Settings, url: URL) -> Iterator[Check]:
    """A PostgreSQL server that answers."""
    from kbsync.store import soundness
    from kbsync.sync.clock import now

    yield from judge_server(soundness.server_facts(settings.store.url, now), str(url.database))


def judge_server(facts: ServerFacts, database: str) -> Iterator[Check]:
    """What speaks against a server; a line that says which one it is where nothing does."""
    from kbsync.store import soundness

    well = True
    if facts.encoding != "UTF8":
        text = f"{database} has the encoding {facts.encoding}, which can't hold every label"
        yield Check(
            "encoding", "fail", text, "createdb --encoding=UTF8 --template=template0 NAME, and set store.url"
        )
        well = False
    if facts.version < soundness.OLDEST_SERVER:
        text = f"PostgreSQL {facts.version // 10000} is no longer maintained"
        yield Check("server", "warn", text, f"upgrade to PostgreSQL {soundness.OLDEST_SERVER // 10000} or later")
        well = False
    if facts.read_only:
        text = f"{database} takes no writes: a standby server, or default_transaction_read_only is on"
        yield Check("server", "fail", text, "set store.url to the primary server")
        well = False
    if abs(facts.ahead_s) > SKEW_S:
        way = "ahead of" if facts.ahead_s > 0 else "behind"
        yield Check("server", "warn", f"its clock is {abs(facts.ahead_s):.0f} s {way} this machine's", _CLOCK)
        well = False
    if well:
        yield Check("server", "ok", f"PostgreSQL {facts.version // 10000}, {facts.encoding}, clocks agree")
