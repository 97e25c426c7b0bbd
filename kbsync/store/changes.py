"""The ledger of changes: what each pull found and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from kbsync.facts import Change, ChangeKind, Fact, Value, ValueKind
from kbsync.store.chunks import chunked
from kbsync.store.tables import ChangeRow


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change, the run that found it, and its outcome: `pending`, `baseline`, `edited`, `held: …`, …"""

    id: int
    run_id: int
    at: datetime
    change: Change
    outcome: str


def settle(tx: Session, outcomes: Mapping[Fact, str]) -> int:
    """Write what became of facts into the latest change of each; returns how many rows that moved.

    The latest change of a fact is the one that brought it, or that retired it. A fact that no change names
    is passed over: it has been live since before it was watched.
    """
    latest: dict[Fact, tuple[int, str]] = {}
    for chunk in chunked(sorted({fact.subject for fact in outcomes})):
        for row in tx.scalars(select(ChangeRow).where(ChangeRow.subject.in_(chunk)).order_by(ChangeRow.id)):
            about = row.kind is ChangeKind.RETIRED
            value = _value(row.old_kind, row.old_value) if about else _value(row.new_kind, row.new_value)
            if value is not None:
                latest[Fact(row.subject, row.relation, value)] = row.id, row.outcome
    moved = [
        {"id": latest[fact][0], "outcome": outcome}
        for fact, outcome in outcomes.items()
        if fact in latest and latest[fact][1] != outcome
    ]
    if moved:
        tx.execute(update(ChangeRow), moved)
    return len(moved)


def settle_the_rest(tx: Session, open_facts: Collection[Fact], kept: Mapping[Fact, str] | None = None) -> set[Fact]:
    """Name the outcome of every pending change that the plan makes nothing of; returns the facts of the others.

    A fact that is gone is `retired`, unless it is in `kept`: then its going is held, for the reason there. One that
    is not in `open_facts` (wanted or held) is `not current`: another value, or the one of the baseline, is what the
    plan goes by.
    """
    moved: list[dict[str, object]] = []
    pending: set[Fact] = set()
    waits = ChangeRow.outcome.startswith("held: ") & (ChangeRow.kind == ChangeKind.RETIRED)
    for row in tx.scalars(select(ChangeRow).where((ChangeRow.outcome == "pending") | waits)):
        if row.kind is ChangeKind.RETIRED:
            old = _value(row.old_kind, row.old_value)
            reason = (kept or {}).get(Fact(row.subject, row.relation, old)) if old is not None else None
            outcome = f"held: {reason}" if reason is not None else "retired"
            if row.outcome != outcome:
                moved.append({"id": row.id, "outcome": outcome})
            continue
        value = _value(row.new_kind, row.new_value)
        fact = Fact(row.subject, row.relation, value) if value is not None else None
        if fact is None or fact not in open_facts:
            moved.append({"id": row.id, "outcome": "not current"})
        else:
            pending.add(fact)
    if moved:
        tx.execute(update(ChangeRow), moved)
    return pending


def changes_of(tx: Session, run_id: int | None = None, limit: int | None = None) -> list[StoredChange]:
    """The changes that a run found (or all), newest first."""
    query = select(ChangeRow).order_by(ChangeRow.id.desc())
    if run_id is not None:
        query = query.where(ChangeRow.run_id == run_id)
    if limit is not None:
        query = query.limit(limit)
    return [
        StoredChange(
            id=row.id,
            run_id=row.run_id,
            at=row.at,
            change=Change(
                kind=row.kind,
                subject=row.subject,
                relation=row.relation,
                old=_value(row.old_kind, row.old_value),
                new=_value(row.new_kind, row.new_value),
                statement_id=row.statement_id,
                reason=row.reason,
            ),
            outcome=row.outcome,
        )
        for row in tx.scalars(query)
    ]


def _value(kind: ValueKind | None, text: str | None) -> Value | None:
    return None if kind is None or text is None else Value(kind, text)
