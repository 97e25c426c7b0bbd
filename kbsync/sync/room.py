"""How many facts the model holds, from what the ledger knows of this and earlier live sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from kbsync.evaluate.metrics import Metric
from kbsync.evaluate.room import Room, room_of
from kbsync.facts import Phase
from kbsync.request.plan import Limit
from kbsync.store import checkpoints, outcomes, requests, runs
from kbsync.store.tables import CheckpointStatus, RequestStatus
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    from kbsync.edit.memit import Rebuilt
    from kbsync.evaluate.capacity import Measured
    from kbsync.evaluate.gate import Verdict

_SHAPING = ("model", "edit", "covariance")  # what weights follow from, as far as settings name it
_JUDGING = ("evaluate", "gate")


def measure(
    bench: Workbench,
    run_id: int,
    facts: int,
    metrics: Sequence[Metric],
    verdicts: Sequence[Verdict],
    rebuilt: Rebuilt,
) -> Room:
    """What this run tells of the room, together with earlier live sets on the same base model and settings; kept
    as metrics of the run."""
    from kbsync.evaluate.capacity import Measured, estimates
    from kbsync.evaluate.room import look

    live_sets = [*_earlier(bench), Measured(facts, metrics)]
    found = look(
        facts,
        estimates(live_sets, bench.settings.gate),
        verdicts,
        rebuilt.misses if bench.settings.edit.repair_rounds else (),
    )
    with bench.store.begin() as tx:
        rows = [outcomes.Metric(m.name, m.phase, m.value, m.count) for m in found.metrics()]
        outcomes.add_metrics(tx, run_id, rows)
    return found


def _earlier(bench: Workbench) -> list[Measured]:
    """The live sets that were judged on this base model with these settings, each with its metrics."""
    from kbsync.evaluate.capacity import Measured

    wanted = _sections(bench, ("evaluate",))
    with bench.store.read() as tx:
        return [
            Measured(one.facts, metrics_of(tx, one.run_id))
            for one in checkpoints.judged(tx, bench.base.hash)
            if one.settings_hash == bench.settings_hash and _has(tx, one.run_id, wanted)
        ]


def limit(bench: Workbench, tx: Session) -> Limit | None:
    """How many edits the plan may want, since the model was found full; None where it was not.

    Read from the refusals that stand: those with today's base model, and today's settings of everything that
    shapes a candidate or judges it. More refusals can only lower it; another base model or other settings lift it.
    No model is loaded to tell: its hash is that of the last run that loaded it.
    """
    if bench.settings.watch.when_full == "refuse":
        return None
    last = runs.last_identified(tx)
    if last is None:
        return None
    wanted = _sections(bench, (*_SHAPING, *_JUDGING))
    kept = [
        room.keeps
        for one in checkpoints.judged(tx, last.base_hash)
        if one.status is CheckpointStatus.REJECTED and _has(tx, one.run_id, wanted)
        if (room := room_of(one.facts, metrics_of(tx, one.run_id))).keeps is not None
    ]
    if not kept:
        return None
    known = requests.requests_with(tx, (RequestStatus.KNOWN,))
    return Limit(min(kept), frozenset(stored.request.content_hash for stored in known))


def last_room(tx: Session) -> Room | None:
    """What the last run that judged a candidate found of the room."""
    last = next(iter(checkpoints.judged(tx, limit=1)), None)
    return None if last is None else room_of(last.facts, metrics_of(tx, last.run_id))


def metrics_of(tx: Session, run_id: int) -> list[Metric]:
    """A run's metrics as the evaluation has them."""
    return [Metric(m.name, Phase(m.phase), m.value, m.count) for m in outcomes.metrics_of(tx, run_id)]


def _sections(bench: Workbench, names: Sequence[str]) -> dict[str, Any]:
    whole = bench.settings.model_dump(mode="json")
    return {name: whole[name] for name in names}


def _has(tx: Session, run_id: int, sections: Mapping[str, Any]) -> bool:
    """Whether a run had these settings."""
    settings = runs.run_of(tx, run_id).settings
    return all(settings.get(name) == value for name, value in sections.items())
