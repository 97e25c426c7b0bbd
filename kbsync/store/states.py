"""What facts and labels were before: a row for each state that is over, written when the next one is found.

The present state follows from the statements and entities themselves, so nothing is written for what never
changes, and nothing at the first pull.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from kbsync.facts import (
    ABSENT,
    LONG_AGO,
    Fact,
    Past,
    Rank,
    References,
    Signal,
    State,
    Statement,
    Value,
    ValueKind,
)
from kbsync.store import bulk, statements
from kbsync.store.chunks import chunked
from kbsync.store.statements import Pair
from kbsync.store.tables import FactRow, FactStateRow, LabelStateRow, StatementRow

_STRENGTH = {None: 0, References.NONE: 1, References.IMPORTED: 2, References.SOURCED: 3}


def weight(one: Statement) -> tuple[bool, datetime, str]:
    """Of several best statements that say the same, the one of the highest weight speaks."""
    return one.rank is Rank.PREFERRED, one.start or LONG_AGO, one.id


def is_truthy(one: Statement) -> bool:
    """Whether a live statement makes a fact: it is of the best rank, and its object can be said."""
    return one.best and one.value.kind is not ValueKind.UNKNOWN


def states_of(live: Iterable[Statement]) -> dict[Fact, State]:
    """The facts that live statements make true, and how."""
    speaks: dict[Fact, Statement] = {}
    refs: dict[Fact, References | None] = {}
    for one in live:
        if not is_truthy(one):
            continue
        fact = Fact(one.subject, one.relation, one.value)
        if fact not in speaks or weight(one) > weight(speaks[fact]):
            speaks[fact] = one
        refs[fact] = max(refs.get(fact), one.references, key=_STRENGTH.__getitem__)
    return {
        fact: State(True, one.rank is Rank.PREFERRED, one.start, one.end, refs[fact])
        for fact, one in speaks.items()
    }


def note(
    tx: Session,
    run_id: int,
    before: Mapping[Fact, State],
    after: Mapping[Fact, State],
    changed: Mapping[str, tuple[datetime, int | None]],
    otherwise: datetime,
) -> int:
    """Write down the states that are over; returns how many there are.

    `changed` has the time and the revision of each subject; `otherwise` is the time for those without.
    References that become known for the first time are no change.
    """
    rows = []
    for fact in sorted(before.keys() | after.keys(), key=Fact.order):
        old, new = before.get(fact, ABSENT), after.get(fact, ABSENT)
        if old == new or (old.present and old.references is None and _without(old) == _without(new)):
            continue
        until, revision = changed.get(fact.subject, (otherwise, None))
        rows.append(
            {
                "subject": fact.subject,
                "relation": fact.relation,
                "value_kind": fact.value.kind,
                "value": fact.value.text,
                "present": old.present,
                "preferred": old.preferred,
                "start_time": old.start,
                "end_time": old.end,
                "refs": old.references,
                "until": until,
                "run_id": run_id,
                "revision": revision,
            }
        )
    bulk.insert_rows(tx, FactStateRow, rows)
    return len(rows)


def _without(state: State) -> tuple[object, ...]:
    return state.present, state.preferred, state.start, state.end


def pairs_with_a_past(tx: Session, relations: Collection[str]) -> set[Pair]:
    """(subject, relation) of every fact that ever changed since its relation is watched."""
    rows = tx.execute(
        select(FactStateRow.subject, FactStateRow.relation).where(FactStateRow.relation.in_(relations)).distinct()
    )
    return {(subject, relation) for subject, relation in rows}


_PAST = select(  # columns, not entities: a store that has run for a year has a past of many thousands
    FactStateRow.subject,
    FactStateRow.relation,
    FactStateRow.value_kind,
    FactStateRow.value,
    FactStateRow.present,
    FactStateRow.preferred,
    FactStateRow.start_time,
    FactStateRow.end_time,
    FactStateRow.refs,
    FactStateRow.until,
    FactStateRow.revision,
).order_by(FactStateRow.id)
_TOLD = select(
    FactRow.subject, FactRow.relation, FactRow.value_kind, FactRow.value, FactRow.seen_at, FactRow.baseline
).order_by(FactRow.id)


def facts_now(tx: Session, pairs: Collection[Pair]) -> dict[Fact, State]:
    """The facts that `pairs` have now, and how."""
    return states_of(statements.of_pairs(tx, pairs, StatementRow.best))


def signals(tx: Session, pairs: Collection[Pair]) -> list[Signal]:
    """Every fact that `pairs` have or had, as it stood over time; in the order of facts."""
    now = facts_now(tx, pairs)
    past: dict[Fact, list[Past]] = defaultdict(list)
    seen: dict[Fact, datetime] = {}
    baseline: set[Fact] = set()
    for chunk in chunked(sorted(pairs)):
        own = _PAST.where(tuple_(FactStateRow.subject, FactStateRow.relation).in_(chunk))
        for subject, relation, kind, value, present, preferred, start, end, refs, until, revision in tx.execute(
            own
        ):
            state = State(present, preferred, start, end, refs)
            past[Fact(subject, relation, Value(kind, value))].append(Past(state, until, revision))
        facts = _TOLD.where(tuple_(FactRow.subject, FactRow.relation).in_(chunk))
        for subject, relation, kind, value, seen_at, at_first in tx.execute(facts):
            fact = Fact(subject, relation, Value(kind, value))
            seen[fact] = seen_at
            if at_first:
                baseline.add(fact)
    return [
        Signal(
            fact=fact,
            now=now.get(fact, ABSENT),
            past=_in_order(past.get(fact, ())),
            baseline=fact in baseline,
            seen=seen.get(fact),
        )
        for fact in sorted(now.keys() | past.keys(), key=Fact.order)
    ]


def _in_order(past: Iterable[Past]) -> tuple[Past, ...]:
    """The past as the store saw it; a state that ended, by its time, before the one it followed ended with it."""
    told: list[Past] = []
    for one in past:
        late = bool(told) and told[-1].until > one.until
        told.append(replace(one, until=told[-1].until) if late else one)
    return tuple(told)


def note_labels(tx: Session, over: Iterable[tuple[str, str | None, datetime]]) -> None:
    """Write down labels that are over: of which entity, the label, and when it ended."""
    rows = [{"entity": entity, "label": label, "until": until} for entity, label, until in over]
    bulk.insert_rows(tx, LabelStateRow, rows)


def past_labels(tx: Session, ids: Iterable[str]) -> dict[str, list[tuple[str | None, datetime]]]:
    """The labels that those of `ids` had before, the oldest first, each with its end."""
    found: dict[str, list[tuple[str | None, datetime]]] = defaultdict(list)
    for chunk in chunked(dict.fromkeys(ids)):
        rows: Sequence[LabelStateRow] = tx.scalars(
            select(LabelStateRow).where(LabelStateRow.entity.in_(chunk)).order_by(LabelStateRow.id)
        ).all()
        for row in rows:
            found[row.entity].append((row.label, row.until))
    return dict(found)
