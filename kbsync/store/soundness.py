"""What a store stands on: the server behind it, or the file and its disk. Looks, and changes nothing."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from kbsync.store.connect import parse_url, passing

OLDEST_SQLITE = (3, 35, 0)  # the first with RETURNING
OLDEST_SERVER = 140000  # as PostgreSQL counts: 14; older ones get no corrections any more
MOUNTS = Path("/proc/mounts")
# SQLite's WAL needs memory that its readers and writers share, so all on one machine, and locks that hold
NETWORK = frozenset(
    {
        "9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4",
        "smb3", "smbfs",
    }
)  # fmt: skip

_SERVER = text(
    "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), "
    "pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool, clock_timestamp()"
)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A PostgreSQL server: its version as a number, the database's encoding, whether it takes no writes, and by how
    many seconds its clock is ahead of ours."""

    version: int
    encoding: str
    read_only: bool
    ahead_s: float


def server_facts(url: str, now: Callable[[], datetime]) -> ServerFacts:
    """Ask the server of a store; `now` is our clock. Raises StoreError when it can't be asked."""
    parsed = parse_url(url)
    with passing(parsed) as engine, engine.connect() as connection:
        before = now()
        version, encoding, read_only, clock = connection.execute(_SERVER).one()
        middle = before + (now() - before) / 2
    return ServerFacts(int(version), str(encoding), bool(read_only), (clock - middle).total_seconds())


def damage(url: str, most_s: float) -> str | None:
    """What SQLite's quick_check finds wrong with a store's file; None where that is nothing, and where `most_s`
    seconds were not enough to look at all of it. Raises StoreError when the file can't be opened."""
    parsed = parse_url(url)
    deadline = time.monotonic() + most_s
    with passing(parsed) as engine:
        connection = engine.raw_connection()
        driver = connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        try:
            found = driver.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_INTERRUPT":
                return None
            raise
        finally:
            driver.set_progress_handler(None, 0)
            connection.close()
    return None if found is None or found[0] == "ok" else " ".join(str(found[0]).split())


def file_system(path: Path, mounts: Path | None = None) -> str | None:
    """The type of the file system that a path lies on; None where the machine does not tell."""
    try:
        lines = (mounts or MOUNTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    there, best, found = path.resolve(), -1, None
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1]))  # a blank is \040
        depth = len(point.parts)
        if depth >= best and (there == point or point in there.parents):
            best, found = depth, fields[2]
    return found
