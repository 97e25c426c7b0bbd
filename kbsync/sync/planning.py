"""The plan stage: the facts in the store → the live set wanted, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from kbsync.facts import EditRequest, KnownFact, Value, ValueKind
from kbsync.request.plan import Plan
from kbsync.request.plan import plan as plan_live_set
from kbsync.store import changes, holds, known, requests
from kbsync.store.requests import StoredRequest
from kbsync.store.tables import RequestStatus
from kbsync.sync.clock import now
from kbsync.sync.room import limit
from kbsync.sync.workbench import Workbench

_STANDING = (RequestStatus.PLANNED, RequestStatus.SOLVED, RequestStatus.EDITED, RequestStatus.KNOWN)


@dataclass(frozen=True, slots=True)
class Planned:
    """The wanted live set as stored requests, and the planner's counts by named outcome."""

    wanted: tuple[StoredRequest, ...]
    counts: dict[str, int]


def plan(bench: Workbench, run_id: int) -> Planned:
    """Work out the live set from the store as it is, and write it down in one transaction."""
    watch = bench.settings.watch
    with bench.store.begin() as tx:
        facts = known.known_facts(tx, watch.relations)
        previous = known.previous_values(tx, watch.relations)
        at = _source_time(tx, watch.relations)
        result = plan_live_set(
            facts,
            previous,
            _labels(tx, facts, previous.values(), watch.relations),
            bench.catalogue,
            watch,
            bench.settings.evaluate.neighbors,
            at,
            limit(bench, tx),
        )
        ids = requests.save_requests(tx, run_id, now(), result.wanted)
        holds.save_held(tx, run_id, now(), result.held)
        gone = _withdraw(tx, run_id, result.wanted)
        changes.settle(tx, {held.fact: f"held: {held.reason}" for held in result.held})
        planned = {request.fact for request in result.wanted} | {held.fact for held in result.held}
        changes.settle_the_rest(tx, planned)
        wanted = requests.requests_by_id(tx, ids)
    return Planned(tuple(wanted), _counts(result, gone))


def _source_time(tx: Session, relations: Sequence[str]) -> datetime:
    """How far the mirror reaches: what has ended is judged by the source's time, so the plan is a pure
    function of the store."""
    cursors = [known.cursor(tx, relation) for relation in relations]
    times = [cursor.modified for cursor in cursors if cursor is not None]
    return max(times) if times else now()


def _labels(
    tx: Session, facts: Sequence[KnownFact], previous: Iterable[Value], relations: Sequence[str]
) -> dict[str, str | None]:
    """Labels of every subject, object and relation that the planner may name; None where there is none."""
    values = [*(one.fact.value for one in facts), *previous]
    ids = {one.fact.subject for one in facts} | set(relations)
    ids |= {value.text for value in values if value.kind is ValueKind.ITEM}
    found = known.labels(tx, sorted(ids))
    return {one: found.get(one) for one in ids}


def _withdraw(tx: Session, run_id: int, wanted: Sequence[EditRequest]) -> int:
    """Withdraw what an earlier plan wanted and this one does not."""
    keep = {(request.fact, request.content_hash) for request in wanted}
    gone = [
        stored
        for stored in requests.requests_with(tx, _STANDING)
        if (stored.request.fact, stored.request.content_hash) not in keep
    ]
    requests.withdraw(tx, run_id, now(), [stored.id for stored in gone], "no longer current")
    return len(gone)


def _counts(result: Plan, withdrawn: int) -> dict[str, int]:
    return {**result.counts, "withdrawn": withdrawn}
