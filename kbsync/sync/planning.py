"""The plan stage: the facts in the store, through the trust filter, → the live set wanted, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from kbsync.facts import EditRequest, Fact, KnownFact, Value
from kbsync.request.plan import LEFT_OUT, QUARANTINED, ROLLED_BACK, Aside, Constraints, Known, Plan
from kbsync.request.plan import plan as plan_live_set
from kbsync.store import asides, changes, checkpoints, holds, known, quarantines, requests, runs, trust
from kbsync.store.requests import StoredRequest
from kbsync.store.tables import KeptOut, RequestStatus, Way
from kbsync.sync import trusting
from kbsync.sync.clock import now
from kbsync.sync.room import limit
from kbsync.sync.trusting import Trusted
from kbsync.sync.watching import effective
from kbsync.sync.workbench import Workbench

_STANDING = (RequestStatus.PLANNED, RequestStatus.SOLVED, RequestStatus.EDITED, RequestStatus.KNOWN)
_TAKEN = (RequestStatus.EDITED, RequestStatus.KNOWN)
_KEPT_OUT = {KeptOut.QUARANTINED: QUARANTINED, KeptOut.LEFT_OUT: LEFT_OUT}


@dataclass(frozen=True, slots=True)
class Planned:
    """The wanted live set as stored requests, the planner's counts by named outcome, the question that the run must
    stop at, where there is one, and the id of the publication that was live then."""

    wanted: tuple[StoredRequest, ...]
    counts: dict[str, int]
    question: str | None = None
    publication: int | None = None


def plan(bench: Workbench, run_id: int) -> Planned:
    """Work out the live set from the store as it is, and write it down in one transaction."""
    with bench.store.begin() as tx:
        found, result = _planned(bench, tx)
        question = _question(bench, tx, run_id, result)
        ids = requests.save_requests(tx, run_id, now(), result.wanted)
        holds.save_held(tx, run_id, now(), [*result.held, *found.held])
        trust.save_verdicts(tx, run_id, now(), trusting.stored(found.verdicts))
        asides.end(tx, set(result.ended), now(), f"run {run_id}: Wikidata has something else")
        held = {one.fact: f"held: {one.reason}" for one in (*result.held, *found.held)}
        gone = _withdraw(tx, run_id, result.wanted, held)
        changes.settle(tx, held)
        pending = changes.settle_the_rest(tx, {one.fact for one in result.wanted} | held.keys(), found.kept)
        wanted = requests.requests_by_id(tx, ids)
        changes.settle(tx, {fact: said for fact, said in _settled(wanted).items() if fact in pending})
        live = checkpoints.live(tx)
    return Planned(tuple(wanted), _counts(found, result, gone), question, live.id if live is not None else None)


def _planned(bench: Workbench, tx: Session) -> tuple[Trusted, Plan]:
    """What is believed, and the plan that follows; a second time where that is more than one run may change."""
    settings = effective(tx, bench.settings)
    watch = settings.watch
    facts = known.known_facts(tx, watch.relations)
    previous = known.previous_values(tx, watch.relations)
    labels = _labels(tx, facts, previous.values(), watch.relations)
    at = _source_time(tx, watch.relations)
    constraints = Constraints(limit(bench, tx), _kept_out(bench, tx), _asides(tx))

    def once(waiting: Iterable[Fact]) -> tuple[Trusted, Plan]:
        found = trusting.trusted(tx, settings, bench.catalogue, facts, labels, at, waiting)
        before = known.previous_values(tx, watch.relations, found.standing, found.never)
        basis = Known(found.known, before, found.labels, at)
        neighbors = bench.settings.evaluate.neighbors
        return found, plan_live_set(basis, bench.catalogue, watch, neighbors, constraints)

    found, result = once(())
    kept = {one.kept.fact for one in constraints.asides if one.kept is not None}
    beyond = _beyond(bench, tx, found, result, kept)
    return once(beyond) if beyond else (found, result)


def _kept_out(bench: Workbench, tx: Session) -> dict[str, str]:
    """What bisections keep out on this base model: the reason by content hash.

    No model is loaded to tell: its hash is that of the last run with this `model.base` that loaded it. Before there
    is one, nothing is kept out.
    """
    last = runs.last_identified(tx, base=bench.settings.model.base)
    if last is None or last.base_hash is None:
        return {}
    return {one: _KEPT_OUT[kind] for one, kind in quarantines.kept_out(tx, last.base_hash).items()}


def _asides(tx: Session) -> list[Aside]:
    """What rollbacks have set aside, as the planner takes it."""
    return [
        Aside(
            one.group,
            one.disliked.request.fact.value if one.disliked is not None else None,
            one.disliked.request.content_hash if one.disliked is not None else None,
            one.kept.request if one.kept is not None else None,
        )
        for one in asides.standing(tx)
    ]


def _beyond(bench: Workbench, tx: Session, found: Trusted, result: Plan, kept: Set[Fact]) -> list[Fact]:
    """The new facts that are more than one run may bring: the changes that are oldest come first."""
    most, since = bench.settings.trust.max_per_run, found.changes
    if not most:
        return []
    taken = {stored.request.fact for stored in requests.requests_with(tx, _TAKEN)} | kept
    new = [one.fact for one in result.wanted if one.fact not in taken and one.fact in since]
    return sorted(new, key=lambda fact: (since[fact], fact))[most:]


def _question(bench: Workbench, tx: Session, run_id: int, result: Plan) -> str | None:
    """What the run must ask: it would change more of the published live set than it may, and nobody approved.

    A fact counts that comes, goes, or is said in other words. While the base model is live, nothing can be lost.
    """
    settings = bench.settings.trust
    published = checkpoints.live(tx)
    live_id = published.checkpoint.id if published and published.checkpoint else None
    held = {one.request.fact: one.request.content_hash for one in checkpoints.held_requests(tx, live_id)}
    if settings.ask_share is None or not held:
        return None
    known_already = {one.request.fact for one in requests.requests_with(tx, (RequestStatus.KNOWN,))}
    wanted = {one.fact: one.content_hash for one in result.wanted if one.fact not in known_already}
    found = {(fact, Way.LEAVE) for fact in held.keys() - wanted.keys()}
    found |= {(fact, Way.ENTER) for fact in wanted.keys() - held.keys()}
    found |= {(fact, Way.LABEL) for fact in wanted.keys() & held.keys() if wanted[fact] != held[fact]}
    found -= trust.approved_changes(tx)
    most = max(settings.ask_share * len(held), settings.ask_floor)
    if len(found) <= most:
        return None
    trust.ask(tx, run_id, found)
    return (
        f"it would change {len(found)} facts of a live set of {len(held)}, more than {most:.0f}; "
        f"`kbsync approve {run_id}` lets the next run go on"
    )


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
    ids.update(one for value in values for one in value.entities)
    found = known.labels(tx, sorted(ids))
    return {one: found.get(one) for one in ids}


def _withdraw(tx: Session, run_id: int, wanted: Sequence[EditRequest], held: Mapping[Fact, str]) -> int:
    """Withdraw what an earlier plan wanted and this one does not; what is kept out of this one says so."""
    keep = {(request.fact, request.content_hash) for request in wanted}
    gone = [
        stored
        for stored in requests.requests_with(tx, _STANDING)
        if (stored.request.fact, stored.request.content_hash) not in keep
    ]
    said = {f"held: {reason}" for reason in (*_KEPT_OUT.values(), ROLLED_BACK)}
    out = {stored.id: held[stored.request.fact] for stored in gone if held.get(stored.request.fact) in said}
    requests.withdraw(
        tx, run_id, now(), [stored.id for stored in gone if stored.id not in out], "no longer current"
    )
    statuses = {one: (RequestStatus.WITHDRAWN, reason) for one, reason in out.items()}
    requests.set_statuses(tx, run_id, now(), statuses)
    return len(gone)


def _settled(wanted: Iterable[StoredRequest]) -> dict[Fact, str]:
    """What has become of wanted facts that earlier runs have settled: a change may have brought one back."""
    words = {RequestStatus.EDITED: "edited", RequestStatus.KNOWN: "known"}
    said = {one.request.fact: words[one.status] for one in wanted if one.status in words}
    failed = (one for one in wanted if one.status is RequestStatus.FAILED)
    return said | {one.request.fact: f"failed: {one.reason}" for one in failed}


def _counts(found: Trusted, result: Plan, withdrawn: int) -> dict[str, int]:
    """One outcome per believed fact and per held one, then what the filter did beside that."""
    counts = dict(result.counts)
    for one in found.held:
        counts[f"held: {one.reason}"] = counts.get(f"held: {one.reason}", 0) + 1
    return {**dict(sorted(counts.items())), **trusting.counts(found), "withdrawn": withdrawn}
