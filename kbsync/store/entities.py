"""What the source says of items and properties themselves: labels, revisions, times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.facts import Item
from kbsync.store import bulk, states
from kbsync.store.chunks import VALUES, chunked
from kbsync.store.tables import EntityRow


def save(tx: Session, at: datetime, items: Iterable[Item], since: datetime | None = None) -> None:
    """Store what the source says of items and properties.

    Labels that are over become past labels. `since` is the source's time; without it, at the first pull, a
    label that is new to the store counts as one that has always been.

    An item at an older revision than the stored one is ignored: the servers behind the source's balancer
    differ. A label without a revision keeps the revision that is known. An item of which the source has
    nothing (deleted) keeps its last label, so that history can be read.
    """
    latest: dict[str, Item] = {}
    for item in items:
        held = latest.get(item.id)
        if held is None or held.revision is None or (item.revision or -1) >= held.revision:
            latest[item.id] = item
    fresh: list[dict[str, object]] = []
    news: list[dict[str, object]] = []
    over: list[tuple[str, str | None, datetime]] = []
    limit = since or at
    for item, held in _with_held(tx, latest.values()):
        changed_at = min(item.modified or limit, limit)
        if held is None:
            fresh.append({**_entity(item), "seen_at": at})
            if since is not None and item.label is not None:
                over.append((item.id, None, changed_at))
        elif _is_news(item, held):
            if item.label != held.label:
                over.append((item.id, held.label, changed_at))
            told = held if item.revision is None else replace(item, modified=item.modified or held.modified)
            news.append(_entity(replace(told, label=item.label, language=item.language)))
    bulk.insert_rows(tx, EntityRow, fresh)
    bulk.update_rows(tx, EntityRow, news)
    states.note_labels(tx, over)


def _with_held(tx: Session, items: Iterable[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Each of `items` with what the store has of it; each id stands there once."""
    query = select(EntityRow.id, EntityRow.label, EntityRow.language, EntityRow.revision, EntityRow.modified).where(
        EntityRow.id.in_(VALUES)
    )
    for chunk in chunked(items):
        known = {row[0]: Item(*row) for row in tx.execute(query, {VALUES.key: [item.id for item in chunk]})}
        for item in chunk:
            yield item, known.get(item.id)


def _entity(item: Item) -> dict[str, object]:
    return {
        "id": item.id,
        "label": item.label,
        "language": item.language,
        "revision": item.revision,
        "modified": item.modified,
    }


def _is_news(item: Item, held: Item) -> bool:
    """Whether the item tells something that the store does not have, and is not older than what it has."""
    if item.revision is None:
        return item.label is not None and (item.label, item.language) != (held.label, held.language)
    return held.revision is None or (item.revision >= held.revision and item != held)
