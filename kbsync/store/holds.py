"""Facts that the plan holds back, each with a named reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.facts import Fact, Held, Value
from kbsync.store.tables import HoldRow


def save_held(tx: Session, run_id: int, at: datetime, held: Iterable[Held]) -> dict[str, int]:
    """Make the open holds exactly those of this plan; returns how many there are by reason.

    A hold that goes on with the same reason keeps its row. One that ends, or gets another reason, is
    released.
    """
    wanted = {one.fact: one.reason for one in held}
    for row in tx.scalars(select(HoldRow).where(HoldRow.released_at.is_(None))):
        fact = Fact(row.subject, row.relation, Value(row.value_kind, row.value))
        if wanted.get(fact) == row.reason:
            del wanted[fact]
        else:
            row.released_run, row.released_at = run_id, at
    tx.flush()
    tx.add_all(
        HoldRow(
            subject=fact.subject,
            relation=fact.relation,
            value_kind=fact.value.kind,
            value=fact.value.text,
            reason=reason,
            first_run=run_id,
            held_at=at,
        )
        for fact, reason in sorted(wanted.items())
    )
    tx.flush()
    return hold_counts(tx)


def held_now(tx: Session) -> list[Held]:
    """All open holds, in the order of facts."""
    rows = tx.scalars(select(HoldRow).where(HoldRow.released_at.is_(None)))
    return sorted(
        (Held(Fact(r.subject, r.relation, Value(r.value_kind, r.value)), r.reason) for r in rows),
        key=lambda one: one.fact,
    )


def hold_counts(tx: Session) -> dict[str, int]:
    """Open holds by reason."""
    return dict(sorted(Counter(one.reason for one in held_now(tx)).items()))
