"""Touched items → pages: read with the same query, and compared by the same functions, as in every other pull.

An item is only taken once the endpoint shows it at the revision of its event or a later one; before that the
answer may be from before the edit, or from before the item was there, and its touch waits.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

from kbsync.facts import Subjects, Touch
from kbsync.settings import SourceSettings
from kbsync.source.client import SparqlClient
from kbsync.source.mutations import is_settled
from kbsync.source.page import Page
from kbsync.source.paging import CHUNK
from kbsync.source.reader import ALL, read_items


def read_touched(
    client: SparqlClient,
    relation: str,
    touches: Sequence[Touch],
    settings: SourceSettings,
    *,
    known_labels: Container[str] = (),
    subjects: Subjects = ALL,
) -> Iterator[tuple[Page, list[Touch]]]:
    """Pages of the touched items of one relation, each with the touches that it settles.

    Pages carry no cursor: the relation's own tail is not moved by them.
    """
    ordered = sorted(touches, key=lambda touch: touch.item)
    size = min(client.guard.page_size, CHUNK)
    for start in range(0, len(ordered), size):
        chunk = {touch.item: touch for touch in ordered[start : start + size]}
        page = read_items(client, relation, list(chunk), settings, known_labels=known_labels, subjects=subjects)
        shown = {item.id: item.revision for item in page.items}
        settled = [
            touch
            for one, touch in chunk.items()
            if one in page.subjects and is_settled(touch, shown.get(one), page.fates.get(one))
        ]
        yield _only(page, {touch.item for touch in settled}), settled


def _only(page: Page, items: Container[str]) -> Page:
    """The page without the subjects that the endpoint shows as they were before their event."""
    behind = sum(one not in items for one in page.subjects)
    return replace(
        page,
        subjects=tuple(one for one in page.subjects if one in items),
        items=tuple(one for one in page.items if one.id in items),
        statements=tuple(one for one in page.statements if one.subject in items),
        fates={one: fate for one, fate in page.fates.items() if one in items},
        counts={**page.counts, "behind": behind} if behind else page.counts,
    )
