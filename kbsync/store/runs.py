"""The ledger of runs. At most one runs at a time: its row is the lease that others wait for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from kbsync.errors import LeaseHeld, StoreError
from kbsync.store import leases
from kbsync.store.leases import Fence
from kbsync.store.tables import RunRow, RunStatus, StageRow, TriggerRow

PATIENCE = timedelta(minutes=5)  # a run that another host has not beaten for so long is dead


@dataclass(frozen=True, slots=True)
class Run:
    """One sync as the ledger has it. `refused_hash` is that of the candidate which the gate refused, and of
    what it was judged by, where the refusal stands until something changes."""

    id: int
    trigger: str
    status: RunStatus
    stage: str | None
    reason: str | None
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    ended_at: datetime | None
    base_hash: str | None
    settings_hash: str | None
    settings: Mapping[str, Any]
    refused_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run; `counts` by named outcome."""

    run_id: int
    stage: str
    started_at: datetime
    ended_at: datetime | None
    counts: Mapping[str, Any]


def start_run(
    tx: Session,
    trigger: str,
    at: datetime,
    settings: Mapping[str, Any],
    base_hash: str | None = None,
    settings_hash: str | None = None,
) -> int:
    """Begin a run and take the lease, with an epoch of its own. Raises LeaseHeld while another run holds it."""
    other = running(tx)
    if other is not None:
        raise LeaseHeld(
            f"run {other.id} is running (process {other.pid} on {other.host}, stage {other.stage or 'start'}); "
            "wait for it to end or stop it"
        )
    row = RunRow(
        trigger=trigger,
        status=RunStatus.RUNNING,
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=at,
        beat_at=at,
        base_hash=base_hash,
        settings_hash=settings_hash,
        settings=dict(settings),
        epoch=leases.take(tx, leases.RUN).epoch,
    )
    tx.add(row)
    tx.flush()
    return row.id


def fence(tx: Session, run_id: int) -> Fence:
    """The run's lease as it was taken when the run began. Raises StoreError when there is no such run."""
    row = tx.get(RunRow, run_id)
    if row is None:
        raise StoreError(f"there is no run {run_id}; the view run_summary lists them")
    return Fence(leases.RUN, row.epoch)


def identify(tx: Session, run_id: int, base_hash: str, settings_hash: str) -> None:
    """Add what is known only once the base model is loaded."""
    row = _running_row(tx, run_id)
    row.base_hash, row.settings_hash = base_hash, settings_hash


def note_refusal(tx: Session, run_id: int, judged_hash: str) -> None:
    """The gate refused the candidate of this live set, by these prompts, and would refuse it again. Raises
    StoreError when the run has lost its lease."""
    _running_row(tx, run_id).refused_hash = judged_hash
    tx.flush()


def last_refusal(tx: Session) -> Run | None:
    """The last run whose refusal stands."""
    row = tx.scalars(
        select(RunRow)
        .where(RunRow.status == RunStatus.REJECTED, RunRow.refused_hash.is_not(None))
        .order_by(RunRow.id.desc())
        .limit(1)
    ).first()
    return None if row is None else _run(row)


def beat(tx: Session, run_id: int, at: datetime) -> None:
    """Say that the run is alive. Raises StoreError when it has lost its lease."""
    _running_row(tx, run_id).beat_at = at


def stage_started(tx: Session, run_id: int, stage: str, at: datetime) -> None:
    """Enter a stage. Entering it again starts its clock and counts afresh."""
    run = _running_row(tx, run_id)
    run.stage, run.beat_at = stage, at
    row = tx.get(StageRow, (run_id, stage))
    if row is None:
        tx.add(StageRow(run_id=run_id, stage=stage, started_at=at, counts={}))
    else:
        row.started_at, row.ended_at, row.counts = at, None, {}
    tx.flush()


def stage_finished(tx: Session, run_id: int, stage: str, at: datetime, counts: Mapping[str, Any]) -> None:
    """Leave a stage with its counts. Raises StoreError for a stage that was not entered."""
    row = tx.get(StageRow, (run_id, stage))
    if row is None:
        raise StoreError(f"run {run_id} has not entered the stage {stage}")
    row.ended_at, row.counts = at, dict(counts)
    _running_row(tx, run_id).beat_at = at
    tx.flush()


def finish_run(tx: Session, run_id: int, status: RunStatus, at: datetime, reason: str | None = None) -> None:
    """End the run and give the lease back. Raises StoreError when it is not running."""
    row = _running_row(tx, run_id)
    row.status, row.reason, row.ended_at = RunStatus(status), reason, at
    tx.flush()


def interrupt_stale_runs(
    tx: Session,
    at: datetime,
    alive: Callable[[int], bool] | None = None,
    patience: timedelta = PATIENCE,
    gone: Collection[tuple[str, int]] = (),
) -> list[int]:
    """Mark runs whose process is gone as interrupted and set their triggers free; returns their ids.

    A run is gone when its process is not alive on this host, when it is this very process (which calls this
    before it starts one), when it is one of `gone` (host and process id), or when its heart has not beaten for
    `patience`. A heart that beats further ahead than that beat before the clock was set back. Whoever is taken
    for gone and is not loses the lease: it can't write any more.
    """
    is_alive = alive or process_alive
    stale: list[int] = []
    for row in tx.scalars(select(RunRow).where(RunRow.status == RunStatus.RUNNING)):
        here = row.host == socket.gethostname()
        if here and row.pid == os.getpid():
            reason = "this process started again without ending it"
        elif here and not is_alive(row.pid):
            reason = f"its process {row.pid} is gone"
        elif (row.host, row.pid) in gone:
            reason = f"the daemon of process {row.pid} on {row.host} is gone"
        elif abs(at - row.beat_at) > patience:
            reason = f"no sign of life from process {row.pid} on {row.host} since {row.beat_at.isoformat()}"
        else:
            continue
        row.status, row.reason, row.ended_at = RunStatus.INTERRUPTED, reason, at
        stale.append(row.id)
    if stale:
        leases.take(tx, leases.RUN)
        tx.execute(
            update(TriggerRow)
            .where(TriggerRow.taken_run.in_(stale), TriggerRow.done_at.is_(None))
            .values(taken_run=None)
        )
    tx.flush()
    return stale


def process_alive(pid: int) -> bool:
    """Whether a process of this id runs on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def running(tx: Session) -> Run | None:
    """The run that holds the lease."""
    row = tx.scalars(select(RunRow).where(RunRow.status == RunStatus.RUNNING)).one_or_none()
    return None if row is None else _run(row)


def run_of(tx: Session, run_id: int) -> Run:
    """One run. Raises StoreError when there is none of this id."""
    row = tx.get(RunRow, run_id)
    if row is None:
        raise StoreError(f"there is no run {run_id}; the view run_summary lists them")
    return _run(row)


def runs(tx: Session, limit: int = 20) -> list[Run]:
    """The latest runs, newest first."""
    return [_run(row) for row in tx.scalars(select(RunRow).order_by(RunRow.id.desc()).limit(limit))]


def last_identified(
    tx: Session, statuses: Collection[RunStatus] = tuple(RunStatus), base: str | None = None
) -> Run | None:
    """The last run that has loaded its base model, of these statuses; with `base` of those with this `model.base`.

    However many came after it: runs that find nothing to do load none."""
    query = select(RunRow).where(RunRow.base_hash.is_not(None), RunRow.status.in_(statuses))
    if base is not None:
        query = query.where(RunRow.settings["model"]["base"].as_string() == base)
    row = tx.scalars(query.order_by(RunRow.id.desc()).limit(1)).first()
    return None if row is None else _run(row)


def first_started(tx: Session) -> datetime | None:
    """When the first run of all began."""
    return tx.scalar(select(RunRow.started_at).order_by(RunRow.id).limit(1))


def last_started(tx: Session, ended: Collection[RunStatus], besides: str) -> datetime | None:
    """When the last run that ended in one of these ways began, leaving out those of one trigger."""
    return tx.scalar(
        select(RunRow.started_at)
        .where(RunRow.status.in_(ended), RunRow.trigger != besides)
        .order_by(RunRow.id.desc())
        .limit(1)
    )


def stages(tx: Session, run_id: int) -> Sequence[Stage]:
    """The run's stages in the order in which they were entered."""
    rows = tx.scalars(
        select(StageRow).where(StageRow.run_id == run_id).order_by(StageRow.started_at, StageRow.stage)
    )
    return [Stage(r.run_id, r.stage, r.started_at, r.ended_at, r.counts) for r in rows]


def _running_row(tx: Session, run_id: int) -> RunRow:
    row = tx.get(RunRow, run_id)
    if row is None or row.status is not RunStatus.RUNNING:
        state = "does not exist" if row is None else f"is {row.status}"
        raise StoreError(f"run {run_id} {state} and can't go on; start another")
    return row


def _run(row: RunRow) -> Run:
    return Run(
        id=row.id,
        trigger=row.trigger,
        status=row.status,
        stage=row.stage,
        reason=row.reason,
        host=row.host,
        pid=row.pid,
        started_at=row.started_at,
        beat_at=row.beat_at,
        ended_at=row.ended_at,
        base_hash=row.base_hash,
        settings_hash=row.settings_hash,
        settings=row.settings,
        refused_hash=row.refused_hash,
    )
