"""The figures of `/metrics` that the store has. It is the truth, so a restart loses none of them.

Every query reads an index, a short table, or the rows of one run: a scrape must stay cheap as the store grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from kbsync.source import breaker
from kbsync.store import checkpoints, daemons, endpoints, pauses, prunes, runs, triggers
from kbsync.store.tables import RunStatus
from kbsync.store.viewed import rows
from kbsync.sync import overview

Sample = tuple[str, dict[str, str], float]
Part = Callable[[Session, datetime], Iterator[Sample]]

WELL = (RunStatus.PUBLISHED, RunStatus.UNCHANGED)  # a sync that did what it was to do
_ENDED = tuple(one for one in RunStatus if one is not RunStatus.RUNNING)


def samples(tx: Session, at: datetime) -> Iterator[Sample]:
    """All figures of the store as it is at `at`."""
    for part in PARTS:
        yield from part(tx, at)


def _runs(tx: Session, at: datetime) -> Iterator[Sample]:
    found = rows(tx, "SELECT status, trigger, COUNT(*) AS n, MAX(ended_at) AS ended_at FROM runs "
                 "GROUP BY status, trigger")  # fmt: skip
    total = {str(status): 0 for status in _ENDED}
    total |= prunes.pruned_runs(tx)
    ended: dict[str, datetime] = {}
    for row in found:
        status = str(row["status"])
        yield "kbsync_runs", {"status": status, "trigger": str(row["trigger"])}, row["n"]
        if status != RunStatus.RUNNING:
            total[status] += row["n"]
            ended[status] = max(ended.get(status, row["ended_at"]), row["ended_at"])
    for status, count in total.items():
        yield "kbsync_runs_total", {"status": status}, count
    for status, when in ended.items():
        yield "kbsync_last_run_timestamp_seconds", {"status": status}, when.timestamp()
    well = [when for status, when in ended.items() if status in WELL]
    if well:
        yield "kbsync_last_success_timestamp_seconds", {}, max(well).timestamp()
    running = runs.running(tx)
    yield "kbsync_running_seconds", {}, (at - running.started_at).total_seconds() if running else 0.0


def _durations(tx: Session, at: datetime) -> Iterator[Sample]:
    del at
    last = "SELECT trigger, started_at, ended_at FROM runs WHERE status <> 'running' ORDER BY id DESC LIMIT 1"
    for row in rows(tx, last):
        yield "kbsync_last_run_duration_seconds", {"trigger": row["trigger"]}, _seconds(row)
    recent = ("SELECT s.stage, s.started_at, s.ended_at FROM run_stages s WHERE s.ended_at IS NOT NULL "
              "AND s.run_id > (SELECT COALESCE(MAX(id), 0) - 200 FROM runs) ORDER BY s.run_id")  # fmt: skip
    for stage, row in {row["stage"]: row for row in rows(tx, recent)}.items():
        yield "kbsync_last_stage_duration_seconds", {"stage": stage}, _seconds(row)


def _seconds(row: dict[str, Any]) -> float:
    return float((row["ended_at"] - row["started_at"]).total_seconds())


def _waiting(tx: Session, at: datetime) -> Iterator[Sample]:
    del at
    yield "kbsync_triggers_waiting", {}, len(triggers.waiting(tx))
    yield "kbsync_approval_waiting", {}, len(overview.questions(tx))
    yield "kbsync_touches_waiting", {}, rows(tx, "SELECT COUNT(*) AS n FROM touches")[0]["n"]


def _daemon(tx: Session, at: datetime) -> Iterator[Sample]:
    up = daemons.up(tx, at)
    yield "kbsync_daemon_up", {}, float(bool(up))
    yield "kbsync_paused", {}, float(pauses.paused(tx, at) is not None)
    if up and up[0].next_run_at is not None:
        yield "kbsync_daemon_next_run_timestamp_seconds", {}, up[0].next_run_at.timestamp()
    for row in rows(tx, "SELECT name, epoch FROM leases"):
        yield "kbsync_lease_epoch", {"lease": row["name"]}, row["epoch"]


def _source(tx: Session, at: datetime) -> Iterator[Sample]:
    newest = None
    for row in rows(tx, "SELECT relation, modified AS modified_at, complete_at FROM cursors"):
        relation, modified = {"relation": row["relation"]}, row["modified_at"]
        yield "kbsync_first_pull_complete", relation, float(row["complete_at"] is not None)
        if modified is not None:
            newest = modified if newest is None else max(newest, modified)
            yield "kbsync_relation_lag_seconds", relation, (at - modified).total_seconds()
    if newest is not None:
        yield "kbsync_endpoint_lag_seconds", {}, (at - newest).total_seconds()
    for one in endpoints.endpoints(tx):
        host = {"host": one.host}
        open_until = one.open_until if breaker.is_open(one, at) else None
        yield "kbsync_endpoint_requests_total", host, one.requests
        yield "kbsync_endpoint_refused_total", host, one.refused
        yield "kbsync_endpoint_refusals", host, one.refusals
        yield "kbsync_breaker_open", host, float(open_until is not None)
        yield "kbsync_next_try_timestamp_seconds", host, open_until.timestamp() if open_until else 0
        if one.page_size is not None:
            yield "kbsync_page_size_rows", host, one.page_size
    yield from _grouped(tx, "kbsync_stream_events_total", "SELECT outcome, SUM(events) AS n FROM stream_outcomes "
                        "GROUP BY outcome")  # fmt: skip


def _reconciles(tx: Session, at: datetime) -> Iterator[Sample]:
    del at
    for row in rows(tx, "SELECT MAX(ended_at) AS ended_at FROM reconciles"):
        if row["ended_at"] is not None:
            yield "kbsync_last_reconcile_timestamp_seconds", {}, row["ended_at"].timestamp()
    yield from _grouped(tx, "kbsync_last_reconcile_divergences", "SELECT kind, SUM(count) AS n FROM divergences "
                        "WHERE run_id = (SELECT MAX(run_id) FROM reconciles) GROUP BY kind")  # fmt: skip


def _facts(tx: Session, at: datetime) -> Iterator[Sample]:
    del at
    for name, sql in (
        ("kbsync_changes_total", "SELECT kind, COUNT(*) AS n FROM changes GROUP BY kind"),
        ("kbsync_facts", "SELECT relation, COUNT(*) AS n FROM facts WHERE retired_at IS NULL GROUP BY relation"),
        ("kbsync_edit_requests", "SELECT status, COUNT(*) AS n FROM edit_requests GROUP BY status"),
        ("kbsync_held_facts", "SELECT reason, COUNT(*) AS n FROM (SELECT reason FROM holds "
         "WHERE released_at IS NULL UNION ALL SELECT reason FROM edit_requests WHERE status = 'held') h "
         "GROUP BY reason"),
        ("kbsync_held_changes", "SELECT reason, COUNT(*) AS n FROM trust_verdicts WHERE closed_at IS NULL "
         "AND NOT passed GROUP BY reason"),
    ):  # fmt: skip
        yield from _grouped(tx, name, sql)


def _evaluation(tx: Session, at: datetime) -> Iterator[Sample]:
    """Of the run that was last measured."""
    del at
    yield from _grouped(tx, "kbsync_outcomes", "SELECT phase, kind, success, accuracy, COUNT(*) AS n FROM outcomes "
                        "WHERE run_id = (SELECT MAX(run_id) FROM metrics) "
                        "GROUP BY phase, kind, success, accuracy")  # fmt: skip
    last = ("SELECT name, phase, value FROM metrics WHERE value IS NOT NULL "
            "AND run_id = (SELECT MAX(run_id) FROM metrics)")  # fmt: skip
    for row in rows(tx, last):
        yield "kbsync_evaluation_value", {"metric": row["name"], "phase": row["phase"]}, row["value"]


def _gate(tx: Session, at: datetime) -> Iterator[Sample]:
    del at
    counted = ("SELECT metric, CASE WHEN passed THEN 'passed' ELSE 'refused' END AS result, COUNT(*) AS n "
               "FROM gate_verdicts GROUP BY metric, passed")  # fmt: skip
    yield from _grouped(tx, "kbsync_gate_verdicts", counted)
    last = ("SELECT metric, value, threshold, passed FROM gate_verdicts "
            "WHERE run_id = (SELECT MAX(run_id) FROM gate_verdicts)")  # fmt: skip
    for row in rows(tx, last):
        metric = {"metric": row["metric"]}
        yield "kbsync_gate_passed", metric, float(row["passed"])
        if row["value"] is not None:
            yield "kbsync_gate_value", metric, row["value"]
        if row["threshold"] is not None:
            yield "kbsync_gate_threshold", metric, row["threshold"]


def _models(tx: Session, at: datetime) -> Iterator[Sample]:
    del at
    live = checkpoints.live(tx)
    model = live.checkpoint if live is not None else None
    yield "kbsync_live_facts", {}, model.facts if model is not None else 0
    yield "kbsync_live_info", {"checkpoint": model.name if model is not None else "base model"}, 1
    yield "kbsync_live_damaged", {}, float(model is not None and model.damage is not None)
    if live is not None:
        yield "kbsync_live_timestamp_seconds", {}, live.at.timestamp()
    kept = ("SELECT status, COUNT(*) AS n, SUM(bytes) AS size FROM checkpoints WHERE pruned_at IS NULL "
            "GROUP BY status")  # fmt: skip
    size = 0
    for row in rows(tx, kept):
        yield "kbsync_checkpoints", {"status": row["status"]}, row["n"]
        size += int(row["size"])
    yield "kbsync_checkpoint_bytes", {}, size


def _store(tx: Session, at: datetime) -> Iterator[Sample]:
    """SQLite: the pages of the file; the write-ahead log beside it is folded in again and again."""
    del at
    if tx.get_bind().dialect.name == "sqlite":
        sql = "SELECT p.page_count * s.page_size AS n FROM pragma_page_count() p, pragma_page_size() s"
    else:
        sql = "SELECT pg_database_size(current_database()) AS n"
    yield "kbsync_store_bytes", {}, rows(tx, sql)[0]["n"]


def _grouped(tx: Session, name: str, sql: str) -> Iterator[Sample]:
    """A sample of each row: `n` is its value, the other columns are its labels."""
    for row in rows(tx, sql):
        value = row.pop("n")
        yield name, {label: _word(one) for label, one in row.items()}, float(value)


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[bool(value)] if isinstance(value, (bool, int)) else str(value)


PARTS: tuple[Part, ...] = (
    _runs, _durations, _waiting, _daemon, _source, _reconciles, _facts, _evaluation, _gate, _models, _store,
)  # fmt: skip
