"""How far the mutation stream was read, what it touched, and what became of its events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.orm import Session

from kbsync.facts import Touch
from kbsync.store.chunks import chunked
from kbsync.store.tables import ReadingRow, StatementRow, StreamOutcomeRow, StreamRow, TouchRow

Key = tuple[str, str]  # relation, item


def position(tx: Session, stream: str) -> str | None:
    """The id of the last event of the stream that is accounted for, or None before the first."""
    row = tx.get(StreamRow, stream)
    return None if row is None else row.last_event_id


def note(
    tx: Session,
    stream: str,
    last_event_id: str | None,
    event_at: datetime | None,
    touches: Mapping[Key, Touch],
    counts: Mapping[str, int],
    at: datetime,
) -> None:
    """Store what some events mean, together with the position behind them: in one transaction, or not at all."""
    row = tx.get(StreamRow, stream)
    if row is None:
        row = StreamRow(stream=stream)
        tx.add(row)
    row.last_event_id, row.updated_at = last_event_id, at
    row.event_at = event_at or row.event_at
    waiting = pending(tx, touches)
    for key, touch in touches.items():
        held = waiting.get(key)
        if held is None:
            tx.add(TouchRow(**asdict(touch)))
        elif (touch.revision, touch.at) >= (held.revision, held.at):
            kept = tx.get_one(TouchRow, key)
            kept.revision, kept.operation = touch.revision, touch.operation
            kept.at, kept.seen_at = touch.at, touch.seen_at
    count(tx, stream, counts)


def count(tx: Session, stream: str, counts: Mapping[str, int]) -> None:
    """Add to the stream's counts by named outcome."""
    for outcome, events in counts.items():
        row = tx.get(StreamOutcomeRow, (stream, outcome))
        if row is None:
            tx.add(StreamOutcomeRow(stream=stream, outcome=outcome, events=events))
        else:
            row.events += events
    tx.flush()


def counts(tx: Session, stream: str) -> dict[str, int]:
    """What became of the stream's events, by named outcome."""
    rows = tx.scalars(select(StreamOutcomeRow).where(StreamOutcomeRow.stream == stream))
    return {row.outcome: row.events for row in sorted(rows, key=lambda row: row.outcome)}


def pending(tx: Session, keys: Collection[Key] | None = None) -> dict[Key, Touch]:
    """The touches that wait to be read; with `keys` those of them only."""
    if keys is None:
        found = list(tx.scalars(select(TouchRow).order_by(TouchRow.relation, TouchRow.item)))
    else:
        found = []
        for chunk in chunked(keys):
            found += tx.scalars(select(TouchRow).where(tuple_(TouchRow.relation, TouchRow.item).in_(chunk)))
    return {(row.relation, row.item): _touch(row) for row in found}


def pending_of(tx: Session, items: Iterable[str]) -> dict[Key, Touch]:
    """The touches of these items that wait to be read."""
    found: dict[Key, Touch] = {}
    for chunk in chunked(dict.fromkeys(items)):
        for row in tx.scalars(select(TouchRow).where(TouchRow.item.in_(chunk))):
            found[row.relation, row.item] = _touch(row)
    return found


def _touch(row: TouchRow) -> Touch:
    return Touch(row.relation, row.item, row.revision, row.operation, row.at, row.seen_at)


def settle(tx: Session, touches: Iterable[Touch]) -> int:
    """Take away touches that were read, unless a later event has touched the item since; returns how many."""
    done = 0
    for touch in touches:
        row = tx.get(TouchRow, (touch.relation, touch.item))
        if row is not None and (row.revision, row.at) == (touch.revision, touch.at):
            tx.delete(row)
            done += 1
    tx.flush()
    return done


def seen_by(tx: Session, at: datetime) -> None:
    """What was seen later than now was seen before the clock was set back: it counts as seen now."""
    tx.execute(update(TouchRow).where(TouchRow.seen_at > at).values(seen_at=at))


def forget(tx: Session, relations: Collection[str]) -> int:
    """Take away the touches of relations that are not among `relations`; returns how many."""
    gone = tx.execute(delete(TouchRow).where(TouchRow.relation.not_in(relations)).returning(TouchRow.item))
    return len(gone.all())


def tracked(tx: Session, items: Iterable[str]) -> dict[str, frozenset[str]]:
    """The relations that each of `items` has live statements of."""
    found: dict[str, set[str]] = defaultdict(set)
    for chunk in chunked(dict.fromkeys(items)):
        rows = tx.execute(
            select(StatementRow.subject, StatementRow.relation)
            .where(StatementRow.subject.in_(chunk), StatementRow.retired_at.is_(None))
            .distinct()
        )
        for subject, relation in rows:
            found[subject].add(relation)
    return {item: frozenset(relations) for item, relations in found.items()}


def read_at(tx: Session, items: Iterable[str]) -> dict[Key, int]:
    """The revision at which each (relation, item) was last read."""
    found: dict[Key, int] = {}
    for chunk in chunked(dict.fromkeys(items)):
        for row in tx.scalars(select(ReadingRow).where(ReadingRow.item.in_(chunk))):
            if row.revision is not None:
                found[row.relation, row.item] = row.revision
    return found
