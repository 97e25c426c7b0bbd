"""What the ledger can do without. `prunes` removes it.

What the live model, a rollback, or the rebuild of a checkpoint that has its files needs is never among it, and
neither is the history of Wikidata: changes, facts, statements, verdicts. The views answer as before, but for the
measured columns of requests that are withdrawn and for runs that are gone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Text, cast, exists, func, select
from sqlalchemy.orm import Session, aliased

from kbsync.store import checkpoints
from kbsync.store.checkpoints import Checkpoint
from kbsync.store.chunks import chunked
from kbsync.store.limits import Limits, Thing, beyond
from kbsync.store.tables import (
    Base,
    CheckpointRequestRow,
    CheckpointRow,
    CheckpointStatus,
    DivergenceRow,
    DivergentRow,
    MetricRow,
    OutcomeRow,
    PublicationRow,
    QuarantineRow,
    ReconcileRow,
    RequestRow,
    RequestStatus,
    RunRow,
    RunStatus,
    StageRow,
    TargetRow,
    TrialRequestRow,
    TrialRow,
    TrialVerdictRow,
    TriggerRow,
    TrustDecisionRow,
    TrustQuestionRow,
    VerdictRow,
)

_JUDGED = 200  # the newest candidates, from which the room of the model is estimated
_TARGET_BYTES, _OUTCOME_BYTES, _RUN_BYTES = 400, 150, 600  # a row without its long columns, about

# Rows that only tell of one run: they go with it.
DETAILS = (
    StageRow.run_id,
    MetricRow.run_id,
    VerdictRow.run_id,
    DivergenceRow.run_id,
    DivergentRow.run_id,
    ReconcileRow.run_id,
    TrustQuestionRow.run_id,
    TrialRequestRow.run_id,
    TrialVerdictRow.run_id,
    TrialRow.run_id,
    TriggerRow.taken_run,
)
_DETAIL_TABLES = {column.class_.__tablename__ for column in DETAILS}


@dataclass(frozen=True, slots=True)
class Retention:
    """The limits of each kind."""

    checkpoints: Limits
    outcomes: Limits
    targets: Limits
    runs: Limits


@dataclass(frozen=True, slots=True)
class Survey:
    """What is beyond its limits. `outcomes` has rows and bytes by run; of the runs in `thinned` the details go, of
    those in `runs` the row too."""

    checkpoints: tuple[Checkpoint, ...] = ()
    outcomes: dict[int, tuple[int, int]] = field(default_factory=dict)
    targets: tuple[Thing[str], ...] = ()
    thinned: tuple[int, ...] = ()
    runs: dict[int, RunStatus] = field(default_factory=dict)
    run_bytes: int = 0

    @property
    def outcome_rows(self) -> int:
        """How many outcomes go."""
        return sum(rows for rows, _ in self.outcomes.values())

    @property
    def bytes(self) -> int:
        """What it frees, on disk and in the database; the second is an estimate."""
        rows = sum(size for _, size in self.outcomes.values()) + sum(one.bytes for one in self.targets)
        return sum(one.bytes for one in self.checkpoints) + rows + self.run_bytes


def survey(
    tx: Session, keep: Retention, at: datetime, outcomes: dict[int, tuple[int, int]] | None = None
) -> Survey:
    """What could go now. Reads only. `outcomes` is what `outcomes_beyond` found before, where it was asked: to find
    them reads the most."""
    held = _needed_checkpoints(tx)
    gone = _checkpoints(tx, keep.checkpoints, at, held)
    evaluations = _evaluations(tx, held)
    if outcomes is None:
        outcomes = _outcomes(tx, keep.outcomes, at, evaluations)
    targets = _targets(tx, keep.targets, at, {one.id for one in gone})
    thinned, runs, size = _runs(tx, keep.runs, at, evaluations, outcomes, targets)
    return Survey(tuple(gone), outcomes, tuple(targets), tuple(thinned), runs, size)


def outcomes_beyond(tx: Session, keep: Retention, at: datetime) -> dict[int, tuple[int, int]]:
    """The part of a survey that is about outcomes: their rows and bytes, by run. Reads only."""
    return _outcomes(tx, keep.outcomes, at, _evaluations(tx, _needed_checkpoints(tx)))


def _evaluations(tx: Session, held: Collection[int]) -> set[int]:
    """The runs that measured these checkpoints."""
    return set(tx.scalars(select(CheckpointRow.run_id).where(CheckpointRow.id.in_(held))))


def _needed_checkpoints(tx: Session) -> set[int]:
    """The live one, what a rollback brings back, the last one that was refused (it need not be built again), and
    the candidate of a run under way."""
    live, back = checkpoints.live(tx), checkpoints.rollback_target(tx)
    found = {live.checkpoint.id} if live is not None and live.checkpoint is not None else set()
    found |= {back} if back is not None else set()
    refused = select(func.max(CheckpointRow.id)).where(CheckpointRow.status == CheckpointStatus.REJECTED)
    found |= {one for one in [tx.scalar(refused)] if one is not None}
    running = select(RunRow.id).where(RunRow.status == RunStatus.RUNNING)
    return found | set(tx.scalars(select(CheckpointRow.id).where(CheckpointRow.run_id.in_(running))))


def _checkpoints(tx: Session, limits: Limits, at: datetime, needed: Collection[int]) -> list[Checkpoint]:
    last = select(PublicationRow.checkpoint_id, func.max(PublicationRow.ended_at)).group_by(
        PublicationRow.checkpoint_id
    )
    ended = {one: time for one, time in tx.execute(last)}  # noqa: C416  (a Row is not a tuple to mypy)
    known = {one.id: one for one in checkpoints.checkpoints(tx) if one.pruned_at is None}
    things = [
        Thing(one.id, max(one.created_at, ended.get(one.id) or one.created_at), one.bytes, one.id in needed)
        for one in known.values()
    ]
    return [known[one.key] for one in beyond(things, limits, at)]


def superseded() -> ColumnElement[bool]:
    """Whether an outcome is not the last of its kind and phase on its request, or the request is withdrawn."""
    later = aliased(OutcomeRow)
    newer = exists().where(
        later.request_id == OutcomeRow.request_id,
        later.phase == OutcomeRow.phase,
        later.kind == OutcomeRow.kind,
        later.run_id > OutcomeRow.run_id,
    )
    withdrawn = exists().where(RequestRow.id == OutcomeRow.request_id, RequestRow.status == RequestStatus.WITHDRAWN)
    return newer | withdrawn


def _outcomes(tx: Session, limits: Limits, at: datetime, needed: Collection[int]) -> dict[int, tuple[int, int]]:
    size = _OUTCOME_BYTES + func.length(OutcomeRow.prompt) + func.coalesce(func.length(OutcomeRow.said), 0)
    sizes = select(OutcomeRow.run_id, func.sum(size)).group_by(OutcomeRow.run_id).subquery()
    rows = tx.execute(select(RunRow.id, RunRow.started_at, sizes.c[1]).join(sizes, sizes.c.run_id == RunRow.id))
    gone = beyond((Thing(run, time, int(total), run in needed) for run, time, total in rows), limits, at)
    found: dict[int, tuple[int, int]] = {}
    for chunk in chunked(one.key for one in gone):
        counted = select(OutcomeRow.run_id, func.count(), func.sum(size)).where(
            OutcomeRow.run_id.in_(chunk), superseded()
        )
        for run, number, total in tx.execute(counted.group_by(OutcomeRow.run_id)):
            found[run] = (number, int(total))
    return found


def _targets(tx: Session, limits: Limits, at: datetime, gone: Collection[int]) -> list[Thing[str]]:
    """z that neither a request that stands nor a checkpoint with its files needs; old from when it was last wanted.

    A z of another base model than those of the checkpoints and of the last run is no longer of use.
    """
    wanted: set[str] = set()
    used: dict[str, datetime] = {}
    for content, status, time in tx.execute(
        select(RequestRow.content_hash, RequestRow.status, RequestRow.updated_at)
    ):
        used[content] = max(used.get(content, time), time)
        if status not in (RequestStatus.WITHDRAWN, RequestStatus.FAILED):
            wanted.add(content)
    kept = {
        one: base
        for one, base in tx.execute(
            select(CheckpointRow.id, CheckpointRow.base_hash).where(CheckpointRow.pruned_at.is_(None))
        )
        if one not in gone
    }
    for chunk in chunked(sorted(kept)):
        held = select(RequestRow.content_hash).join(
            CheckpointRequestRow, CheckpointRequestRow.request_id == RequestRow.id
        )
        wanted.update(tx.scalars(held.where(CheckpointRequestRow.checkpoint_id.in_(chunk))))
    bases = set(kept.values())
    bases.update(
        tx.scalars(
            select(RunRow.base_hash).where(RunRow.base_hash.is_not(None)).order_by(RunRow.id.desc()).limit(1)
        )
    )
    rows = tx.execute(
        select(TargetRow.z_hash, TargetRow.content_hash, TargetRow.base_hash, TargetRow.dim, TargetRow.created_at)
    )
    things = [
        Thing(z, max(made, used.get(content, made)), 4 * dim + _TARGET_BYTES, content in wanted and base in bases)
        for z, content, base, dim, made in rows
    ]
    return beyond(things, limits, at)


def _runs(
    tx: Session,
    limits: Limits,
    at: datetime,
    evaluations: Collection[int],
    outcomes: Collection[int],
    targets: Collection[Thing[str]],
) -> tuple[list[int], dict[int, RunStatus], int]:
    """The runs whose details go, those whose row goes too, and what that frees, about."""
    needed = _needed_runs(tx) | set(evaluations)
    size = func.coalesce(func.length(cast(RunRow.settings, Text)), 0)
    rows = {
        run: (status, time, int(length))
        for run, status, time, length in tx.execute(select(RunRow.id, RunRow.status, RunRow.started_at, size))
    }
    things = (Thing(run, time, length + _RUN_BYTES, run in needed) for run, (_, time, length) in rows.items())
    gone = {one.key: one.bytes for one in beyond(things, limits, at)}
    referenced = _referenced(tx, outcomes, targets)
    staged = set(tx.scalars(select(StageRow.run_id).distinct()))
    deleted = {run: rows[run][0] for run in gone if run not in referenced}
    thinned = [run for run in gone if run in deleted or run in staged or rows[run][2] > len("{}")]
    return thinned, deleted, sum(gone[run] for run in thinned)


def _needed_runs(tx: Session) -> set[int]:
    """Runs that later ones look back at: the last of each kind, those with the newest candidates, those that
    asked and were answered, the last reconcile of each relation, the one whose refusal stands, those that keep
    something out of a base model, and one that is under way."""
    judged = CheckpointRow.status != CheckpointStatus.CANDIDATE
    newest = select(CheckpointRow.run_id).where(judged).order_by(CheckpointRow.id.desc()).limit(_JUDGED)
    queries = (
        select(func.max(RunRow.id)).group_by(RunRow.status, RunRow.trigger),
        select(func.max(RunRow.id)).where(RunRow.base_hash.is_not(None)).group_by(RunRow.status),
        select(func.max(ReconcileRow.run_id)).group_by(ReconcileRow.relation, ReconcileRow.outcome),
        select(func.max(RunRow.id)).where(RunRow.refused_hash.is_not(None)).group_by(RunRow.status),
        select(QuarantineRow.run_id).where(QuarantineRow.released_at.is_(None)),
        select(RunRow.id).where(RunRow.status == RunStatus.RUNNING),
        select(TrustDecisionRow.question_run).where(TrustDecisionRow.question_run.is_not(None)),
        newest,
    )
    return {run for query in queries for run in tx.scalars(query) if run is not None}


def _referenced(tx: Session, outcomes: Collection[int], targets: Collection[Thing[str]]) -> set[int]:
    """The runs that rows which stay refer to."""
    runs = Base.metadata.tables[RunRow.__tablename__]
    found: set[int] = set()
    for table in Base.metadata.sorted_tables:
        if table.name in (*_DETAIL_TABLES, OutcomeRow.__tablename__, TargetRow.__tablename__):
            continue
        for key in table.foreign_keys:
            if key.column.table is runs:
                found.update(one for one in tx.scalars(select(key.parent).distinct()) if one is not None)
    going = {one.key for one in targets}
    found.update(run for z, run in tx.execute(select(TargetRow.z_hash, TargetRow.run_id)) if z not in going)
    measured = select(OutcomeRow.run_id).distinct()
    found.update(set(tx.scalars(measured)) - set(outcomes))
    for chunk in chunked(outcomes):
        found.update(tx.scalars(measured.where(OutcomeRow.run_id.in_(chunk), ~superseded())))
    return found
