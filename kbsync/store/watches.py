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
    return {row.relation: _watch(row) for row in rows}


def add(
    tx: Session, relation: str, subjects: Subjects | None, by: str, at: datetime, priority: int | None = None
) -> tuple[Watch | None, Watch]:
    """Watch a relation, or give it another filter or priority: what was (None where it is new) and what is.

    None leaves what it has: all subjects and 0 for a new one.
    """
    row = tx.get(WatchRow, relation)
    if row is None:
        row = WatchRow(
            relation=relation,
            filter=(subjects or Subjects()).as_data(),
            priority=priority or 0,
            added_at=at,
            added_by=by,
        )
        tx.add(row)
        tx.flush()
        return None, _watch(row)
    before = _watch(row)
    if subjects is not None and before.subjects != subjects:
        row.filter = subjects.as_data()
    if priority is not None:
        row.priority = priority
    return before, _watch(row)


def _watch(row: WatchRow) -> Watch:
    return Watch(row.relation, "command", Subjects.from_data(row.filter), row.priority)


def remove(tx: Session, relation: str) -> bool:
    """Take a relation back; whether there was one. Its rows stay: the plan no longer goes by them."""
    row = tx.get(WatchRow, relation)
    if row is None:
        return False
    tx.delete(row)
    tx.flush()
    return True
