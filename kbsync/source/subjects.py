"""Which items are among the watched subjects of a relation, as the endpoint has them now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kbsync.facts import Subjects
from kbsync.source import parse, patterns, queries
from kbsync.source.client import SparqlClient
from kbsync.source.paging import CHUNK, select_chunks

NO_LONGER = "no longer among the watched subjects"


def pattern_of(subjects: Subjects) -> str:
    """The filter as a graph pattern over `?item`; "" where there is none to ask the endpoint for.

    Raises ConfigError for a pattern of the user's that is not allowed.
    """
    if subjects.classes:
        return queries.instances(subjects.classes)
    return f"{{ {patterns.check(subjects.where)} }}" if subjects.where else ""


def members(client: SparqlClient, subjects: Subjects, items: Sequence[str]) -> set[str]:
    """Those of `items` that the filter lets through. A list, and no filter, need no request."""
    if subjects.ids is not None:
        return {one for one in items if one in subjects.ids}
    pattern = pattern_of(subjects)
    if not pattern:
        return set(items)
    found: set[str] = set()
    for _, rows in select_chunks(client, items, CHUNK, partial(queries.matching, pattern)):
        found.update(one for row in rows if (one := parse.entity_id(row.get("item"))) is not None)
    return found


def finds_any(client: SparqlClient, relation: str, subjects: Subjects) -> bool:
    """Whether the endpoint has a subject of `relation` that the filter lets through: one cheap request.

    Of a list only the first thousand are asked for. Raises the SourceError of an endpoint that refuses the query.
    """
    if subjects.ids is not None:
        first = sorted(subjects.ids)[:CHUNK]
        return bool(client.select(queries.versions(relation, first))) if first else False
    return bool(client.select(queries.any_subject(relation, pattern_of(subjects))))
