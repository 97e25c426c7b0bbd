"""Removing what a survey found, in a write transaction, and the ledger of that."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from kbsync.store.chunks import chunked
from kbsync.store.retention import DETAILS, Survey, superseded
from kbsync.store.tables import (
    CheckpointRequestRow,
    CheckpointRow,
    DaemonRow,
    OutcomeRow,
    PruneRow,
    PublicationRow,
    RunRow,
    TargetRow,
)


def remove_outcomes(tx: Session, run_id: int) -> int:
    """Remove the outcomes of one run that are not the last word on a request that stands."""
    removed = tx.execute(delete(OutcomeRow).where(OutcomeRow.run_id == run_id, superseded()))
    return int(getattr(removed, "rowcount", 0))


def carry_out(tx: Session, found: Survey, at: datetime) -> None:
    """Remove what `survey` found in this very transaction, and mark the checkpoints: their files go next. Of runs
    whose outcomes went before, what has been superseded since goes as well."""
    for run in found.outcomes:
        remove_outcomes(tx, run)
    for chunk in chunked(one.id for one in found.checkpoints):
        tx.execute(update(CheckpointRow).where(CheckpointRow.id.in_(chunk)).values(pruned_at=at))
    if found.checkpoints:
        _thin_live_sets(tx)
    for keys in chunked(one.key for one in found.targets):
        tx.execute(delete(TargetRow).where(TargetRow.z_hash.in_(keys)))
    for chunk in chunked(found.thinned):
        for column in DETAILS:
            tx.execute(delete(column.class_).where(column.in_(chunk)))
        tx.execute(update(RunRow).where(RunRow.id.in_(chunk)).values(settings={}))
    for chunk in chunked(found.runs):
        tx.execute(delete(RunRow).where(RunRow.id.in_(chunk)))
    tx.expire_all()


def forget_daemons(tx: Session, before: datetime) -> None:
    """Remove the rows of daemons that were last heard of before a time, but for the newest."""
    newest = select(func.max(DaemonRow.id)).scalar_subquery()
    tx.execute(delete(DaemonRow).where(DaemonRow.beat_at < before, DaemonRow.id != newest))


def note(tx: Session, by: str, at: datetime, found: Survey) -> int:
    """Write down what was pruned; returns the row's id."""
    statuses: dict[str, int] = {}
    for status in found.runs.values():
        statuses[str(status)] = statuses.get(str(status), 0) + 1
    row = PruneRow(
        at=at,
        by=by,
        checkpoints=len(found.checkpoints),
        outcomes=found.outcome_rows,
        targets=len(found.targets),
        runs=statuses,
        bytes=found.bytes,
    )
    tx.add(row)
    tx.flush()
    return row.id


def last_prune(tx: Session) -> datetime | None:
    """When something was last pruned, or looked for."""
    return tx.scalar(select(PruneRow.at).order_by(PruneRow.id.desc()).limit(1))


def pruned_runs(tx: Session) -> dict[str, int]:
    """How many runs of each status were ever pruned, so that counts of runs never fall."""
    counts: dict[str, int] = {}
    for statuses in tx.scalars(select(PruneRow.runs)):
        for status, number in statuses.items():
            counts[status] = counts.get(status, 0) + number
    return counts


def without_files(tx: Session) -> set[str]:
    """The names of all checkpoints whose files were pruned."""
    return set(tx.scalars(select(CheckpointRow.name).where(CheckpointRow.pruned_at.is_not(None))))


def _thin_live_sets(tx: Session) -> None:
    """Of checkpoints without files, keep of each fact only where it was live first and last: what the views ask."""
    began, ended = func.min(PublicationRow.at), func.max(PublicationRow.ended_at)
    query = select(PublicationRow.checkpoint_id, began, ended, func.count() - func.count(PublicationRow.ended_at))
    spans = {
        one: (begin, is_live > 0, end or begin)
        for one, begin, end, is_live in tx.execute(query.group_by(PublicationRow.checkpoint_id))
    }
    pruned = set(tx.scalars(select(CheckpointRow.id).where(CheckpointRow.pruned_at.is_not(None))))
    holders: dict[int, list[int]] = {}
    rows = select(CheckpointRequestRow.request_id, CheckpointRequestRow.checkpoint_id)
    for request, checkpoint in tx.execute(rows):
        holders.setdefault(request, []).append(checkpoint)
    gone: dict[int, list[int]] = {}
    for request, held_by in holders.items():
        published = [one for one in held_by if one in spans]
        first = min(published, key=lambda one: (spans[one][0], one), default=None)
        last = max(published, key=lambda one: (*spans[one][1:], one), default=None)
        for one in pruned.intersection(held_by) - {first, last, max(published, default=None)}:
            gone.setdefault(one, []).append(request)
    for checkpoint, requests in gone.items():
        for chunk in chunked(sorted(requests)):
            tx.execute(
                delete(CheckpointRequestRow).where(
                    CheckpointRequestRow.checkpoint_id == checkpoint, CheckpointRequestRow.request_id.in_(chunk)
                )
            )
