"""`kbsync status`: what is live, what runs, what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import report, show
from kbsync.cli.state import State, json_option, pass_state

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from kbsync.facts import EndpointState
    from kbsync.settings import Settings
    from kbsync.store.checkpoints import Checkpoint
    from kbsync.store.pauses import Pause
    from kbsync.store.reconciles import LastReconcile
    from kbsync.sync.watched import Watched

_RUNS = """
SELECT run, trigger, status, stage, reason, started_at, seconds, added, replaced, retired, efficacy_success,
       efficacy_accuracy, neighborhood_before, neighborhood_after, perplexity_ratio, gate, checkpoint, facts
FROM run_summary ORDER BY run DESC LIMIT :runs
"""


@click.command("status", short_help="What is live, what runs, what comes next.")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(0), help="How many runs to show.")
@json_option
@pass_state
def command(state: State, runs: int) -> None:
    """Show the live model, the daemon, the last runs, and what the store holds.

    \b
    Example:
      kbsync status --runs 20
    """
    settings = state.settings()
    with state.store() as store, store.read() as tx:
        found = {"store": store.place.removeprefix("the store "), **_look(tx, settings, runs)}
    if state.as_json:
        show.as_json({**found, "room": report.room_as_data(found["room"])})
    else:
        _print(found)


def _look(tx: Session, settings: Settings, limit: int) -> dict[str, Any]:
    from kbsync.cli import ledger, pause
    from kbsync.store import checkpoints, endpoints, holds, known, pauses, reconciles, requests, runs, triggers
    from kbsync.sync.clock import now
    from kbsync.sync.room import last_room
    from kbsync.sync.watched import watches_of

    live, paused = checkpoints.live(tx), pauses.paused(tx, now())
    running = runs.running(tx)
    return {
        "live": _live(live.checkpoint, live.at, checkpoints.servable(tx)) if live and live.checkpoint else None,
        "daemon": _daemon(tx, paused),
        "pause": pause.as_data(paused),
        "running": {"run": running.id, "stage": running.stage, "started_at": running.started_at}
        if running
        else None,
        "room": last_room(tx),
        "reconcile": _reconcile(reconciles.latest(tx)),
        "triggers_waiting": len(triggers.waiting(tx)),
        "runs": ledger.rows(tx, _RUNS, runs=limit),
        "watch": watches_of(tx, settings),
        "facts": dict(known.counted(tx)),
        "requests": dict(requests.status_counts(tx)),
        "held": dict(holds.hold_counts(tx)),
        "endpoints": [_endpoint(one) for one in endpoints.endpoints(tx)],
    }


def _endpoint(state: EndpointState) -> dict[str, Any]:
    from kbsync.sync.clock import now

    return {
        "host": state.host,
        "next_try_at": state.open_until if state.open_until and state.open_until > now() else None,
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
    from kbsync.store import daemons
    from kbsync.sync.clock import now
    from kbsync.sync.daemon import PATIENCE

    last = daemons.latest(tx)
    if last is None:
        return None
    return {
        "up": last.is_up(now(), PATIENCE),
        "host": last.host,
        "pid": last.pid,
        "started_at": last.started_at,
        "beat_at": last.beat_at,
        "next_run_at": _next_run(last.next_run_at, pause),
        "stopped_at": last.stopped_at,
    }


def _print(found: Mapping[str, Any]) -> None:
    from kbsync.cli.pause import words as pause_words

    live, daemon, running = found["live"], found["daemon"], found["running"]
    table = [
        ["store", found["store"]],
        [
            "live model",
            f"{live['checkpoint']}, {live['facts']} facts, since {show.words(live['since'])}"
            if live
            else "the base model",
        ],
        ["daemon", _daemon_words(daemon)],
        ["running", f"run {running['run']}, stage {running['stage'] or 'start'}" if running else "nothing"],
        ["watched", _watch_words(found["watch"])],
        ["facts", f"{sum(found['facts'].values())} in {len(found['facts'])} relations"],
        ["edit requests", _counts(found["requests"]) or "none"],
        ["held", _counts(found["held"]) or "none"],
    ]
    table.insert(3, ["reconcile", _reconcile_words(found["reconcile"])])
    if found["pause"] is not None:
        table.insert(3, ["paused", pause_words(found["pause"])])
    if found["room"] is not None:
        table.insert(2, ["room", found["room"].words()])
    for one in found["endpoints"]:
        if one["next_try_at"] is not None:
            words = f"{one['host']} is left alone until {show.words(one['next_try_at'])}: {one['reason']}"
            table.append(["next try", words])
    if found["triggers_waiting"]:
        table.append(["waiting", f"{found['triggers_waiting']} triggers"])
    show.table(["", ""], table, title="kbsync, times in UTC")
    if live and live["damage"] is not None:
        stands_in = f"{live['answers']} answers" if live["answers"] else "no other model is whole"
        show.line(f"warning: {live['damage']}; {stands_in}, and the next sync builds it again", "yellow")
    if found["room"] is not None:
        for warning in found["room"].warnings():
            show.line(f"warning: {warning}", "yellow")
    if found["runs"]:
        _print_runs(found["runs"])


def _next_run(told: datetime | None, pause: Pause | None) -> datetime | None:
    """When a run starts by itself next. What the daemon told last may be from before the pause."""
    if pause is None or told is None:
        return told
    return None if pause.until is None else max(told, pause.until)


def _daemon_words(daemon: Mapping[str, Any] | None) -> str:
    if daemon is None or (not daemon["up"] and daemon["stopped_at"] is not None):
        return "not running; `kbsync run` starts one"
    where = f"process {daemon['pid']} on {daemon['host']}"
    if not daemon["up"]:
        return f"gone without a word: {where}, last seen {show.words(daemon['beat_at'])}; `kbsync run` starts one"
    following = f", next run {show.words(daemon['next_run_at'])}" if daemon["next_run_at"] else ""
    return f"up, {where}{following}"


def _reconcile_words(last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "never; `kbsync reconcile` makes one"
    different = _counts({kind: count for kind, count in last["divergences"].items() if count})
    kept = f"; nothing retired in {', '.join(last['kept'])}" if last["kept"] else ""
    return f"run {last['run']}, {show.words(last['ended_at'])}: {different or 'no divergence'}{kept}"


def _watch_words(watched: Sequence[Watched]) -> str:
    """How many relations, and whose first pull is not complete."""
    left = [f"{one.relation} {one.backfill}, {one.subjects_read or 0} subjects read" for one in watched]
    left = [words for words, one in zip(left, watched, strict=True) if one.backfill != "done"]
    rest = f"; first pull: {'; '.join(left)}" if left else ""
    return f"{len(watched)} relations{rest}" if watched else "nothing; `kbsync watch add` adds relations"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _print_runs(runs: list[dict[str, Any]]) -> None:
    show.table(
        ["run", "by", "status", "started", "time", "changes", "said", "perplexity", "facts", "reason"],
        [
            [
                run["run"],
                run["trigger"],
                run["status"],
                run["started_at"],
                show.duration(run["seconds"]) if run["seconds"] is not None else "",
                f"+{run['added'] or 0} ~{run['replaced'] or 0} -{run['retired'] or 0}",
                run["efficacy_accuracy"],
                f"×{run['perplexity_ratio']:.3f}" if run["perplexity_ratio"] is not None else "",
                run["facts"],
                run["reason"],
            ]
            for run in runs
        ],
        title="Runs (changes: + added, ~ replaced, - retired; said: share of edits that greedy decoding says)",
        numbers=["run", "time", "said", "perplexity", "facts"],
    )
