"""One page of the source becomes rows: entities, statements, facts, changes and the cursor, together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.orm import Session

from kbsync.facts import Change, ChangeKind, Cursor, Fact, Item, Pulled, Statement, Value, ValueKind
from kbsync.store import bulk, readings, statements, states
from kbsync.store.chunks import VALUES, chunked
from kbsync.store.statements import Pair
from kbsync.store.tables import ChangeRow, CursorRow, EntityRow, FactRow, StatementRow

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
    known = {one.id: (one, live) for one, live in statements.by_id(tx, ids)}
    older = readings.note(tx, pulled)
    counts["older"] += len(older)
    pulled = _without(pulled, older, known)
    pairs = {(s.subject, s.relation) for s in pulled.statements}
    pairs |= {(one.subject, one.relation) for one, _ in known.values()}
    live = {one.id: one for one in statements.of_pairs(tx, pairs)}
    before = {} if baseline else states.states_of(live.values())
    for gone in _retire_gone(tx, pulled, known, at, counts):
        del live[gone]
    live |= _upsert(tx, run_id, at, pulled.statements, known, counts)
    if not baseline:
        after = states.states_of(live.values())
        states.note(tx, run_id, before, after, _changed(pulled, at), pulled.at or at)
    added, retired = _difference(tx, pairs, live.values())
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


def _without(pulled: Pulled, older: Collection[str], known: Mapping[str, tuple[Statement, bool]]) -> Pulled:
    """The page without the subjects of which it tells old news."""
    if not older:
        return pulled
    return replace(
        pulled,
        statements=tuple(s for s in pulled.statements if s.subject not in older),
        gone=tuple(g for g in pulled.gone if g[0] not in known or known[g[0]][0].subject not in older),
        changes=tuple(c for c in pulled.changes if c.subject not in older),
    )


def _retire_gone(
    tx: Session, pulled: Pulled, known: Mapping[str, tuple[Statement, bool]], at: datetime, counts: Counter[str]
) -> list[str]:
    """Retire the statements that the source no longer has; their ids."""
    told = {s.id for s in pulled.statements}
    rows: dict[str, dict[str, object]] = {}
    for key, reason in pulled.gone:
        if key not in known:
            counts["gone: never stored"] += 1
        elif key in told or key in rows or not known[key][1]:
            counts["gone: duplicate"] += 1
        else:
            rows[key] = {"id": key, "retired_at": at, "retired_reason": reason}
            counts["statements retired"] += 1
    bulk.update_rows(tx, StatementRow, list(rows.values()))
    return list(rows)


def _upsert(
    tx: Session,
    run_id: int,
    at: datetime,
    told: Iterable[Statement],
    known: Mapping[str, tuple[Statement, bool]],
    counts: Counter[str],
) -> dict[str, Statement]:
    """Store what is new or changed; those statements as they stand now, by id.

    Of one that a page tells twice the later holds.
    """
    now: dict[str, Statement] = {}
    again: set[str] = set()
    for one in told:
        held, live = (now[one.id], True) if one.id in now else known.get(one.id, (None, False))
        if held is None:
            now[one.id] = one
            counts["statements new"] += 1
        elif live and one.adds_nothing_to(held):
            counts["statements duplicate"] += 1
        else:
            now[one.id] = _merged(held, one)
            again.add(one.id)
            counts["statements changed"] += 1
    columns = {key: _columns(one) for key, one in now.items()}
    fresh = [
        {**own, "seen_run": run_id, "seen_at": at, "changed_at": at if key in again else None}
        for key, own in columns.items()
        if key not in known
    ]
    changed = [
        {**own, "changed_at": at, "retired_at": None, "retired_reason": None}
        for key, own in columns.items()
        if key in known
    ]
    bulk.insert_rows(tx, StatementRow, fresh)
    bulk.update_rows(tx, StatementRow, changed)
    return now


def _merged(held: Statement, told: Statement) -> Statement:
    """What is told; a detail that was known of the same value stays where none is told."""
    if told.value.detail or told.value != held.value:
        return told
    return replace(told, value=held.value)


def _columns(told: Statement) -> dict[str, object]:
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
        "refs": told.references,
        "detail": told.value.detail or None,
    }


def _difference(
    tx: Session, pairs: Collection[Pair], live: Iterable[Statement]
) -> tuple[list[Fact], dict[Fact, int]]:
    """Facts that the `live` statements of `pairs` now make true but the store lacks, and rows (ids) no longer true.

    A fact that stays gets the detail of its statements, where they tell one that it does not have.
    """
    wanted: dict[Fact, Fact] = {}
    for one in live:
        if states.is_truthy(one):
            fact = Fact(one.subject, one.relation, one.value)
            wanted[fact] = max(fact, wanted.get(fact, fact), key=lambda one: one.value.detail)
    held = {fact: (number, fact) for number, fact in _live_facts(tx, pairs)}
    _update_details(tx, wanted, held)
    added = sorted(wanted.keys() - held.keys())
    return [wanted[fact] for fact in added], {fact: held[fact][0] for fact in sorted(held.keys() - wanted.keys())}


def _live_facts(tx: Session, pairs: Collection[Pair]) -> Iterator[tuple[int, Fact]]:
    """The facts that the store has of `pairs`, with the numbers of their rows."""
    for relation, chunk in statements.chunked_subjects(pairs):
        query = select(FactRow.id, FactRow.subject, FactRow.value_kind, FactRow.value, FactRow.detail).where(
            FactRow.relation == relation, FactRow.subject.in_(VALUES), FactRow.retired_at.is_(None)
        )
        for number, subject, kind, value, detail in tx.execute(query, {VALUES.key: chunk}):
            yield number, Fact(subject, relation, Value(kind, value, detail or ""))


def _update_details(tx: Session, wanted: Mapping[Fact, Fact], live: Mapping[Fact, tuple[int, Fact]]) -> None:
    rows = []
    for fact, told in wanted.items():
        number, held = live.get(fact, (0, told))
        if told.value.detail not in ("", held.value.detail):
            rows.append({"id": number, "detail": told.value.detail})
    bulk.update_rows(tx, FactRow, rows)


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
    outcome = "baseline" if baseline else "pending"
    bulk.insert_rows(tx, ChangeRow, [_change_row(row, run_id, at, outcome) for row in rows])


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
    bulk.update_rows(
        tx,
        FactRow,
        [
            {
                "id": number,
                "retired_run": run_id,
                "retired_at": at,
                "retired_reason": reasons.get(fact, UNEXPLAINED),
            }
            for fact, number in retired.items()
        ],
    )
    _supersede(tx, retired)
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
    bulk.insert_rows(tx, FactRow, rows)


def _supersede(tx: Session, gone: Iterable[Fact]) -> None:
    """Changes whose new object is gone before they became an edit end as `superseded`."""
    rows = [
        {"of": fact.subject, "about": fact.relation, "object_kind": fact.value.kind, "object": fact.value.text}
        for fact in gone
    ]
    if not rows:
        return
    table = bulk.table_of(ChangeRow)
    query = (
        update(table)
        .where(
            table.c.subject == bindparam("of"),
            table.c.relation == bindparam("about"),
            table.c.new_kind == bindparam("object_kind"),
            table.c.new_value == bindparam("object"),
            or_(table.c.outcome == "pending", table.c.outcome.startswith("held: ")),
        )
        .values(outcome="superseded")
    )
    tx.connection().execute(query, rows)


def _advance(tx: Session, run_id: int, relation: str, cursor: Cursor) -> None:
    row = tx.get(CursorRow, relation)
    if row is None:
        row = CursorRow(relation=relation)
        tx.add(row)
    elif row.modified is not None and (row.modified, row.item or "") >= (cursor.modified, cursor.item):
        return
    row.modified, row.item, row.updated_run = cursor.modified, cursor.item, run_id
