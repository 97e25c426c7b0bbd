"""What a full pass asks the source: all of a relation, which known items have it, which statements are gone."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from functools import partial

from kbsync.errors import BadAnswer
from kbsync.settings import SourceSettings
from kbsync.source import parse, queries
from kbsync.source.client import SparqlClient
from kbsync.source.paging import select_chunks, select_page
from kbsync.source.pull import CHUNK, Page, Reader


def snapshot(
    client: SparqlClient, relation: str, settings: SourceSettings, *, known_labels: Container[str] = ()
) -> Iterator[Page]:
    """All statements of `relation`, in pages of `settings.page_size` subjects, in the order of their IRIs.

    Only an empty page is the end: a short one can be an endpoint that gives fewer rows than it was asked for.
    Raises BadAnswer when a page does not go on from the one before.
    """
    reader = Reader(client, relation, settings, known_labels)
    after = ""
    while True:
        rows, _ = select_page(client, settings.page_size, partial(queries.snapshot, relation, after))
        keys = {row["item"].value for row in rows if "item" in row}
        if not keys:
            return
        if min(keys) <= after:
            raise BadAnswer(f"{settings.endpoint} gives a page of {relation} that does not go on after {after}")
        yield reader.page(parse.statements(relation, rows, settings.language), (), None)
        after = max(keys)


def read_again(
    client: SparqlClient, relation: str, subjects: Sequence[str], settings: SourceSettings
) -> Iterator[Page]:
    """All statements of `subjects`, whatever became of them, and of what they were merged into."""
    return Reader(client, relation, settings, ()).read_all(subjects)


def with_statements(client: SparqlClient, relation: str, items: Sequence[str]) -> set[str]:
    """Those of `items` that have a statement of `relation`."""
    found: set[str] = set()
    for _, rows in select_chunks(client, items, CHUNK, partial(queries.versions, relation)):
        found.update(item for row in rows if (item := parse.entity_id(row.get("item"))) is not None)
    return found


def not_deleted(client: SparqlClient, statements: Sequence[str]) -> set[str]:
    """Those of `statements` (by id) that the source still knows."""
    left = set(statements)
    for _, rows in select_chunks(client, statements, CHUNK, queries.deleted):
        left -= {key for row in rows if (key := parse.statement_id(row.get("st")))}
    return left
