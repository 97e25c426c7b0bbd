"""Requests for a run, from any process that can reach the store to the daemon that works them off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from kbsync.errors import StoreError
from kbsync.store.tables import TriggerRow, Wants


@dataclass(frozen=True, slots=True)
class Trigger:
    """Somebody asked for a run. `taken_run` is the run that answers it, `done_at` when that run ended."""

    id: int
    requested_at: datetime
    requested_by: str
    taken_run: int | None
    done_at: datetime | None
    wants: Wants


def request(tx: Session, by: str, at: datetime, wants: Wants = Wants.SYNC) -> int:
    """Ask for a run; returns the trigger's id, to follow it by."""
    row = TriggerRow(requested_at=at, requested_by=by, wants=wants)
    tx.add(row)
    tx.flush()
    return row.id


def waiting(tx: Session) -> list[Trigger]:
    """The triggers that no run has taken, oldest first."""
    rows = tx.scalars(select(TriggerRow).where(TriggerRow.taken_run.is_(None)).order_by(TriggerRow.id))
    return [_trigger(row) for row in rows]


def take(tx: Session, run_id: int, wants: Wants = Wants.SYNC) -> list[int]:
    """Answer all waiting triggers of a kind with this run: it starts later than any of them. Returns their ids."""
    ids = [one.id for one in waiting(tx) if one.wants is wants]
    tx.execute(
        update(TriggerRow).where(TriggerRow.taken_run.is_(None), TriggerRow.wants == wants).values(taken_run=run_id)
    )
    return ids


def finish(tx: Session, run_id: int, at: datetime) -> None:
    """The run that took them has ended, however it did."""
    tx.execute(
        update(TriggerRow).where(TriggerRow.taken_run == run_id, TriggerRow.done_at.is_(None)).values(done_at=at)
    )


def find(tx: Session, trigger_id: int) -> Trigger | None:
    """How one trigger stands; None when there is none of this id."""
    row = tx.get(TriggerRow, trigger_id, populate_existing=True)
    return None if row is None else _trigger(row)


def state(tx: Session, trigger_id: int) -> Trigger:
    """How one trigger stands. Raises StoreError when there is none of this id."""
    found = find(tx, trigger_id)
    if found is None:
        raise StoreError(f"there is no trigger {trigger_id}")
    return found


def _trigger(row: TriggerRow) -> Trigger:
    return Trigger(row.id, row.requested_at, row.requested_by, row.taken_run, row.done_at, row.wants)
