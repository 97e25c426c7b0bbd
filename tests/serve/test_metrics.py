"""The exposition: what the table of metrics says, by Prometheus' own parser, true to the store, and cheap."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from kbsync.facts import ChangeKind, EndpointState, ValueKind
from kbsync.serve.collect import samples
from kbsync.serve.exposition import Exposition, families
from kbsync.serve.families import FAMILIES, PROCESS
from kbsync.serve.view import view_of
from kbsync.settings import Settings
from kbsync.store import checkpoints, daemons, endpoints, pauses, prunes, runs, triggers
from kbsync.store.engine import Store, open_store
from kbsync.store.retention import Survey
from kbsync.store.tables import ChangeRow, CursorRow, FactRow, RunRow, RunStatus
from kbsync.sync.clock import now
from kbsync.sync.pulse import Pulse
from tests.serve.conftest import Client, settings_of
from tests.store.examples import later
from tests.store.story import tell
from tests.stores import Server, Stores

Found = dict[str, dict[frozenset[tuple[str, str]], float]]


def parsed(text: str) -> Found:
    """Samples by name and labels, by Prometheus' own parser."""
    found: Found = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, {})[frozenset(one.labels.items())] = one.value
    return found


def scraped(settings: Settings) -> Found:
    """A scrape of a server without a daemon."""
    view = view_of(settings)
    try:
        return parsed(Exposition(view).text().decode())
    finally:
        view.door.close()


def value(found: Found, name: str, **labels: str) -> float:
    return found[name][frozenset(labels.items())]


def test_the_story(settings: Settings, stores: Stores, tmp_path: Path) -> None:
    """Runs, changes, edits, outcomes, verdicts, models: what the store's past says."""
    found = scraped(settings)
    assert value(found, "kbsync_store_up") == 1
    assert value(found, "kbsync_runs_total", status="published") == 2
    assert value(found, "kbsync_runs_total", status="rejected") == 1
    assert value(found, "kbsync_runs_total", status="failed") == 0
    assert value(found, "kbsync_runs", status="published", trigger="schedule") == 2
    assert value(found, "kbsync_last_success_timestamp_seconds") == later(65).timestamp()
    assert value(found, "kbsync_last_run_timestamp_seconds", status="rejected") == later(122).timestamp()
    assert value(found, "kbsync_last_run_duration_seconds", trigger="schedule") == 120
    assert value(found, "kbsync_last_stage_duration_seconds", stage="solve") == pytest.approx(0.5)
    assert value(found, "kbsync_running_seconds") == 0
    assert value(found, "kbsync_changes_total", kind="replaced") == 2
    assert value(found, "kbsync_facts", relation="P6") == 3
    assert value(found, "kbsync_edit_requests", status="edited") == 2
    assert value(found, "kbsync_held_facts", reason="no label") == 1
    assert value(found, "kbsync_held_changes", reason="no reference") == 1
    assert value(found, "kbsync_evaluation_value", metric="efficacy_accuracy", phase="after") == 0.9
    assert value(found, "kbsync_outcomes", phase="after", kind="rewrite", success="yes", accuracy="no") == 1
    assert value(found, "kbsync_gate_verdicts", metric="perplexity_ratio", result="refused") == 1
    assert value(found, "kbsync_gate_verdicts", metric="efficacy_success", result="passed") == 2
    assert value(found, "kbsync_gate_passed", metric="perplexity_ratio") == 0
    assert value(found, "kbsync_gate_value", metric="perplexity_ratio") == 1.3
    assert value(found, "kbsync_gate_threshold", metric="perplexity_ratio") == 1.05
    assert value(found, "kbsync_live_facts") == 1
    assert value(found, "kbsync_live_info", checkpoint="model-1") == 1
    assert value(found, "kbsync_live_timestamp_seconds") == later(180).timestamp()
    assert value(found, "kbsync_live_damaged") == 0
    assert value(found, "kbsync_checkpoint_bytes") > 0
    assert value(found, "kbsync_first_pull_complete", relation="P6") == 1
    assert value(found, "kbsync_last_reconcile_divergences", kind="deleted statement") == 1
    assert value(found, "kbsync_endpoint_requests_total", host="query.example.org") == 12
    assert value(found, "kbsync_daemon_up") == 0
    assert value(found, "kbsync_role", role="server") == 1
    folders = {dict(labels)["folder"] for labels in found["kbsync_disk_free_bytes"]}
    assert ("store.url" in folders) is (stores.name == "sqlite")
    size = stores.size(tmp_path / "kbsync.db")
    assert value(found, "kbsync_store_bytes") == pytest.approx(size, abs=64 * 4096)
    assert value(found, "process_resident_memory_bytes") > 1e6


def test_a_pause_is_seen_until_it_is_over(settings: Settings, told: Store) -> None:
    """0 without one, 1 while one holds, 0 again when its time is over or somebody has resumed it."""
    at = now()
    assert value(scraped(settings), "kbsync_paused") == 0
    with told.begin() as tx:
        pauses.pause(tx, "me", at - timedelta(hours=2), at - timedelta(hours=1), "a move")
    assert value(scraped(settings), "kbsync_paused") == 0
    with told.begin() as tx:
        pauses.pause(tx, "me", at, None, "a move")
    assert value(scraped(settings), "kbsync_paused") == 1
    with told.begin() as tx:
        pauses.resume(tx, "me", now())
    assert value(scraped(settings), "kbsync_paused") == 0


def test_what_goes_on(settings: Settings, told: Store) -> None:
    """A daemon, a run under way, a trigger, an open breaker, damage, a run that asks."""
    at = now()
    with told.begin() as tx:
        daemon = daemons.start(tx, "elsewhere", 1, at)
        daemons.beat(tx, daemon, at, at + timedelta(minutes=5))
        asks = runs.start_run(tx, "schedule", at, {})
        runs.finish_run(tx, asks, RunStatus.WAITING, at, "it would change much")
        runs.start_run(tx, "trigger", at - timedelta(seconds=90), {})
        triggers.request(tx, "me", at)
        later_on = at + timedelta(minutes=10)
        endpoints.save_endpoint(tx, EndpointState("q.example.org", 4, 1, later_on, "HTTP 429", page_size=500), at)
        live = checkpoints.live(tx)
        assert live is not None
        assert live.checkpoint is not None
        checkpoints.note_damage(tx, live.checkpoint.id, "one bit")
    found = scraped(settings)
    assert value(found, "kbsync_daemon_up") == 1
    assert value(found, "kbsync_daemon_next_run_timestamp_seconds") == pytest.approx(at.timestamp() + 300)
    assert value(found, "kbsync_running_seconds") == pytest.approx(90, abs=30)
    assert value(found, "kbsync_triggers_waiting") == 1
    assert value(found, "kbsync_approval_waiting") == 1
    assert value(found, "kbsync_breaker_open", host="q.example.org") == 1
    assert value(found, "kbsync_next_try_timestamp_seconds", host="q.example.org") == pytest.approx(
        later_on.timestamp()
    )
    assert value(found, "kbsync_endpoint_refusals", host="q.example.org") == 4
    assert value(found, "kbsync_page_size_rows", host="q.example.org") == 500
    assert value(found, "kbsync_breaker_open", host="query.example.org") == 0
    assert value(found, "kbsync_live_damaged") == 1
    assert value(found, "kbsync_ready") == 0


def test_lag_is_the_age_of_what_was_read(settings: Settings, told: Store) -> None:
    """Per relation, and the least of them for the endpoint."""
    at = now()
    with told.begin() as tx:
        for relation, hours in (("P35", 2), ("P36", 5)):
            tx.add(CursorRow(relation=relation, modified=at - timedelta(hours=hours), updated_run=1))
    found = scraped(settings)
    assert value(found, "kbsync_relation_lag_seconds", relation="P35") == pytest.approx(7200, abs=60)
    assert value(found, "kbsync_relation_lag_seconds", relation="P36") == pytest.approx(18000, abs=60)
    assert value(found, "kbsync_endpoint_lag_seconds") == pytest.approx(7200, abs=60)


def test_counters_do_not_fall_when_runs_are_pruned(settings: Settings, told: Store) -> None:
    """What was pruned is counted with what is left."""
    with told.begin() as tx:
        prunes.note(tx, "tests", now(), Survey(runs={41: RunStatus.PUBLISHED, 42: RunStatus.FAILED}))
    found = scraped(settings)
    assert value(found, "kbsync_runs_total", status="published") == 3
    assert value(found, "kbsync_runs_total", status="failed") == 1


@pytest.mark.postgres
def test_both_databases_say_the_same(server: Server, told: Store) -> None:
    """All samples of the story, but for the size, are the same on SQLite and on PostgreSQL."""
    with open_store(server.laid_out()) as store:
        tell(store)
        here, there = all_samples(store), all_samples(told)
    size = ("kbsync_store_bytes",)
    assert here.pop(size) > 0
    there.pop(size)
    assert here == there


def all_samples(store: Store) -> dict[tuple[object, ...], float]:
    with store.read() as tx:
        return {(name, *sorted(labels.items())): value for name, labels, value in samples(tx, later(600))}


def test_names_are_those_of_the_table(ask: Client) -> None:
    """Everything that is exposed is in the table, with its labels, and counters end in `_total`."""
    table = {one.name: one for one in (*FAMILIES, *PROCESS)}
    for name, series in parsed(ask("/metrics").body.decode()).items():
        assert name in table
        for labels in series:
            assert {label for label, _ in labels} == set(table[name].labels)
    assert all((one.kind == "counter") is one.name.endswith("_total") for one in table.values())
    assert len(table) == len(FAMILIES) + len(PROCESS)
    for one in table.values():
        assert not one.name.endswith(("_ms", "_mb", "_minutes")), "base units only"


def test_a_name_that_is_not_in_the_table_is_an_error() -> None:
    """So nothing can be exposed that is not documented."""
    with pytest.raises(KeyError):
        families([("kbsync_secret", {}, 1)])


def test_without_a_store(stores: Stores, tmp_path: Path) -> None:
    """It is a figure, not an error: what the process knows is told all the same."""
    found = scraped(settings_of(stores.missing(tmp_path / "none.db"), tmp_path))
    assert value(found, "kbsync_store_up") == 0
    assert value(found, "kbsync_ready") == 0
    assert "kbsync_runs_total" not in found
    assert "process_open_fds" in found


def test_the_daemon_s_pulse_is_told(settings: Settings) -> None:
    """Where there is a daemon in the process, how long its work has stood still."""
    view = view_of(settings, lambda: True, Pulse())
    found = parsed(Exposition(view).text().decode())
    view.door.close()
    assert value(found, "kbsync_stalled_seconds") < 60
    assert value(found, "kbsync_role", role="leader") == 1


def test_answers_are_counted(ask: Client) -> None:
    """By their code, so that wrong tokens show."""
    ask("/trigger", "POST")
    assert value(parsed(ask("/metrics").body.decode()), "kbsync_http_answers_total", code="401") == 1


def test_a_scrape_and_a_writer_do_not_wait_for_each_other(settings: Settings, told: Store) -> None:
    """A scrape in the middle of a write transaction shows what was before it; a write in the middle of a scrape
    goes through."""
    with told.begin() as tx:
        triggers.request(tx, "me", now())
        began = time.monotonic()
        assert value(scraped(settings), "kbsync_triggers_waiting") == 0
        assert time.monotonic() - began < 5
    view = view_of(settings)
    with view.door.read() as tx:
        assert list(samples(tx, now()))
        writer = threading.Thread(target=lambda: _ask(told))
        writer.start()
        writer.join(5)
        assert not writer.is_alive()
    view.door.close()
    assert value(scraped(settings), "kbsync_triggers_waiting") == 2


def _ask(store: Store) -> None:
    with store.begin() as tx:
        triggers.request(tx, "me", now())


def test_a_scrape_of_a_grown_store_is_quick(settings: Settings, told: Store) -> None:
    """With thousands of rows a scrape stays within a second, on a slow and busy core."""
    fill(told, 5_000, 1_000)
    view = view_of(settings)
    with view.door.read() as tx:
        list(samples(tx, now()))
        began = time.perf_counter()
        found = list(samples(tx, now()))
        took = time.perf_counter() - began
    view.door.close()
    assert ("kbsync_changes_total", {"kind": "added"}, 5_000 + 3) in found
    assert took < 1


def fill(store: Store, changes: int, ended: int) -> None:
    """Facts with their changes, and runs with settings of the usual size."""
    at = now()
    settings = {"padding": "x" * 4000}
    with store.begin() as tx:
        tx.execute(
            insert(RunRow),
            [
                {
                    "trigger": "schedule", "status": RunStatus.UNCHANGED, "host": "h", "pid": 1, "started_at": at,
                    "beat_at": at, "ended_at": at, "settings": settings,
                }
                for _ in range(ended)
            ],
        )  # fmt: skip
        common = {
            "relation": "P6",
            "statement_id": "s",
            "reason": "new",
            "outcome": "edited",
            "run_id": 1,
            "at": at,
        }
        tx.execute(
            insert(ChangeRow),
            [{**common, "kind": ChangeKind.ADDED, "subject": f"Q{number + 1000}"} for number in range(changes)],
        )
        tx.execute(
            insert(FactRow),
            [
                {
                    "subject": f"Q{number + 1000}", "relation": "P6", "value_kind": ValueKind.ITEM, "value": "Q1",
                    "baseline": True, "seen_run": 1, "seen_at": at,
                }
                for number in range(changes)
            ],
        )  # fmt: skip
