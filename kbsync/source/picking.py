"""Which subjects a relation has, in the order of their IRIs: many at once, to be read page by page.

Choosing the next subjects is what costs an endpoint most, since it sorts all that follow; so one query picks for
many pages. Their statements are asked for by id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from kbsync.errors import BadAnswer
from kbsync.facts import Subjects, is_entity_id
from kbsync.settings import SourceSettings
from kbsync.source import queries
from kbsync.source.client import SparqlClient
from kbsync.source.paging import chunks, select_page
from kbsync.source.subjects import pattern_of

PAGES = 20  # that one query picks subjects for


@dataclass(frozen=True, slots=True)
class Picked:
    """Subjects of one page. `after`: the IRI that the next page begins behind; `others`: keys that name no item."""

    items: tuple[str, ...]
    after: str
    others: int


def pick(
    client: SparqlClient, relation: str, subjects: Subjects, settings: SourceSettings, most: int, after: str = ""
) -> Iterator[Picked]:
    """All subjects of `relation` behind the IRI `after`, in pages of at most `most`.

    Only an empty answer is the end: a short one can be an endpoint that gives fewer rows than it was asked for.
    Raises BadAnswer when an answer does not go on from the one before.
    """
    chosen = pattern_of(subjects)
    while True:
        query = partial(_next, relation, after, chosen)
        rows, _ = select_page(client, settings.page_size, query)
        keys = sorted({row["item"].value for row in rows if "item" in row})
        if not keys:
            return
        if keys[0] <= after:
            raise BadAnswer(f"{settings.endpoint} gives a page of {relation} that does not go on after {after}")
        for page in chunks(keys, most):
            ids = [key.removeprefix(queries.ENTITY) for key in page if key.startswith(queries.ENTITY)]
            items = tuple(one for one in ids if one.startswith("Q") and is_entity_id(one))
            yield Picked(items, page[-1], len(page) - len(items))
        after = keys[-1]


def _next(relation: str, after: str, chosen: str, rows: int) -> str:
    return queries.next_subjects(relation, after, rows * PAGES, chosen)
