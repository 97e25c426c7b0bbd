"""How far the first pull of each relation has come: what lets one that was cut off go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.facts import Cursor
from kbsync.store.tables import BackfillRow, CursorRow


@dataclass(frozen=True, slots=True)
class Backfill:
    """One first pull. `after` is the IRI of the last subject read, `key` the filter's; `done`: it has read all."""

    relation: str
    key: str
    after: str
    subjects: int
    pages: int
    done: bool


def backfills(tx: Session) -> dict[str, Backfill]:
    """All of them, by relation."""
    return {row.relation: _backfill(row) for row in tx.scalars(select(BackfillRow).order_by(BackfillRow.relation))}


def backfill(tx: Session, relation: str) -> Backfill | None:
    """The relation's, or None where none was ever begun (or by a program that did not write it down)."""
    row = tx.get(BackfillRow, relation)
    return None if row is None else _backfill(row)


def filter_key(tx: Session, relation: str) -> str | None:
    """The key of the filter that the relation's rows were chosen by; None where nothing was ever read."""
    row = tx.get(BackfillRow, relation)
    if row is not None:
        return row.filter_key
    return None if tx.get(CursorRow, relation) is None else ""


def is_complete(tx: Session, relation: str, key: str) -> bool:
    """Whether all of the relation was read that the filter with this key chooses."""
    tail = tx.get(CursorRow, relation)
    return tail is not None and tail.complete_at is not None and filter_key(tx, relation) == key


def begin(
    tx: Session,
    run_id: int,
    relation: str,
    key: str,
    cursor: Cursor | None,
    at: datetime,
    complete: bool = False,
) -> Backfill:
    """Begin with the first subject. The tail begins with it: at `cursor`, unless it has got further already.

    `complete`: there was nothing to read the last time, so what is found now is new.
    """
    row = tx.get(BackfillRow, relation)
    if row is None:
        row = BackfillRow(relation=relation)
        tx.add(row)
    row.filter_key, row.after, row.subjects, row.pages = key, "", 0, 0
    row.begun_at, row.done_at, row.updated_run = at, None, run_id
    tail = tx.get(CursorRow, relation)
    if tail is None:
        tail = CursorRow(relation=relation, updated_run=run_id)
        tx.add(tail)
    tail.complete_at = tail.complete_at if complete else None
    if tail.modified is None and cursor is not None:
        tail.modified, tail.item, tail.updated_run = cursor.modified, cursor.item, run_id
    tx.flush()
    return _backfill(row)


def advance(tx: Session, run_id: int, relation: str, after: str, subjects: int) -> None:
    """One page more was read, up to the IRI `after`; in the page's own transaction."""
    row = tx.get_one(BackfillRow, relation)
    row.after, row.updated_run = after, run_id
    row.subjects += subjects
    row.pages += 1


def finish(tx: Session, run_id: int, relation: str, key: str, at: datetime, subjects: int | None = None) -> None:
    """All is read. `subjects` are told by a load, which has no cursor of its own."""
    row = tx.get(BackfillRow, relation)
    if row is None:
        row = BackfillRow(relation=relation, after="", subjects=0, pages=0, begun_at=at)
        tx.add(row)
    if subjects is not None:
        row.subjects = subjects
    row.filter_key, row.done_at, row.updated_run = key, at, run_id
    tx.flush()


def forget(tx: Session, relation: str) -> None:
    """A load takes over: neither the first pull under way nor its tail counts, since both may be past the dump."""
    row, tail = tx.get(BackfillRow, relation), tx.get(CursorRow, relation)
    if row is not None:
        tx.delete(row)
    if tail is not None:
        tail.modified, tail.item = None, None
    tx.flush()


def _backfill(row: BackfillRow) -> Backfill:
    return Backfill(row.relation, row.filter_key, row.after, row.subjects, row.pages, row.done_at is not None)
