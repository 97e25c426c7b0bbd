"""What goes wrong ends in a named outcome, and nothing is lost: the next run does what this one could not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kbsync.errors import (
    BadAnswer,
    CheckpointError,
    EndpointDown,
    LeaseHeld,
    ModelError,
    SchemaMismatch,
    Throttled,
)
from kbsync.store import runs
from kbsync.store.engine import open_store
from kbsync.store.schema import VERSION_TABLE
from kbsync.store.tables import RunStatus
from kbsync.sync import planning, run, solving
from kbsync.sync.clock import now
from tests.source.faults import GOOD, Answer, serve
from tests.sync.rig import Rig
from tests.sync.world import GOVERNMENT, STATE, WINDOW_2, person

UNSEEN = "Q2999"  # a person whom no statement named before

FAULTS = {
    "server error": (Answer(status=500, body=b"down"), EndpointDown),
    "HTML": (Answer(body=b"<html>busy</html>", content_type="text/html"), BadAnswer),
    "half JSON": (Answer(body=GOOD[:40]), BadAnswer),
    "throttled": (Answer(status=429, body=b"slow down", headers={"Retry-After": "9999"}), Throttled),
}


def carries_on(rig: Rig) -> None:
    """The next run publishes the second window."""
    assert rig.published() == rig.link() == "sync-000002"
    report = rig.sync()
    assert report.status is RunStatus.PUBLISHED
    assert report.counts["rebuild"]["facts"] == 6
    assert rig.published() == rig.link()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_endpoint(synced: Rig, fault: str) -> None:
    """The run fails by name, no cursor moves, and the next run reads what this one could not."""
    answer, error = FAULTS[fault]
    synced.world.changes(*WINDOW_2)
    before = synced.rows("SELECT relation, modified, item FROM cursors ORDER BY relation")
    with serve(answer) as faults, pytest.raises(error) as raised:
        synced.sync(source={"endpoint": faults.url, "attempts": 2, "max_wait_s": 1})
    assert "\n" not in str(raised.value)
    assert synced.run_status() == ("failed", str(raised.value))
    assert synced.rows("SELECT relation, modified, item FROM cursors ORDER BY relation") == before
    carries_on(synced)


def test_no_endpoint_at_all(synced: Rig) -> None:
    """Nobody listens: EndpointDown, and the published model stays."""
    synced.world.changes(*WINDOW_2)
    with pytest.raises(EndpointDown):
        synced.sync(source={"endpoint": "http://127.0.0.1:9/sparql", "attempts": 1})
    assert synced.run_status()[0] == "failed"
    carries_on(synced)


@pytest.mark.parametrize(
    ("label", "reason"),
    [(None, "no label"), ("Ann\nB", "label has control characters"), ("x" * 201, "label over 200 characters")],
    ids=["none", "control", "long"],
)
def test_a_label_that_can_not_be_said(synced: Rig, label: str | None, reason: str) -> None:
    """The fact is held under this reason, and edited once its item has a label that can be said."""
    synced.world.name(UNSEEN, label)
    synced.world.changes(("Q1011", GOVERNMENT, UNSEEN))
    assert synced.sync().status is RunStatus.UNCHANGED
    assert synced.rows("SELECT subject, reason FROM held_facts") == [("Q1011", reason)]
    assert synced.rows("SELECT outcome FROM changes WHERE run_id = 3") == [(f"held: {reason}",)]
    synced.world.name(UNSEEN, "Uwe")
    synced.world.changes(("Q1011", GOVERNMENT, UNSEEN))
    assert synced.sync().status is RunStatus.PUBLISHED
    assert synced.rows("SELECT * FROM held_facts") == []


def test_braces_are_text(synced: Rig) -> None:
    """A label with braces is edited as it stands: labels are data, never templates."""
    synced.world.name(person(20), "{0.__class__} {}")
    synced.world.changes(("Q1011", GOVERNMENT, person(20)))
    assert synced.sync().status is RunStatus.PUBLISHED
    assert synced.rows("SELECT target_new, status FROM edit_requests WHERE subject = 'Q1011'") == [
        ("{0.__class__} {}", "edited")
    ]


def test_a_special_token_in_a_label(synced: Rig) -> None:
    """A label that spells a token of the chat template fails by name, and stays failed without costing more."""
    synced.world.name(person(20), "Uwe <|im_end|>")
    synced.world.changes(("Q1011", GOVERNMENT, person(20)))
    report = synced.sync()
    assert report.status is RunStatus.UNCHANGED
    assert report.counts["solve"]["failed"] == 1
    reason = "label holds a special token of the model"
    assert synced.rows("SELECT status, reason FROM edit_requests WHERE subject = 'Q1011'") == [("failed", reason)]
    assert synced.rows("SELECT outcome FROM changes WHERE run_id = 3") == [(f"failed: {reason}",)]
    assert tuple(synced.sync().counts) == ("pull", "plan")


def test_a_model_without_weights(synced: Rig, tmp_path: Path) -> None:
    """ModelError; what was pulled and planned stays, so the next run with the model edits it."""
    empty = tmp_path / "empty"
    shutil.copytree(synced.model, empty, ignore=shutil.ignore_patterns("*.safetensors"))
    synced.world.changes(*WINDOW_2)
    with pytest.raises(ModelError, match="has no weights"):
        synced.sync(model={"base": str(empty)})
    status, reason = synced.run_status()
    assert status == "failed"
    assert "has no weights" in str(reason)
    carries_on(synced)


def test_a_store_of_a_newer_kbsync(synced: Rig) -> None:
    """SchemaMismatch before anything is touched."""
    with open_store(synced.settings().store.url) as store, store.begin() as tx:
        tx.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch):
        synced.sync()
    assert synced.link() == "sync-000002"


def test_a_full_disk(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """CheckpointError that says what is missing; nothing half is left, and the next run publishes without a
    solve."""
    synced.world.changes(*WINDOW_2)
    usage = shutil.disk_usage(synced.folder)._replace(free=10)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(CheckpointError, match="does not fit"):
            synced.sync()
    assert synced.run_status()[0] == "failed"
    assert [
        path.name for path in synced.checkpoints.iterdir() if path.name.startswith((".tmp", "sync-000003"))
    ] == []
    assert synced.rows("SELECT name FROM checkpoints") == [("sync-000002",)]
    report = synced.sync()
    assert report.status is RunStatus.PUBLISHED
    assert report.counts["solve"]["cached"] == 6


def test_a_fault_of_our_own_is_written_down(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody foresaw ends the run as failed, with its type and text."""

    def broken(*_: object) -> None:
        raise RuntimeError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(planning, "plan_live_set", broken)
        with pytest.raises(RuntimeError):
            synced.sync()
    assert synced.run_status() == ("failed", "RuntimeError: no such thing")
    assert synced.sync().status is RunStatus.UNCHANGED


def test_a_second_process_waits_its_turn(synced: Rig) -> None:
    """While another process holds the run, a sync is refused with its number; it leaves no row."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        with open_store(synced.settings().store.url) as store, store.begin() as tx:
            held = runs.start_run(tx, "manual", now(), {})
            tx.execute(text("UPDATE runs SET pid = :pid WHERE id = :run"), {"pid": other.pid, "run": held})
        with pytest.raises(LeaseHeld, match=rf"run {held} is running \(process {other.pid}"):
            synced.sync()
        assert synced.rows("SELECT count(*) FROM runs") == [(held,)]
    finally:
        other.kill()
        other.wait()
    assert synced.sync().status is RunStatus.UNCHANGED


def test_a_run_says_that_it_is_alive(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that takes long beats on: nobody takes the run for dead."""
    monkeypatch.setattr(run, "_BEAT_S", 0.02)
    beats: set[object] = set()
    solve = solving.solve

    def watch(*args: Any) -> Any:
        until = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < until:
            beats.update(synced.rows("SELECT beat_at FROM runs WHERE id = 3"))
            time.sleep(0.02)
        return solve(*args)

    monkeypatch.setattr(solving, "solve", watch)
    synced.world.changes(*WINDOW_2)
    assert synced.sync().status is RunStatus.PUBLISHED
    assert len(beats) == 3


def test_a_relation_without_facts(fresh: Rig) -> None:
    """A watched property that nobody has is pulled, and nothing comes of it."""
    report = fresh.sync(watch={"relations": [STATE, "P36"]})
    assert report.status is RunStatus.UNCHANGED
    assert report.counts["pull"]["stored"] == 12
