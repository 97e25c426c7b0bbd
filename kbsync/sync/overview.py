"""What is live, what runs, what comes next, and what waits: for `kbsync status`, `kbsync held` and HTTP alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from kbsync.facts import EndpointState
from kbsync.settings import Settings
from kbsync.source import breaker
from kbsync.store import (
    asides,
    checkpoints,
    daemons,
    endpoints,
    holds,
    known,
    pauses,
    quarantines,
    reconciles,
    requests,
    runs,
    triggers,
)
from kbsync.store.checkpoints import Checkpoint
from kbsync.store.outcomes import metrics_of, verdicts_of
from kbsync.store.pauses import Pause
from kbsync.store.reconciles import LastReconcile
from kbsync.store.viewed import rows
from kbsync.sync.clock import now
from kbsync.sync.room import last_room
from kbsync.sync.watched import watches_of

_RUNS = """
SELECT run, trigger, status, stage, reason, started_at, seconds, added, replaced, retired, efficacy_success,
       efficacy_accuracy, neighborhood_before, neighborhood_after, perplexity_ratio, gate, checkpoint, facts
FROM run_summary
"""
_NEWEST = f"{_RUNS} ORDER BY run DESC LIMIT :runs"
_ONE = f"{_RUNS} WHERE run = :run"

_CHANGES = """
SELECT id, way, subject, subject_label, relation, relation_label, object, object_label, reason, detail, changed_at,
       waits_until, first_run, held_at
FROM held_changes ORDER BY CASE WHEN waits_until IS NULL THEN 0 ELSE 1 END, waits_until, id
"""
_OTHERS = """
SELECT h.subject, h.subject_label, h.relation, h.relation_label, h.object, h.object_label, h.reason, h.first_run,
       h.held_at
FROM held_facts h
WHERE NOT EXISTS (
    SELECT 1 FROM held_changes c
    WHERE c.subject = h.subject AND c.relation = h.relation AND c.object = h.object
)
AND NOT EXISTS (
    SELECT 1 FROM kept_out_facts k
    WHERE k.subject = h.subject AND k.relation = h.relation AND k.object = h.object
)
ORDER BY h.reason, h.subject
"""
_KEPT_OUT = """
SELECT id, kind, subject, subject_label, relation, relation_label, object, object_label, reason, metric, value_with,
       value_without, comparison, threshold, run, kept_out_at
FROM kept_out_facts ORDER BY kind, id
"""
_QUESTIONS = """
SELECT r.id AS run, r.reason, r.ended_at FROM runs r
WHERE r.status = 'waiting' AND r.id = (SELECT MAX(id) FROM runs WHERE status <> 'running')
AND NOT EXISTS (SELECT 1 FROM trust_decisions d WHERE d.question_run = r.id)
"""


def status(tx: Session, settings: Settings, limit: int) -> dict[str, Any]:
    """The live model, the daemon, the last `limit` runs, and what the store holds."""
    live, pause = checkpoints.live(tx), pauses.paused(tx, now())
    running = runs.running(tx)
    return {
        "live": _live(live.checkpoint, live.at, checkpoints.servable(tx)) if live and live.checkpoint else None,
        "daemon": _daemon(tx, pause),
        "pause": pause,
        "running": {"run": running.id, "stage": running.stage, "started_at": running.started_at}
        if running
        else None,
        "room": last_room(tx),
        "reconcile": _reconcile(reconciles.latest(tx)),
        "triggers_waiting": len(triggers.waiting(tx)),
        "runs": newest_runs(tx, limit),
        "watch": watches_of(tx, settings),
        "facts": dict(known.counted(tx)),
        "requests": dict(requests.status_counts(tx)),
        "held": dict(holds.hold_counts(tx)),
        "kept_out": _kept_out(tx),
        "endpoints": [_endpoint(one) for one in endpoints.endpoints(tx)],
    }


def as_data(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `status` found, for programs."""
    return {**found, "room": found["room"].as_data() if found["room"] is not None else None}


def newest_runs(tx: Session, limit: int) -> list[dict[str, Any]]:
    """The summaries of the last runs, newest first."""
    return rows(tx, _NEWEST, runs=limit)


def run_in_full(tx: Session, run_id: int) -> dict[str, Any] | None:
    """One run: its summary, stages, metrics and verdicts, what it has kept out and the trials of its bisections;
    None when there is none of this id."""
    found = rows(tx, _ONE, run=run_id)
    if not found:
        return None
    return {
        **found[0],
        "stages": [
            {"stage": one.stage, "started_at": one.started_at, "ended_at": one.ended_at, "counts": one.counts}
            for one in runs.stages(tx, run_id)
        ],
        "metrics": metrics_of(tx, run_id),
        "verdicts": verdicts_of(tx, run_id),
        "kept_out": quarantines.of_run(tx, run_id),
        "trials": quarantines.trials_of(tx, run_id),
    }


def held(tx: Session, reason: str | None) -> dict[str, Any]:
    """Held changes and what is kept out, with the ids that decisions take; facts that are held otherwise;
    and a run that asks."""
    changes = [{**row, "id": f"h{row['id']}"} for row in rows(tx, _CHANGES)]
    others = rows(tx, _OTHERS)
    out = [
        {**row, "id": f"{'a' if row['kind'] == 'rolled back' else 'q'}{row['id']}"} for row in rows(tx, _KEPT_OUT)
    ]
    if reason is not None:
        out = [one for one in out if reason in (one["kind"], one["metric"])]
        changes = [one for one in changes if reason in (one["reason"], *(one["detail"] or "").split(", "))]
        others = [one for one in others if one["reason"] == reason]
    return {"changes": changes, "kept_out": out, "facts": others, "runs": questions(tx)}


def _kept_out(tx: Session) -> dict[str, int]:
    """How many facts are kept out of the model, by kind."""
    counts = {str(kind): number for kind, number in quarantines.counted(tx).items()}
    aside = asides.counted(tx)
    return {**counts, "rolled back": aside} if aside else counts


def questions(tx: Session) -> list[dict[str, Any]]:
    """The last run, if it asks for an approval that nobody has given yet."""
    return rows(tx, _QUESTIONS)


def _endpoint(state: EndpointState) -> dict[str, Any]:
    return {
        "host": state.host,
        "next_try_at": state.open_until if breaker.is_open(state, now()) else None,
        "reason": state.reason,
        "requests": state.requests,
        "refused": state.refused,
        "page_size": state.page_size,
    }


def _live(live: Checkpoint, since: object, servable: Sequence[Checkpoint]) -> dict[str, object]:
    """The live model; `damage`: what was found to be wrong with its files; `answers`: who stands in for it then."""
    whole = next((one.name for one in servable if one.damage is None), None)
    return {
        "checkpoint": live.name, "facts": live.facts, "since": since, "damage": live.damage, "answers": whole,
    }  # fmt: skip


def _reconcile(last: LastReconcile | None) -> dict[str, Any] | None:
    """The last full pass: its divergences by kind, and the relations of which it retired nothing."""
    if last is None:
        return None
    return {
        "run": last.run_id,
        "ended_at": last.ended_at,
        "relations": len(last.relations),
        "divergences": {str(kind): count for kind, count in last.counts.items()},
        "kept": {one.relation: f"{one.outcome}: {one.reason}" for one in last.relations if not one.complete},
    }


def _daemon(tx: Session, pause: Pause | None) -> dict[str, Any] | None:
    last = daemons.latest(tx)
    if last is None:
        return None
    return {
        "up": last.is_up(now()),
        "host": last.host,
        "pid": last.pid,
        "started_at": last.started_at,
        "beat_at": last.beat_at,
        "next_run_at": _next_run(last.next_run_at, pause),
        "stopped_at": last.stopped_at,
    }


def _next_run(told: datetime | None, pause: Pause | None) -> datetime | None:
    """When a run starts by itself next. What the daemon told last may be from before the pause."""
    if pause is None or told is None:
        return told
    return None if pause.until is None else max(told, pause.until)
