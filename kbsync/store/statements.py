"""Statements as the store has them, read as nouns: columns only, since a page reads thousands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnExpressionArgument, select
from sqlalchemy.orm import Session

from kbsync.facts import Statement, Value
from kbsync.store.chunks import VALUES, chunked
from kbsync.store.tables import StatementRow

Pair = tuple[str, str]  # subject, relation

_QUERY = select(
    StatementRow.id,
    StatementRow.subject,
    StatementRow.relation,
    StatementRow.value_kind,
    StatementRow.value,
    StatementRow.detail,
    StatementRow.rank,
    StatementRow.best,
    StatementRow.start_time,
    StatementRow.end_time,
    StatementRow.refs,
    StatementRow.retired_at,
)


def where(tx: Session, *conditions: ColumnExpressionArgument[bool]) -> Iterator[Statement]:
    """The live statements that meet the conditions, in the order of the table."""
    return _read(tx, conditions, {})


def of_pairs(
    tx: Session, pairs: Collection[Pair], *conditions: ColumnExpressionArgument[bool]
) -> Iterator[Statement]:
    """The live statements of `pairs`, which also meet the conditions."""
    for relation, chunk in chunked_subjects(pairs):
        these = (StatementRow.relation == relation, StatementRow.subject.in_(VALUES), *conditions)
        yield from _read(tx, these, {VALUES.key: chunk})


def chunked_subjects(pairs: Collection[Pair]) -> Iterator[tuple[str, list[str]]]:
    """The subjects of `pairs` in their order, in chunks of one relation, with that relation."""
    subjects: dict[str, list[str]] = defaultdict(list)
    for subject, relation in sorted(pairs):
        subjects[relation].append(subject)
    for relation, own in subjects.items():
        for chunk in chunked(own):
            yield relation, chunk


def by_id(tx: Session, ids: Iterable[str]) -> Iterator[tuple[Statement, bool]]:
    """Those of `ids` that were ever stored, each with whether it is live."""
    query = _QUERY.where(StatementRow.id.in_(VALUES))
    for chunk in chunked(dict.fromkeys(ids)):
        for row in tx.execute(query, {VALUES.key: chunk}):
            yield _noun(row), row[-1] is None


def _read(
    tx: Session, conditions: Iterable[ColumnExpressionArgument[bool]], values: dict[str, Any]
) -> Iterator[Statement]:
    for row in tx.execute(_QUERY.where(StatementRow.retired_at.is_(None), *conditions), values):
        yield _noun(row)


def _noun(row: Any) -> Statement:
    """A row of `_QUERY` as the noun that the source knows."""
    key, subject, relation, kind, value, detail, rank, best, start, end, refs, _ = row
    return Statement(key, subject, relation, Value(kind, value, detail or ""), rank, best, start, end, refs)
