"""How far each item's statements were read: what keeps an older page from overwriting newer rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from kbsync.facts import LONG_AGO, Pulled, Reading
from kbsync.store import bulk
from kbsync.store.chunks import VALUES, chunked
from kbsync.store.tables import ReadingRow


def readings_of(tx: Session, relation: str, items: Iterable[str]) -> dict[str, Reading]:
    """The readings of those of `items` that were ever read for this relation."""
    found: dict[str, Reading] = {}
    query = select(ReadingRow.item, ReadingRow.revision, ReadingRow.at, ReadingRow.absent_at).where(
        ReadingRow.relation == relation, ReadingRow.item.in_(VALUES)
    )
    for chunk in chunked(dict.fromkeys(items)):
        for item, revision, at, absent_at in tx.execute(query, {VALUES.key: chunk}):
            found[item] = Reading(revision, at, absent_at)
    return found


def note(tx: Session, pulled: Pulled) -> set[str]:
    """Merge a page's readings into the stored ones; returns the subjects of which the store knows better."""
    at = pulled.at or LONG_AGO
    seen = {item.id: Reading(item.revision, at) for item in pulled.items}
    seen |= {item: Reading(absent_at=at) for item in pulled.absent}
    known = readings_of(tx, pulled.relation, seen)
    merged = {item: known[item].merged(one) if item in known else one for item, one in seen.items()}
    _write(tx, pulled.relation, merged, known)
    older = {item for item, one in seen.items() if item in known and not known[item].takes(one)}
    return {item for item in older if not known[item].ends(seen[item])}


def touch(tx: Session, relation: str, items: Collection[str], at: datetime) -> None:
    """Items that were read again, at the source's time `at`, with the revision that the store has."""
    for chunk in chunked(items):
        tx.execute(
            update(ReadingRow)
            .where(
                ReadingRow.relation == relation,
                ReadingRow.item.in_(chunk),
                or_(ReadingRow.at.is_(None), ReadingRow.at < at),
            )
            .values(at=at)
        )


def _write(tx: Session, relation: str, merged: dict[str, Reading], known: dict[str, Reading]) -> None:
    new, changed = [], []
    for item, one in merged.items():
        row = {
            "relation": relation,
            "item": item,
            "revision": one.revision,
            "at": one.at,
            "absent_at": one.absent_at,
        }
        if item not in known:
            new.append(row)
        elif known[item] != one:
            changed.append(row)
    bulk.insert_rows(tx, ReadingRow, new)
    bulk.update_rows(tx, ReadingRow, changed)
