"""Requests that a bisection keeps out of the live set, until they are released, and the trials behind that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.facts import Fact, Value
from kbsync.store.chunks import chunked
from kbsync.store.outcomes import Verdict
from kbsync.store.requests import StoredRequest
from kbsync.store.standing import by_ids
from kbsync.store.tables import KeptOut, QuarantineRow, TrialRequestRow, TrialRow, TrialVerdictRow


@dataclass(frozen=True, slots=True)
class Evidence:
    """The rule that a request breaks: its value with the request and without it; None was not measured."""

    metric: str
    value_with: float | None
    value_without: float | None
    comparison: str
    threshold: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate of a bisection, as it was judged. `requests` are the ids of the new ones in it."""

    number: int
    facts: int
    requests: tuple[int, ...]
    passed: bool
    seconds: float
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A request that is or was kept out. `id` is the row's."""

    id: int
    request_id: int
    content_hash: str
    fact: Fact
    kind: KeptOut
    run_id: int
    reason: str
    released_at: datetime | None


def save_trial(tx: Session, run_id: int, at: datetime, trial: Trial) -> None:
    """Keep a trial. A run that bisects a second time goes on counting: the number must be new."""
    key = {"run_id": run_id, "number": trial.number}
    tx.add(
        TrialRow(
            **key, facts=trial.facts, new=len(trial.requests), passed=trial.passed, at=at, seconds=trial.seconds
        )
    )
    tx.flush()
    for chunk in chunked(trial.requests):
        tx.execute(insert(TrialRequestRow), [{**key, "request_id": one} for one in chunk])
    tx.add_all(
        TrialVerdictRow(
            **key,
            metric=one.metric,
            value=one.value,
            comparison=one.comparison,
            threshold=one.threshold,
            passed=one.passed,
        )
        for one in trial.verdicts
    )
    tx.flush()


def trials_of(tx: Session, run_id: int) -> list[Trial]:
    """The trials of a run's bisections, in their order."""
    requests: dict[int, list[int]] = {}
    members = select(TrialRequestRow).where(TrialRequestRow.run_id == run_id).order_by(TrialRequestRow.request_id)
    for member in tx.scalars(members):
        requests.setdefault(member.number, []).append(member.request_id)
    verdicts: dict[int, list[Verdict]] = {}
    rules = select(TrialVerdictRow).where(TrialVerdictRow.run_id == run_id).order_by(TrialVerdictRow.metric)
    for one in tx.scalars(rules):
        verdict = Verdict(one.metric, one.value, one.threshold, one.comparison, one.passed)
        verdicts.setdefault(one.number, []).append(verdict)
    rows = tx.scalars(select(TrialRow).where(TrialRow.run_id == run_id).order_by(TrialRow.number))
    return [
        Trial(
            row.number,
            row.facts,
            tuple(requests.get(row.number, ())),
            row.passed,
            row.seconds,
            tuple(verdicts.get(row.number, ())),
        )
        for row in rows
    ]


def keep_out(
    tx: Session,
    run_id: int,
    at: datetime,
    base_hash: str,
    kind: KeptOut,
    found: Iterable[tuple[StoredRequest, str, Evidence | None]],
) -> None:
    """Keep requests out, each for its reason. One that is kept out already on this base model is kept out by the
    new word alone."""
    told = list(found)
    _release(tx, _open(tx, base_hash, [stored.id for stored, _, _ in told]), at, f"run {run_id}")
    for stored, reason, evidence in told:
        fact = stored.request.fact
        row = QuarantineRow(
            request_id=stored.id,
            content_hash=stored.request.content_hash,
            subject=fact.subject,
            relation=fact.relation,
            value_kind=fact.value.kind,
            value=fact.value.text,
            base_hash=base_hash,
            kind=kind,
            run_id=run_id,
            at=at,
            reason=reason,
        )
        if evidence is not None:
            row.metric, row.comparison, row.threshold = evidence.metric, evidence.comparison, evidence.threshold
            row.value_with, row.value_without = evidence.value_with, evidence.value_without
        tx.add(row)
    tx.flush()


def _open(tx: Session, base_hash: str, ids: Iterable[int]) -> list[QuarantineRow]:
    found: list[QuarantineRow] = []
    for chunk in chunked(sorted(set(ids))):
        found += tx.scalars(
            select(QuarantineRow).where(
                QuarantineRow.released_at.is_(None),
                QuarantineRow.base_hash == base_hash,
                QuarantineRow.request_id.in_(chunk),
            )
        )
    return found


def kept_out(tx: Session, base_hash: str) -> dict[str, KeptOut]:
    """What is kept out on a base model: the kind, by content hash."""
    rows = tx.scalars(
        select(QuarantineRow).where(QuarantineRow.released_at.is_(None), QuarantineRow.base_hash == base_hash)
    )
    return {row.content_hash: row.kind for row in rows}


def counted(tx: Session) -> dict[KeptOut, int]:
    """How many requests are kept out, by kind, on whichever base model."""
    rows = tx.execute(
        select(QuarantineRow.kind, func.count())
        .where(QuarantineRow.released_at.is_(None))
        .group_by(QuarantineRow.kind)
    )
    return dict(sorted((kind, number) for kind, number in rows))


def of_run(tx: Session, run_id: int) -> list[Quarantine]:
    """What a run has kept out, released since or not, in the order in which it was found."""
    rows = tx.scalars(select(QuarantineRow).where(QuarantineRow.run_id == run_id).order_by(QuarantineRow.id))
    return [_quarantine(row) for row in rows]


def release(tx: Session, ids: Collection[int], at: datetime, by: str) -> list[Quarantine]:
    """Let requests in again: the next plan wants them. Raises ConfigError where one of the ids is not kept out."""
    rows = by_ids(tx, QuarantineRow, QuarantineRow.released_at, ids, "nothing is kept out as q")
    _release(tx, rows, at, by)
    return [_quarantine(row) for row in rows]


def release_run(tx: Session, run_id: int, at: datetime, by: str) -> list[Quarantine]:
    """Let in again all that a run keeps out. Raises ConfigError where that is nothing."""
    query = select(QuarantineRow).where(QuarantineRow.run_id == run_id, QuarantineRow.released_at.is_(None))
    rows = tx.scalars(query.order_by(QuarantineRow.id)).all()
    if not rows:
        raise ConfigError(f"run {run_id} keeps nothing out; `kbsync held` lists what is kept out")
    _release(tx, rows, at, by)
    return [_quarantine(row) for row in rows]


def let_in_left_out(tx: Session, at: datetime, by: str) -> int:
    """The run is over: what was left out of it may be tried by the next one. Returns how many there are."""
    query = select(QuarantineRow).where(QuarantineRow.kind == KeptOut.LEFT_OUT, QuarantineRow.released_at.is_(None))
    rows = tx.scalars(query).all()
    _release(tx, rows, at, by)
    return len(rows)


def _release(tx: Session, rows: Sequence[QuarantineRow], at: datetime, by: str) -> None:
    for row in rows:
        row.released_at, row.released_by = at, by
    tx.flush()


def _quarantine(row: QuarantineRow) -> Quarantine:
    fact = Fact(row.subject, row.relation, Value(row.value_kind, row.value))
    return Quarantine(
        row.id, row.request_id, row.content_hash, fact, row.kind, row.run_id, row.reason, row.released_at
    )
