"""Daemons and their heartbeats, so that any process can tell whether one answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.errors import StoreError
from kbsync.store.tables import DaemonRow

PATIENCE = timedelta(seconds=60)  # a daemon that has not beaten for so long is gone


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon process. It is up when it has not stopped and its last beat is young."""

    id: int
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    next_run_at: datetime | None
    stopped_at: datetime | None

    def is_up(self, at: datetime, patience: timedelta = PATIENCE) -> bool:
        """Whether it has beaten within `patience` of `at`; a beat that is further ahead was before the clock was
        set back."""
        return self.stopped_at is None and abs(at - self.beat_at) <= patience


def start(tx: Session, host: str, pid: int, at: datetime) -> int:
    """A daemon starts; returns its id."""
    row = DaemonRow(host=host, pid=pid, started_at=at, beat_at=at)
    tx.add(row)
    tx.flush()
    return row.id


def beat(tx: Session, daemon_id: int, at: datetime, next_run_at: datetime | None) -> None:
    """The daemon is alive, and runs next at `next_run_at`."""
    row = _row(tx, daemon_id)
    row.beat_at, row.next_run_at = at, next_run_at
    tx.flush()


def stop(tx: Session, daemon_id: int, at: datetime) -> None:
    """The daemon ends in good order."""
    row = _row(tx, daemon_id)
    row.beat_at, row.next_run_at, row.stopped_at = at, None, at
    tx.flush()


def displace(tx: Session, at: datetime) -> list[Daemon]:
    """Write an end for all daemons that have none: another one takes over. Returns them as they were."""
    rows = list(tx.scalars(select(DaemonRow).where(DaemonRow.stopped_at.is_(None)).order_by(DaemonRow.id)))
    found = [_daemon(row) for row in rows]
    for row in rows:
        row.stopped_at, row.next_run_at = at, None
    tx.flush()
    return found


def latest(tx: Session) -> Daemon | None:
    """The daemon that started last and has not stopped, else the last that has."""
    row = tx.scalars(
        select(DaemonRow).order_by(DaemonRow.stopped_at.is_not(None), DaemonRow.id.desc()).limit(1)
    ).first()
    return None if row is None else _daemon(row)


def up(tx: Session, at: datetime, patience: timedelta = PATIENCE) -> list[Daemon]:
    """All daemons that are up: a start is refused while there is one."""
    rows = tx.scalars(select(DaemonRow).where(DaemonRow.stopped_at.is_(None)).order_by(DaemonRow.id))
    return [one for one in map(_daemon, rows) if one.is_up(at, patience)]


def _row(tx: Session, daemon_id: int) -> DaemonRow:
    row = tx.get(DaemonRow, daemon_id)
    if row is None:
        raise StoreError(f"there is no daemon {daemon_id}")
    return row


def _daemon(row: DaemonRow) -> Daemon:
    return Daemon(row.id, row.host, row.pid, row.started_at, row.beat_at, row.next_run_at, row.stopped_at)
