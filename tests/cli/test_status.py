"""`kbsync status` says what is live, what runs, and what comes next."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kbsync.evaluate.room import Room
from kbsync.facts import EndpointState
from kbsync.store import daemons, endpoints, outcomes, runs, triggers
from kbsync.store.engine import Store, open_store
from tests.cli.conftest import Call, data, error, url_of


def opened(config: Path) -> Store:
    return open_store(url_of(config))


def test_json_has_everything(told: Call) -> None:
    """The story's end: model-1 is live again, three runs, no daemon."""
    found = data(told("status", "--json"))
    assert found["live"] == {
        "checkpoint": "model-1", "facts": 1, "since": "2024-03-01T15:00:00Z", "damage": None, "answers": "model-1",
    }  # fmt: skip
    assert found["daemon"] is None
    assert found["running"] is None
    assert found["triggers_waiting"] == 0
    assert [run["status"] for run in found["runs"]] == ["rejected", "published", "published"]
    assert found["runs"][0]["started_at"] == "2024-03-01T14:00:00Z"
    assert found["facts"] == {"P6": 3}
    assert found["requests"] == {"edited": 2}
    assert found["held"] == {"no label": 1}


def test_words_for_people(told: Call) -> None:
    """The same in words, with the commands to run next."""
    shown = told("status").stdout
    assert "model-1, 1 facts, since 2024-03-01 15:00:00" in shown
    assert "not running; `kbsync run` starts one" in shown
    assert "1 no label" in shown
    assert "perplexity_ratio 1.300 is not ≤ 1.05" in shown


def test_how_many_runs(told: Call) -> None:
    """--runs limits the list, down to none."""
    assert len(data(told("status", "--runs", "1", "--json"))["runs"]) == 1
    assert "Runs (" not in told("status", "--runs", "0").stdout
    assert "is not in the range" in told("status", "--runs", "9" * 25).stderr


def test_a_daemon_that_is_up_and_a_run_under_way(told: Call, config: Path) -> None:
    """A young heartbeat is a daemon that is up; the run that holds the lease is shown with its stage."""
    now = datetime.now(UTC)
    with opened(config) as store, store.begin() as tx:
        daemon = daemons.start(tx, "elsewhere", 4711, now)
        daemons.beat(tx, daemon, now, now + timedelta(hours=1))
        run = runs.start_run(tx, "schedule", now, {})
        runs.stage_started(tx, run, "solve", now)
        triggers.request(tx, "me", now)
    found = data(told("status", "--json"))
    assert found["daemon"]["up"] is True
    assert found["running"]["stage"] == "solve"
    assert found["triggers_waiting"] == 1
    shown = told("status").stdout
    assert "up, process 4711 on elsewhere, next run" in shown
    assert "run 4, stage solve" in shown
    assert "1 triggers" in shown


def test_a_daemon_that_died(told: Call, config: Path) -> None:
    """One that has not been heard of for long is gone, and when it was last seen is told."""
    with opened(config) as store, store.begin() as tx:
        daemons.start(tx, socket.gethostname(), 4711, datetime(2024, 3, 1, tzinfo=UTC))
    assert data(told("status", "--json"))["daemon"]["up"] is False
    assert "gone without a word: process 4711" in told("status").stdout


def test_before_the_first_publication(call: Call, config: Path) -> None:
    """An empty store is laid out by hand: the base model is live, and there is nothing to list."""
    opened(config).close()
    assert data(call("status", "--json"))["live"] is None
    assert "the base model" in call("status").stdout


def test_no_store(call: Call, config: Path) -> None:
    """Looking makes no store."""
    assert error(call("status", "--json"))["exit_code"] == 4
    assert not (config.parent / "kbsync.db").exists()


def with_room(config: Path) -> None:
    """The story's last candidate was too large, and its run said how many facts fit."""
    room = Room(300, 200.0, 150.0, 260.0, "perplexity_ratio", 20, 15, 190)
    with opened(config) as store, store.begin() as tx:
        rows = [outcomes.Metric(m.name, m.phase, m.value, m.count) for m in room.metrics()]
        outcomes.add_metrics(tx, 3, rows)


def test_the_room_of_the_last_candidate(told: Call, config: Path) -> None:
    """How many facts fit, in numbers and in words, with the warnings; what a run did not say is not known."""
    before = data(told("status", "--json"))["room"]
    assert (before["facts"], before["capacity"], before["warnings"]) == (0, None, [])
    with_room(config)
    room = data(told("status", "--json"))["room"]
    assert (room["capacity"], room["rule"], room["keeps"]) == (200.0, "perplexity_ratio", 190)
    assert room["headroom"] == 200 - room["facts"]
    assert len(room["warnings"]) == 1
    shown = told("status").stdout
    assert "of about 200 that fit (150 to 260; perplexity_ratio binds)" in shown
    assert "warning: repair does little: of 20 edits that the solve missed, 15 are missed after it" in shown


def test_the_doctor_passes_the_warning_on(told: Call, config: Path) -> None:
    """A warning is no failure."""
    with_room(config)
    found = {one["name"]: one for one in json.loads(told("doctor", "--offline", "--json").stdout)["checks"]}
    assert found["room"]["level"] == "warn"
    assert "repair does little" in found["room"]["text"]


def test_an_endpoint_that_is_left_alone(told: Call, config: Path) -> None:
    """Until when and why, in words and in JSON; one whose time is over is no news."""
    later = datetime.now(UTC) + timedelta(hours=1)
    with opened(config) as store, store.begin() as tx:
        banned = EndpointState("query.example.org", 1, 1, later, "banned this client", requests=7, refused=1)
        past = EndpointState("old.example.org", 1, 1, later - timedelta(hours=2), "HTTP 429")
        for state in (banned, past):
            endpoints.save_endpoint(tx, state, later)
    found = {one["host"]: one for one in data(told("status", "--json"))["endpoints"]}
    assert found["query.example.org"]["next_try_at"][:16] == f"{later:%Y-%m-%dT%H:%M}"
    assert found["query.example.org"]["requests"] == 7
    assert found["old.example.org"]["next_try_at"] is None
    shown = told("status").stdout
    assert f"query.example.org is left alone until {later:%Y-%m-%d %H:%M}" in shown
    assert "old.example.org" not in shown
