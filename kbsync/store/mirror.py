"""One page of the source becomes rows: entities, statements, facts, changes and the cursor, together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy.orm import Session

from kbsync.facts import Cursor, Pulled, Statement
from kbsync.store import bulk, differences, entities, readings, statements, states
from kbsync.store.tables import CursorRow, StatementRow


def apply(tx: Session, run_id: int, at: datetime, pulled: Pulled, baseline: bool) -> dict[str, int]:
    """Store one page. Applying it again changes no row, and pages may come in any order: of each subject what
    was read at a higher revision, or later at the same one, stays, and other pages are counted as `older` there.

    Facts are what the statements make truthy: each value of a best statement, except unknown ones. Every
    difference becomes a row in `changes`, with the page's reason where it names one; outcome `baseline` or
    `pending`. The cursor never moves back. Returns counts by named outcome.
    """
    counts: Counter[str] = Counter()
    entities.save(tx, at, (*pulled.items, *pulled.labels), None if baseline else pulled.at or at)
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
    counts.update(differences.write(tx, run_id, at, pulled, pairs, live.values(), baseline))
    if pulled.cursor is not None:
        _advance(tx, run_id, pulled.relation, pulled.cursor)
    tx.flush()
    return dict(counts)


def _changed(pulled: Pulled, at: datetime) -> dict[str, tuple[datetime, int | None]]:
    """When each subject was edited last, by the source's time: no change that is found now is younger."""
    limit = pulled.at or at
    return {one.id: (min(one.modified or limit, limit), one.revision) for one in pulled.items}


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


def _advance(tx: Session, run_id: int, relation: str, cursor: Cursor) -> None:
    row = tx.get(CursorRow, relation)
    if row is None:
        row = CursorRow(relation=relation)
        tx.add(row)
    elif row.modified is not None and (row.modified, row.item or "") >= (cursor.modified, cursor.item):
        return
    row.modified, row.item, row.updated_run = cursor.modified, cursor.item, run_id
