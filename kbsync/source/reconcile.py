"""What a full pass asks the source: all of a relation, which known items have it, which statements are gone."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from functools import partial

from kbsync.facts import Subjects
from kbsync.settings import SourceSettings
from kbsync.source import parse, queries
from kbsync.source.client import SparqlClient
from kbsync.source.page import Page
from kbsync.source.paging import CHUNK, select_chunks
from kbsync.source.pull import everything
from kbsync.source.reader import ALL, Reader
from kbsync.source.subjects import members


def snapshot(
    client: SparqlClient,
    relation: str,
    settings: SourceSettings,
    *,
    known_labels: Container[str] = (),
    subjects: Subjects = ALL,
) -> Iterator[Page]:
    """All statements of `relation`, in pages of `settings.page_size` subjects, in the order of their IRIs.

    Raises BadAnswer when the endpoint does not go on from where it was.
    """
    return everything(Reader(client, relation, settings, known_labels, subjects=subjects))


def read_again(
    client: SparqlClient, relation: str, items: Sequence[str], settings: SourceSettings, subjects: Subjects = ALL
) -> Iterator[Page]:
    """All statements of `items`, which are tracked, whatever became of them, and of what they were merged into."""
    reader = Reader(client, relation, settings, (), subjects=subjects, tracked=frozenset(items))
    return reader.read_all(items)


def with_statements(
    client: SparqlClient, relation: str, items: Sequence[str], subjects: Subjects = ALL
) -> set[str]:
    """Those of `items` that have a statement of `relation` and are among the watched subjects."""
    found: set[str] = set()
    for _, rows in select_chunks(client, items, CHUNK, partial(queries.versions, relation)):
        found.update(item for row in rows if (item := parse.entity_id(row.get("item"))) is not None)
    return found if subjects.everything else members(client, subjects, sorted(found))


def not_deleted(client: SparqlClient, statements: Sequence[str]) -> set[str]:
    """Those of `statements` (by id) that the source still knows."""
    left = set(statements)
    for _, rows in select_chunks(client, statements, CHUNK, queries.deleted):
        left -= {key for row in rows if (key := parse.statement_id(row.get("st")))}
    return left
