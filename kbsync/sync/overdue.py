"""Since when each kind of work is waited for, as the store has it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from kbsync.store import prunes, reconciles, runs
from kbsync.store.engine import Store
from kbsync.store.tables import RunStatus
from kbsync.sync.run import STREAM
from kbsync.sync.timetable import Agenda

_ENDED = (RunStatus.PUBLISHED, RunStatus.UNCHANGED, RunStatus.REJECTED, RunStatus.WAITING)


def look_back(store: Store, agenda: Agenda, at: datetime) -> None:
    """Let the agenda count from what was done before this daemon started, also by others. Raises StoreError.

    A sync is due at once where none ever reached its end; full passes count from the first run.
    """
    with store.read() as tx:
        synced, compared = last_sync(tx), last_reconcile(tx)
    if synced is None:
        agenda.sync.wait_until(at)
    else:
        agenda.sync.start(synced)
    agenda.reconcile.start(compared or at)


def last_sync(tx: Session) -> datetime | None:
    """When the last whole run that reached its end began."""
    return runs.last_started(tx, _ENDED, besides=STREAM)


def last_reconcile(tx: Session) -> datetime | None:
    """When the last full pass began; where none ever did, the first run."""
    last = reconciles.latest(tx)
    return last.started_at if last is not None else runs.first_started(tx)


def prune_overdue(store: Store, every: timedelta, at: datetime) -> bool:
    """Whether it is time to prune: never when `every` is 0, else so long after the last time, whoever pruned. One
    that is yet to come was before the clock was set back."""
    if not every:
        return False
    with store.read() as tx:
        last = prunes.last_prune(tx)
    return last is None or not last <= at < last + every
