"""One page of the source becomes rows: entities, statements, facts, changes and the cursor, together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import insert, or_, select, update
from sqlalchemy.orm import Session

from kbsync.facts import Change, ChangeKind, Cursor, Fact, Item, Pulled, Statement, Value, ValueKind
from kbsync.store import readings, states
from kbsync.store.chunks import chunked
from kbsync.store.tables import ChangeRow, CursorRow, EntityRow, FactRow, StatementRow

Pair = tuple[str, str]  # subject, relation

UNEXPLAINED = "found by the store"  # a difference of facts that the page's changes don't name
FIRST_PULL = "first pull"  # the same at the baseline, which has no changes to name


def apply(tx: Session, run_id: int, at: datetime, pulled: Pulled, baseline: bool) -> dict[str, int]:
    """Store one page. Applying it again changes no row, and pages may come in any order: of each subject what
    was read at a higher revision, or later at the same one, stays, and other pages are counted as `older` there.

    Facts are what the statements make truthy: each value of a best statement, except unknown ones. Every
    difference becomes a row in `changes`, with the page's reason where it names one; outcome `baseline` or
    `pending`. The cursor never moves back. Returns counts by named outcome.
    """
    counts: Counter[str] = Counter()
    save_items(tx, at, (*pulled.items, *pulled.labels), None if baseline else pulled.at or at)
    ids = [s.id for s in pulled.statements] + [gone for gone, _ in pulled.gone]
    known = {row.id: row for row in _rows_by_id(tx, ids)}
    older = readings.note(tx, pulled)
    counts["older"] += len(older)
    pulled = _without(pulled, older, known)
    pairs = {(s.subject, s.relation) for s in pulled.statements}
    pairs |= {(row.subject, row.relation) for row in known.values()}
    before = {} if baseline else states.present_states(tx, pairs)
    _retire_gone(pulled, known, at, counts)
    _upsert(tx, run_id, at, pulled.statements, known, counts)
    tx.flush()
    if not baseline:
        states.note(tx, run_id, before, states.present_states(tx, pairs), _changed(pulled, at), pulled.at or at)
    added, retired = _difference(tx, pairs)
    reasons = dict(_reasons(pulled))
    _write_changes(tx, run_id, at, pulled.changes, added, set(retired), baseline, counts)
    _write_facts(tx, run_id, at, added, retired, reasons, baseline)
    counts["facts added"] += len(added)
    counts["facts retired"] += len(retired)
    if pulled.cursor is not None:
        _advance(tx, run_id, pulled.relation, pulled.cursor)
    tx.flush()
    return dict(counts)


def _changed(pulled: Pulled, at: datetime) -> dict[str, tuple[datetime, int | None]]:
    """When each subject was edited last, by the source's time: no change that is found now is younger."""
    limit = pulled.at or at
    return {one.id: (min(one.modified or limit, limit), one.revision) for one in pulled.items}


def save_items(tx: Session, at: datetime, items: Iterable[Item], since: datetime | None = None) -> None:
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
    for chunk in chunked(latest.values()):
        rows = tx.scalars(select(EntityRow).where(EntityRow.id.in_([i.id for i in chunk])))
        known = {row.id: row for row in rows}
        fresh: list[dict[str, object]] = []
        for item in chunk:
            row = known.get(item.id)
            if row is None:
                fresh.append({**_entity(item), "seen_at": at})
                if since is not None and item.label is not None:
                    states.note_label(tx, item.id, None, min(item.modified or since, since))
            elif _is_news(item, row):
                if item.label != row.label:
                    limit = since or at
                    states.note_label(tx, item.id, row.label, min(item.modified or limit, limit))
                row.label, row.language = item.label, item.language
                if item.revision is not None:
                    row.revision = item.revision
                    row.modified = item.modified or row.modified
        if fresh:
            tx.execute(insert(EntityRow), fresh)
    tx.flush()


def _entity(item: Item) -> dict[str, object]:
    return {
        "id": item.id,
        "label": item.label,
        "language": item.language,
        "revision": item.revision,
        "modified": item.modified,
    }


def _is_news(item: Item, row: EntityRow) -> bool:
    if item.revision is None:
        return item.label is not None
    return row.revision is None or item.revision >= row.revision


def _without(pulled: Pulled, older: Collection[str], known: Mapping[str, StatementRow]) -> Pulled:
    """The page without the subjects of which it tells old news."""
    if not older:
        return pulled
    return replace(
        pulled,
        statements=tuple(s for s in pulled.statements if s.subject not in older),
        gone=tuple(g for g in pulled.gone if g[0] not in known or known[g[0]].subject not in older),
        changes=tuple(c for c in pulled.changes if c.subject not in older),
    )


def _rows_by_id(tx: Session, ids: Iterable[str]) -> Iterator[StatementRow]:
    for chunk in chunked(dict.fromkeys(ids)):
        yield from tx.scalars(select(StatementRow).where(StatementRow.id.in_(chunk)))


def _retire_gone(pulled: Pulled, known: Mapping[str, StatementRow], at: datetime, counts: Counter[str]) -> None:
    told = {s.id for s in pulled.statements}
    for statement_id, reason in pulled.gone:
        row = known.get(statement_id)
        if row is None:
            counts["gone: never stored"] += 1
        elif statement_id in told or row.retired_at is not None:
            counts["gone: duplicate"] += 1
        else:
            row.retired_at, row.retired_reason = at, reason
            counts["statements retired"] += 1


def _upsert(
    tx: Session,
    run_id: int,
    at: datetime,
    statements: Iterable[Statement],
    known: Mapping[str, StatementRow],
    counts: Counter[str],
) -> None:
    fresh: dict[str, tuple[Statement, bool]] = {}
    for told in statements:
        row = known.get(told.id)
        if row is None and told.id not in fresh:
            fresh[told.id] = told, False
            counts["statements new"] += 1
        elif row is None:  # told twice by one page: the later one holds
            same = told.adds_nothing_to(fresh[told.id][0])
            fresh[told.id] = fresh[told.id] if same else (told, True)
            counts["statements duplicate" if same else "statements changed"] += 1
        elif row.retired_at is None and told.adds_nothing_to(statement_of(row)):
            counts["statements duplicate"] += 1
        else:
            _fill(row, told)
            row.changed_at, row.retired_at, row.retired_reason = at, None, None
            counts["statements changed"] += 1
    if fresh:
        tx.execute(insert(StatementRow), [_statement_row(one, run_id, at, again) for one, again in fresh.values()])


def _statement_row(told: Statement, run_id: int, at: datetime, changed: bool) -> dict[str, object]:
    return {
        "id": told.id,
        "subject": told.subject,
        "relation": told.relation,
        "value_kind": told.value.kind,
        "value": told.value.text,
        "rank": told.rank,
        "best": told.best,
        "start_time": told.start,
        "end_time": told.end,
        "seen_run": run_id,
        "seen_at": at,
        "changed_at": at if changed else None,
        "refs": told.references,
        "detail": told.value.detail or None,
    }


def _fill(row: StatementRow, told: Statement) -> None:
    same_value = (row.value_kind, row.value) == (told.value.kind, told.value.text)
    row.detail = told.value.detail or (row.detail if same_value else None)
    row.subject, row.relation = told.subject, told.relation
    row.value_kind, row.value = told.value.kind, told.value.text
    row.rank, row.best = told.rank, told.best
    row.start_time, row.end_time = told.start, told.end
    row.refs = told.references


def statement_of(row: StatementRow) -> Statement:
    """The row as the noun that the source knows."""
    return Statement(
        id=row.id,
        subject=row.subject,
        relation=row.relation,
        value=Value(row.value_kind, row.value, row.detail or ""),
        rank=row.rank,
        best=row.best,
        start=row.start_time,
        end=row.end_time,
        references=row.refs,
    )


def _difference(tx: Session, pairs: set[Pair]) -> tuple[list[Fact], dict[Fact, int]]:
    """Facts that the statements of `pairs` now make true but the store lacks, and rows (ids) no longer true.

    A fact that stays gets the detail of its statements, where they tell one that it does not have.
    """
    wanted: dict[Fact, Fact] = {}
    live: dict[Fact, tuple[int, Fact]] = {}
    subjects: dict[str, list[str]] = defaultdict(list)
    for subject, relation in sorted(pairs):
        subjects[relation].append(subject)
    for relation, chunk in ((one, chunk) for one, own in subjects.items() for chunk in chunked(own)):
        for row in tx.execute(
            select(StatementRow.subject, StatementRow.value_kind, StatementRow.value, StatementRow.detail).where(
                StatementRow.relation == relation,
                StatementRow.subject.in_(chunk),
                StatementRow.best,
                StatementRow.retired_at.is_(None),
                StatementRow.value_kind != ValueKind.UNKNOWN,
            )
        ):
            fact = Fact(row.subject, relation, Value(row.value_kind, row.value, row.detail or ""))
            wanted[fact] = max(fact, wanted.get(fact, fact), key=lambda one: one.value.detail)
        for held in tx.execute(
            select(FactRow.id, FactRow.subject, FactRow.value_kind, FactRow.value, FactRow.detail).where(
                FactRow.relation == relation, FactRow.subject.in_(chunk), FactRow.retired_at.is_(None)
            )
        ):
            fact = Fact(held.subject, relation, Value(held.value_kind, held.value, held.detail or ""))
            live[fact] = held.id, fact
    _update_details(tx, wanted, live)
    added = sorted(wanted.keys() - live.keys())
    return [wanted[fact] for fact in added], {fact: live[fact][0] for fact in sorted(live.keys() - wanted.keys())}


def _update_details(tx: Session, wanted: Mapping[Fact, Fact], live: Mapping[Fact, tuple[int, Fact]]) -> None:
    rows = []
    for fact, told in wanted.items():
        number, held = live.get(fact, (0, told))
        if told.value.detail not in ("", held.value.detail):
            rows.append({"id": number, "detail": told.value.detail})
    if rows:
        tx.execute(update(FactRow), rows)


def fact_of(row: FactRow) -> Fact:
    """The row as (subject, relation, object)."""
    return Fact(row.subject, row.relation, Value(row.value_kind, row.value, row.detail or ""))


def _reasons(pulled: Pulled) -> Iterator[tuple[Fact, str]]:
    for change in pulled.changes:
        if change.old is not None:
            yield Fact(change.subject, change.relation, change.old), change.reason


def _write_changes(
    tx: Session,
    run_id: int,
    at: datetime,
    changes: Iterable[Change],
    added: Iterable[Fact],
    retired: set[Fact],
    baseline: bool,
    counts: Counter[str],
) -> None:
    """One row for each change that made a difference, then one for each difference that nothing named."""
    new, old = set(added), set(retired)
    rows: list[Change] = []
    for change in changes:
        gain = change.new and Fact(change.subject, change.relation, change.new)
        loss = change.old and Fact(change.subject, change.relation, change.old)
        if gain in new or loss in old:
            new.discard(gain or _NOTHING)
            old.discard(loss or _NOTHING)
            rows.append(change)
        else:
            counts["changes duplicate"] += 1
    why = FIRST_PULL if baseline else UNEXPLAINED
    for fact in sorted(new):
        rows.append(Change(ChangeKind.ADDED, fact.subject, fact.relation, None, fact.value, "", why))
    for fact in sorted(old):
        rows.append(Change(ChangeKind.RETIRED, fact.subject, fact.relation, fact.value, None, "", why))
    counts["changes stored"] += len(rows)
    if rows:
        outcome = "baseline" if baseline else "pending"
        tx.execute(insert(ChangeRow), [_change_row(row, run_id, at, outcome) for row in rows])


_NOTHING = Fact("", "", Value(ValueKind.UNKNOWN, ""))  # equal to no fact of the store


def _change_row(change: Change, run_id: int, at: datetime, outcome: str) -> dict[str, object]:
    return {
        "run_id": run_id,
        "at": at,
        "kind": change.kind,
        "subject": change.subject,
        "relation": change.relation,
        "old_kind": change.old and change.old.kind,
        "old_value": change.old and change.old.text,
        "new_kind": change.new and change.new.kind,
        "new_value": change.new and change.new.text,
        "statement_id": change.statement_id,
        "reason": change.reason,
        "outcome": outcome,
    }


def _write_facts(
    tx: Session,
    run_id: int,
    at: datetime,
    added: Iterable[Fact],
    retired: Mapping[Fact, int],
    reasons: Mapping[Fact, str],
    baseline: bool,
) -> None:
    for fact, number in retired.items():
        reason = reasons.get(fact, UNEXPLAINED)
        row = update(FactRow).where(FactRow.id == number)
        tx.execute(row.values(retired_run=run_id, retired_at=at, retired_reason=reason))
        _supersede(tx, fact)
    rows = [
        {
            "subject": fact.subject,
            "relation": fact.relation,
            "value_kind": fact.value.kind,
            "value": fact.value.text,
            "detail": fact.value.detail or None,
            "baseline": baseline,
            "seen_run": run_id,
            "seen_at": at,
        }
        for fact in added
    ]
    if rows:
        tx.execute(insert(FactRow), rows)


def _supersede(tx: Session, fact: Fact) -> None:
    """A change whose new object is gone before it became an edit ends as `superseded`."""
    tx.execute(
        update(ChangeRow)
        .where(
            ChangeRow.subject == fact.subject,
            ChangeRow.relation == fact.relation,
            ChangeRow.new_kind == fact.value.kind,
            ChangeRow.new_value == fact.value.text,
            or_(ChangeRow.outcome == "pending", ChangeRow.outcome.startswith("held: ")),
        )
        .values(outcome="superseded")
    )


def _advance(tx: Session, run_id: int, relation: str, cursor: Cursor) -> None:
    row = tx.get(CursorRow, relation)
    if row is None:
        row = CursorRow(relation=relation)
        tx.add(row)
    elif row.modified is not None and (row.modified, row.item or "") >= (cursor.modified, cursor.item):
        return
    row.modified, row.item, row.updated_run = cursor.modified, cursor.item, run_id
