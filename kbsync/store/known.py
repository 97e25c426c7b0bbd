"""What the store knows of the mirror: what the source diffs against and what the planner plans from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kbsync.facts import Cursor, Fact, Item, KnownFact, Rank, Statement, Value, ValueKind
from kbsync.store import statements
from kbsync.store.chunks import chunked
from kbsync.store.differences import fact_of
from kbsync.store.states import weight
from kbsync.store.tables import CursorRow, EntityRow, FactRow, ReadingRow, StatementRow


def cursor(tx: Session, relation: str) -> Cursor | None:
    """How far the relation has been read, or None before its first page."""
    row = tx.get(CursorRow, relation)
    if row is None or row.modified is None:
        return None
    return Cursor(row.modified, row.item or "")


def first_pull_complete(tx: Session, relation: str) -> datetime | None:
    """When the first pull had read all of the relation, or None while it has not."""
    row = tx.get(CursorRow, relation)
    return None if row is None else row.complete_at


def complete_first_pull(tx: Session, run_id: int, relation: str, at: datetime) -> None:
    """Note that the first pull has read all of the relation. A second call changes nothing."""
    row = tx.get(CursorRow, relation)
    if row is None:
        row = CursorRow(relation=relation)
        tx.add(row)
    elif row.complete_at is not None:
        return
    row.complete_at, row.updated_run = at, run_id
    tx.flush()


def statements_of(tx: Session, relation: str, subjects: Iterable[str]) -> dict[str, list[Statement]]:
    """The live statements of each of `subjects`, by id. A subject without any is not in the dict."""
    found: dict[str, list[Statement]] = defaultdict(list)
    for one in statements.of_pairs(tx, {(subject, relation) for subject in subjects}):
        found[one.subject].append(one)
    return {subject: sorted(own, key=_id) for subject, own in found.items()}


def _id(statement: Statement) -> str:
    return statement.id


def tracked(tx: Session, relation: str) -> set[str]:
    """The subjects with a live statement of the relation."""
    return set(
        tx.scalars(
            select(StatementRow.subject).where(StatementRow.relation == relation, StatementRow.retired_at.is_(None))
        )
    )


def versions(tx: Session, relation: str) -> dict[str, int | None]:
    """Each subject with a live statement of the relation, and the revision at which those were last read."""
    rows = tx.execute(
        select(StatementRow.subject, ReadingRow.revision)
        .outerjoin(
            ReadingRow,
            (ReadingRow.item == StatementRow.subject) & (ReadingRow.relation == StatementRow.relation),
        )
        .where(StatementRow.relation == relation, StatementRow.retired_at.is_(None))
        .distinct()
    )
    return {subject: revision for subject, revision in rows}  # noqa: C416  (a Row is not a tuple to mypy)


def labels(tx: Session, ids: Iterable[str]) -> dict[str, str]:
    """The labels of those of `ids` that have one."""
    found: dict[str, str] = {}
    for chunk in chunked(dict.fromkeys(ids)):
        for one, label in tx.execute(select(EntityRow.id, EntityRow.label).where(EntityRow.id.in_(chunk))):
            if label is not None:
                found[one] = label
    return found


def named(tx: Session, items: Iterable[Item]) -> dict[str, str | None]:
    """The labels that the store has of `items`; not of those that it never met or knows at a newer revision."""
    told = {item.id: item.revision for item in items}
    found: dict[str, str | None] = {}
    for chunk in chunked(told):
        query = select(EntityRow.id, EntityRow.label, EntityRow.revision).where(EntityRow.id.in_(chunk))
        for one, label, revision in tx.execute(query):
            asked = told[one]
            if asked is None or revision is None or revision <= asked:
                found[one] = label
    return found


def retired_statements(tx: Session, relation: str, subjects: Iterable[str]) -> dict[str, dict[str, str]]:
    """Of each of `subjects`, the statements that were retired, by id, and why."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for chunk in chunked(dict.fromkeys(subjects)):
        query = select(StatementRow.subject, StatementRow.id, StatementRow.retired_reason).where(
            StatementRow.relation == relation,
            StatementRow.subject.in_(chunk),
            StatementRow.retired_at.is_not(None),
        )
        for subject, key, reason in tx.execute(query):
            found[subject][key] = reason or ""
    return dict(found)


def statement_count(tx: Session, relation: str) -> int:
    """How many live statements of the relation there are."""
    query = select(func.count()).where(StatementRow.relation == relation, StatementRow.retired_at.is_(None))
    return tx.scalar(query) or 0


def known_facts(tx: Session, relations: Collection[str]) -> list[KnownFact]:
    """All live facts of `relations`, in the order of facts, with the qualifiers of the statement behind each.

    Where several best statements say the same, a preferred one speaks, then the one that started last.
    """
    speaks: dict[Fact, Statement] = {}
    for one in statements.where(tx, StatementRow.relation.in_(relations), StatementRow.best):
        fact = Fact(one.subject, one.relation, one.value)
        if fact not in speaks or weight(one) > weight(speaks[fact]):
            speaks[fact] = one
    query = select(
        FactRow.subject,
        FactRow.relation,
        FactRow.value_kind,
        FactRow.value,
        FactRow.detail,
        FactRow.baseline,
        FactRow.seen_at,
    ).where(FactRow.relation.in_(relations), FactRow.retired_at.is_(None))
    found: list[KnownFact] = []
    for subject, relation, kind, value, detail, baseline, seen_at in tx.execute(query):
        fact = Fact(subject, relation, Value(kind, value, detail or ""))
        told = speaks.get(fact)
        found.append(
            KnownFact(
                fact=fact,
                baseline=baseline,
                preferred=told is not None and told.rank is Rank.PREFERRED,
                start=None if told is None else told.start,
                end=None if told is None else told.end,
                seen=seen_at,
            )
        )
    return sorted(found, key=lambda one: one.fact.order())


def pairs_to_judge(tx: Session, relations: Collection[str], baseline: bool) -> set[tuple[str, str]]:
    """(subject, relation) of every live fact that came after the first pull; with `baseline`, of every one."""
    query = select(FactRow.subject, FactRow.relation).where(
        FactRow.relation.in_(relations), FactRow.retired_at.is_(None)
    )
    rows = tx.execute(query if baseline else query.where(FactRow.baseline.is_(False)))
    return {(subject, relation) for subject, relation in rows}


def baseline_facts(tx: Session, relations: Collection[str]) -> list[Fact]:
    """The facts that the first pulls of `relations` found, whether they still live or not, in order."""
    rows = tx.scalars(select(FactRow).where(FactRow.relation.in_(relations), FactRow.baseline))
    return sorted({fact_of(row) for row in rows}, key=Fact.order)


def _live(tx: Session, relations: Collection[str]) -> Iterable[FactRow]:
    return tx.scalars(select(FactRow).where(FactRow.relation.in_(relations), FactRow.retired_at.is_(None)))


def previous_values(
    tx: Session, relations: Collection[str], standing: Collection[Fact] = (), never: Collection[Fact] = ()
) -> dict[tuple[str, str], Value]:
    """What each (subject, relation) said before: the old object of an edit.

    `standing` are facts that count as true though the source has lost them, `never` those that count as if they
    had never been.

    In this order: the fact that was retired last; the statement that ended last without being truthy; the
    baseline fact beside a newer one. Objects that are true now are no candidates, but for the last.
    """
    live: dict[tuple[str, str], list[FactRow]] = defaultdict(list)
    for row in _live(tx, relations):
        live[row.subject, row.relation].append(row)
    now = {fact_of(row) for rows in live.values() for row in rows} | {*standing, *never}
    found: dict[tuple[str, str], Value] = {}
    for pair, rows in live.items():
        old = [row for row in rows if row.baseline]
        if old and len(old) < len(rows):
            found[pair] = fact_of(min(old, key=lambda row: row.id)).value
    for told in tx.scalars(
        select(StatementRow)
        .where(
            StatementRow.relation.in_(relations),
            StatementRow.value_kind != ValueKind.UNKNOWN,
            StatementRow.end_time.is_not(None),
            StatementRow.best.is_(False),
            StatementRow.rank != Rank.DEPRECATED,
        )
        .order_by(StatementRow.end_time, StatementRow.id)
    ):
        value = Value(told.value_kind, told.value, told.detail or "")
        if Fact(told.subject, told.relation, value) not in now:
            found[told.subject, told.relation] = value
    for row in tx.scalars(
        select(FactRow)
        .where(FactRow.relation.in_(relations), FactRow.retired_at.is_not(None))
        .order_by(FactRow.retired_run, FactRow.retired_at, FactRow.id)  # runs have an order that no clock turns
    ):
        if fact_of(row) not in now:
            found[row.subject, row.relation] = fact_of(row).value
    return found


def counted(tx: Session) -> Sequence[tuple[str, int]]:
    """Live facts of each relation, for status pages."""
    rows = tx.execute(
        select(FactRow.relation, func.count())
        .where(FactRow.retired_at.is_(None))
        .group_by(FactRow.relation)
        .order_by(FactRow.relation)
    )
    return [(relation, count) for relation, count in rows]
