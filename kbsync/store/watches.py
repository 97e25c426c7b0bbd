"""The relations that commands have added to those of the config file."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.facts import Subjects, Watch
from kbsync.store.tables import WatchRow


def added(tx: Session) -> dict[str, Watch]:
    """What commands have added, by relation, the oldest first."""
    rows = tx.scalars(select(WatchRow).order_by(WatchRow.added_at, WatchRow.relation))
    return {row.relation: Watch(row.relation, "command", Subjects.from_data(row.filter)) for row in rows}


def add(tx: Session, relation: str, subjects: Subjects, by: str, at: datetime) -> Subjects | None:
    """Watch a relation, or give it another filter; the filter that it had, or None where it is new."""
    row = tx.get(WatchRow, relation)
    if row is None:
        tx.add(WatchRow(relation=relation, filter=subjects.as_data(), added_at=at, added_by=by))
        tx.flush()
        return None
    before = Subjects.from_data(row.filter)
    if before != subjects:
        row.filter = subjects.as_data()
    return before


def remove(tx: Session, relation: str) -> bool:
    """Take a relation back; whether there was one. Its rows stay: the plan no longer goes by them."""
    row = tx.get(WatchRow, relation)
    if row is None:
        return False
    tx.delete(row)
    tx.flush()
    return True
