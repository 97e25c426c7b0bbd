"""What each edit did: outcomes per prompt, metrics per run, and the gate's verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.orm import Session

from kbsync.facts import Outcome, Phase
from kbsync.store.chunks import chunked
from kbsync.store.tables import MetricRow, OutcomeRow, RequestRow, RunRow, VerdictRow


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of one run, over `count` prompts or tokens. `phase`: `before` or `after`."""

    name: str
    phase: str
    value: float
    count: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule of the gate. `comparison` is `≥` or `≤`; `value` is None where nothing could be measured."""

    metric: str
    value: float | None
    threshold: float | None
    comparison: str
    passed: bool
    reason: str | None = None


def save_outcomes(tx: Session, run_id: int, outcomes: Sequence[Outcome], request_ids: Mapping[str, int]) -> None:
    """Store outcomes of one run; `request_ids` maps content hashes to requests.

    What the run had stored of the same requests and phases is replaced, so an evaluation that is repeated
    leaves its last word. Raises KeyError for a content hash that is not in the map.
    """
    for phase in Phase:
        ids = {request_ids[one.content_hash] for one in outcomes if one.phase is phase}
        for chunk in chunked(sorted(ids)):
            tx.execute(
                delete(OutcomeRow).where(
                    OutcomeRow.run_id == run_id,
                    OutcomeRow.phase == phase,
                    OutcomeRow.request_id.in_(chunk),
                )
            )
    if outcomes:
        tx.execute(insert(OutcomeRow), [_row(run_id, request_ids[one.content_hash], one) for one in outcomes])


def forget_outcomes(tx: Session, run_id: int) -> None:
    """Remove what the run has stored so far: it evaluates another live set."""
    tx.execute(delete(OutcomeRow).where(OutcomeRow.run_id == run_id))


def _row(run_id: int, request_id: int, one: Outcome) -> dict[str, object]:
    return {
        "run_id": run_id,
        "request_id": request_id,
        "phase": one.phase,
        "kind": one.kind,
        "idx": one.index,
        "prompt": one.prompt,
        "target_new": one.target_new,
        "target_old": one.target_old,
        "logp_new": one.logp_new,
        "logp_old": one.logp_old,
        "p_new": math.exp(one.logp_new),
        "p_old": None if one.logp_old is None else math.exp(one.logp_old),
        "success": one.success,
        "accuracy": one.accuracy,
        "said": one.said,
    }


def outcomes_of(tx: Session, run_id: int, phase: Phase | None = None) -> list[Outcome]:
    """All outcomes that a run measured, by request, phase, kind and index."""
    query = _query().where(OutcomeRow.run_id == run_id)
    if phase is not None:
        query = query.where(OutcomeRow.phase == phase)
    return [_outcome(row, content_hash) for row, content_hash in tx.execute(query)]


def latest_outcomes(
    tx: Session, request_ids: Iterable[int], phase: Phase, base_hash: str
) -> dict[int, list[Outcome]]:
    """Each request's outcomes, per prompt kind of the last run on this base model that measured it.

    What the base model says does not change: a BEFORE whose prompts are the same need not be measured again.
    """
    found: dict[int, list[Outcome]] = {}
    for chunk in chunked(sorted(set(request_ids))):
        latest = (
            select(OutcomeRow.request_id, OutcomeRow.kind, func.max(OutcomeRow.run_id).label("run_id"))
            .join(RunRow, RunRow.id == OutcomeRow.run_id)
            .where(
                OutcomeRow.request_id.in_(chunk),
                OutcomeRow.phase == phase,
                RunRow.base_hash == base_hash,
            )
            .group_by(OutcomeRow.request_id, OutcomeRow.kind)
            .subquery()
        )
        query = (
            _query()
            .join(
                latest,
                (latest.c.request_id == OutcomeRow.request_id)
                & (latest.c.kind == OutcomeRow.kind)
                & (latest.c.run_id == OutcomeRow.run_id),
            )
            .where(OutcomeRow.phase == phase)
        )
        for row, content_hash in tx.execute(query):
            found.setdefault(row.request_id, []).append(_outcome(row, content_hash))
    return found


def _query() -> Select[OutcomeRow, str]:
    return (
        select(OutcomeRow, RequestRow.content_hash)
        .join(RequestRow, RequestRow.id == OutcomeRow.request_id)
        .order_by(OutcomeRow.request_id, OutcomeRow.phase, OutcomeRow.kind, OutcomeRow.idx)
    )


def _outcome(row: OutcomeRow, content_hash: str) -> Outcome:
    return Outcome(
        content_hash=content_hash,
        phase=row.phase,
        kind=row.kind,
        index=row.idx,
        prompt=row.prompt,
        target_new=row.target_new,
        target_old=row.target_old,
        logp_new=math.nan if row.logp_new is None else row.logp_new,
        logp_old=row.logp_old,
        success=row.success,
        accuracy=row.accuracy,
        said=row.said,
    )


def save_metrics(tx: Session, run_id: int, metrics: Sequence[Metric]) -> None:
    """Make these the metrics of the run, in place of what it had."""
    tx.execute(delete(MetricRow).where(MetricRow.run_id == run_id))
    tx.add_all(
        MetricRow(run_id=run_id, name=one.name, phase=one.phase, value=one.value, count=one.count)
        for one in metrics
    )
    tx.flush()


def add_metrics(tx: Session, run_id: int, metrics: Sequence[Metric]) -> None:
    """Add these to the metrics of the run, in place of those of the same names and phases."""
    for one in metrics:
        row = tx.get(MetricRow, (run_id, one.name, one.phase))
        if row is None:
            tx.add(MetricRow(run_id=run_id, name=one.name, phase=one.phase, value=one.value, count=one.count))
        else:
            row.value, row.count = one.value, one.count
    tx.flush()


def metrics_of(tx: Session, run_id: int) -> list[Metric]:
    """The run's metrics, by name and phase."""
    rows = tx.scalars(select(MetricRow).where(MetricRow.run_id == run_id).order_by(MetricRow.name, MetricRow.phase))
    return [Metric(row.name, row.phase, math.nan if row.value is None else row.value, row.count) for row in rows]


def save_verdicts(tx: Session, run_id: int, verdicts: Sequence[Verdict]) -> None:
    """Make these the gate's verdicts on the run, in place of what it had."""
    tx.execute(delete(VerdictRow).where(VerdictRow.run_id == run_id))
    tx.add_all(
        VerdictRow(
            run_id=run_id,
            metric=one.metric,
            value=one.value,
            threshold=one.threshold,
            comparison=one.comparison,
            passed=one.passed,
            reason=one.reason,
        )
        for one in verdicts
    )
    tx.flush()


def verdicts_of(tx: Session, run_id: int) -> list[Verdict]:
    """The gate's verdicts on the run, in the order in which they were saved."""
    rows = tx.scalars(select(VerdictRow).where(VerdictRow.run_id == run_id).order_by(VerdictRow.id))
    return [Verdict(row.metric, row.value, row.threshold, row.comparison, row.passed, row.reason) for row in rows]
