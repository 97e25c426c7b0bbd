"""The ledger of reconciles: how each relation came out, what differed, and which relations a next pass may skip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from kbsync.facts import Divergence, DivergenceKind
from kbsync.store.tables import DivergenceRow, DivergentRow, ReconcileRow, RunRow, RunStatus

COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How one relation came out.

    `outcome` is `complete`, or names why nothing was retired, which `reason` explains. `subjects` and `statements`
    are how many were read; `counts` has every kind of divergence.
    """

    relation: str
    outcome: str
    reason: str | None
    subjects: int
    statements: int
    counts: Mapping[DivergenceKind, int]

    @property
    def complete(self) -> bool:
        """Whether all of the relation was compared, and healed."""
        return self.outcome == COMPLETE


@dataclass(frozen=True, slots=True)
class LastReconcile:
    """The last reconcile that reached its end."""

    run_id: int
    started_at: datetime
    ended_at: datetime | None
    relations: list[Reconciled]

    @property
    def counts(self) -> dict[DivergenceKind, int]:
        """Divergences of all relations, by kind."""
        return {kind: sum(one.counts.get(kind, 0) for one in self.relations) for kind in DivergenceKind}


def save_divergences(tx: Session, run_id: int, at: datetime, relation: str, found: Iterable[Divergence]) -> None:
    """Write down what differed; in the transaction that heals it."""
    rows = [
        {
            "run_id": run_id,
            "relation": relation,
            "kind": one.kind,
            "subject": one.subject,
            "statement_id": one.statement_id,
            "was": one.was,
            "found": one.found,
            "at": at,
        }
        for one in found
    ]
    if rows:
        tx.execute(insert(DivergentRow), rows)


def finish(
    tx: Session,
    run_id: int,
    at: datetime,
    relation: str,
    outcome: str,
    reason: str | None,
    subjects: int,
    statements: int,
) -> Reconciled:
    """A relation is through; its divergences are counted, those of a pass that was cut off included."""
    last = select(func.max(ReconcileRow.run_id)).where(ReconcileRow.relation == relation)
    since = tx.scalar(last) or 0
    query = select(DivergentRow.kind, func.count()).where(
        DivergentRow.relation == relation, DivergentRow.run_id > since
    )
    found = {kind: count for kind, count in tx.execute(query.group_by(DivergentRow.kind))}  # noqa: C416  (Rows)
    counts = {kind: found.get(kind, 0) for kind in DivergenceKind}
    tx.add(
        ReconcileRow(
            run_id=run_id,
            relation=relation,
            outcome=outcome,
            reason=reason,
            subjects=subjects,
            statements=statements,
            ended_at=at,
        )
    )
    tx.flush()
    tx.execute(
        insert(DivergenceRow),
        [{"run_id": run_id, "relation": relation, "kind": kind, "count": n} for kind, n in counts.items()],
    )
    return Reconciled(relation, outcome, reason, subjects, statements, counts)


def done_already(tx: Session) -> dict[str, int]:
    """The relations that passes completed before they were cut off, and the run of each; the next goes on there."""
    last = select(func.max(RunRow.id)).where(RunRow.status == RunStatus.RECONCILED)
    query = select(ReconcileRow.relation, func.max(ReconcileRow.run_id)).where(
        ReconcileRow.run_id > (tx.scalar(last) or 0), ReconcileRow.outcome == COMPLETE
    )
    return {relation: run for relation, run in tx.execute(query.group_by(ReconcileRow.relation))}  # noqa: C416


def latest(tx: Session) -> LastReconcile | None:
    """The last reconcile that reached its end, with what became of its relations."""
    run = tx.scalars(
        select(RunRow).where(RunRow.status == RunStatus.RECONCILED).order_by(RunRow.id.desc()).limit(1)
    ).first()
    if run is None:
        return None
    return LastReconcile(run.id, run.started_at, run.ended_at, of_run(tx, run.id))


def of_run(tx: Session, run_id: int) -> list[Reconciled]:
    """How the relations of one reconcile came out, in their order."""
    counts: dict[str, dict[DivergenceKind, int]] = {}
    for row in tx.scalars(select(DivergenceRow).where(DivergenceRow.run_id == run_id)):
        counts.setdefault(row.relation, {})[row.kind] = row.count
    rows = tx.scalars(select(ReconcileRow).where(ReconcileRow.run_id == run_id).order_by(ReconcileRow.relation))
    return [
        Reconciled(r.relation, r.outcome, r.reason, r.subjects, r.statements, counts.get(r.relation, {}))
        for r in rows
    ]
