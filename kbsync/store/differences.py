"""What a page makes true and untrue: the facts of its statements beside those of the store, and the changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.orm import Session

from kbsync.facts import Change, ChangeKind, Fact, Pulled, Statement, Value, ValueKind
from kbsync.store import bulk, statements, states
from kbsync.store.chunks import VALUES
from kbsync.store.statements import Pair
from kbsync.store.tables import ChangeRow, FactRow

UNEXPLAINED = "found by the store"  # a difference of facts that the page's changes don't name
FIRST_PULL = "first pull"  # the same at the baseline, which has no changes to name


def write(
    tx: Session,
    run_id: int,
    at: datetime,
    pulled: Pulled,
    pairs: Collection[Pair],
    live: Collection[Statement],
    baseline: bool,
) -> Counter[str]:
    """Bring the facts of `pairs` to what their `live` statements make true, with a row in `changes` for each
    difference: with the page's reason where it names one. Counts by named outcome."""
    counts: Counter[str] = Counter()
    added, retired = _difference(tx, pairs, live)
    _write_changes(tx, run_id, at, pulled.changes, added, retired, baseline, counts)
    _write_facts(tx, run_id, at, added, retired, dict(_reasons(pulled)), baseline)
    counts["facts added"] += len(added)
    counts["facts retired"] += len(retired)
    return counts


def fact_of(row: FactRow) -> Fact:
    """The row as (subject, relation, object)."""
    return Fact(row.subject, row.relation, Value(row.value_kind, row.value, row.detail or ""))


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
    added = sorted(wanted.keys() - held.keys(), key=Fact.order)
    gone = sorted(held.keys() - wanted.keys(), key=Fact.order)
    return [wanted[fact] for fact in added], {fact: held[fact][0] for fact in gone}


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


def _reasons(pulled: Pulled) -> Iterator[tuple[Fact, str]]:
    for change in pulled.changes:
        if change.old is not None:
            yield Fact(change.subject, change.relation, change.old), change.reason


def _write_changes(
    tx: Session,
    run_id: int,
    at: datetime,
    changes: Iterable[Change],
    added: Collection[Fact],
    retired: Collection[Fact],
    baseline: bool,
    counts: Counter[str],
) -> None:
    """One row for each change that made a difference, then one for each difference that nothing named, in the
    order of `added` and `retired`."""
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
    for fact in (one for one in added if one in new):
        rows.append(Change(ChangeKind.ADDED, fact.subject, fact.relation, None, fact.value, "", why))
    for fact in (one for one in retired if one in old):
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
