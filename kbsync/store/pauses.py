"""Pauses of everything that starts by itself: rows, so that they hold across processes and restarts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.store.tables import PauseRow


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing starts by itself from `since` on, until a time or until somebody resumes it."""

    since: datetime
    until: datetime | None
    reason: str
    by: str


def pause(tx: Session, by: str, at: datetime, until: datetime | None, reason: str) -> Pause | None:
    """Pause from now on, in place of a pause that holds; returns that one."""
    before = resume(tx, by, at)
    tx.add(PauseRow(paused_at=at, paused_by=by, until=until, reason=reason))
    tx.flush()
    return before


def resume(tx: Session, by: str, at: datetime) -> Pause | None:
    """End the pause that holds; returns it, or None when there is none."""
    row = _open(tx, at)
    if row is None:
        return None
    row.resumed_at, row.resumed_by = at, by
    tx.flush()
    return _pause(row)


def paused(tx: Session, at: datetime) -> Pause | None:
    """The pause that holds at this time."""
    row = _open(tx, at)
    return None if row is None else _pause(row)


def _open(tx: Session, at: datetime) -> PauseRow | None:
    """The last pause, unless it was ended or its time is over."""
    row = tx.scalars(select(PauseRow).order_by(PauseRow.id.desc()).limit(1)).first()
    if row is None or row.resumed_at is not None or (row.until is not None and row.until <= at):
        return None
    return row


def _pause(row: PauseRow) -> Pause:
    return Pause(row.paused_at, row.until, row.reason, row.paused_by)
