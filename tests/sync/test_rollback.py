"""A rollback stays: what it set aside does not come back by itself, until Wikidata or somebody says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kbsync.checkpoint import durable
from kbsync.checkpoint import publish as links
from kbsync.errors import CheckpointError, StoreError
from kbsync.store import asides
from kbsync.store.tables import RunStatus
from kbsync.sync import publishing, rollback
from kbsync.sync.clock import now
from kbsync.sync.rollback import RolledBack, roll_back
from kbsync.sync.workbench import Workbench
from tests.sync.harness import fork, wait
from tests.sync.rig import Rig
from tests.sync.world import GOVERNMENT, STATE, WINDOW_2, person

LIVE = "SELECT subject, object_label FROM live_facts ORDER BY subject, relation"
OPEN = "SELECT subject, value, kept_request IS NULL FROM asides WHERE ended_at IS NULL ORDER BY subject"
HELD = "SELECT subject, reason FROM holds WHERE released_at IS NULL ORDER BY subject"


@pytest.fixture
def twice(synced: Rig) -> Rig:
    """Two checkpoints were published. Between them two facts were replaced, one was retired, and one is new."""
    synced.world.changes(*WINDOW_2)
    synced.sync()
    return synced


def back(rig: Rig, to: str | None = None, base: bool = False) -> RolledBack:
    """Roll back in a workbench of its own."""
    with rig.bench() as bench:
        return roll_back(bench, to, base, by="ann")


def test_the_next_syncs_change_nothing(twice: Rig) -> None:
    """Replaced, retired and new facts stay as the restored model has them; the disliked ones are held by name, and
    runs end as unchanged."""
    disliked = twice.rows(LIVE)
    done = back(twice)
    restored = twice.rows(LIVE)
    assert restored != disliked
    assert done.publication.checkpoint is not None
    assert done.publication.checkpoint.name == twice.published() == twice.link() == "sync-000002"
    assert (len(done.set_aside), done.ended) == (4, 0)
    assert twice.rows(OPEN) == [
        ("Q1001", person(18), 0),  # its earlier value stays
        ("Q1002", None, 0),  # it was retired, and stays
        ("Q1003", person(19), 0),
        ("Q1007", person(14), 1),  # it was new, and nothing stays
    ]
    for _ in range(2):
        report = twice.sync()
        assert report.status is RunStatus.UNCHANGED
        assert report.counts["plan"]["held: rolled back"] == 3
        assert report.counts["plan"]["kept by a rollback"] == 3
        assert tuple(report.counts) == ("pull", "plan"), "no model is loaded for it"
    assert twice.rows(LIVE) == restored
    assert [one for one in twice.rows(HELD) if one[1] == "rolled back"] == [
        (subject, "rolled back") for subject in ("Q1001", "Q1003", "Q1007")
    ]
    outcomes = "SELECT DISTINCT outcome FROM changes WHERE subject = 'Q1001' AND new_value = '{}'"
    assert twice.rows(outcomes.format(person(18))) == [("held: rolled back",)]
    _other_facts_go_on(twice)


def _other_facts_go_on(rig: Rig) -> None:
    """A change of another fact is published beside what was set aside; so is another value of one that was."""
    rig.world.changes(("Q1009", STATE, person(20)), ("Q1001", GOVERNMENT, person(21)))
    report = rig.sync()
    assert report.status is RunStatus.PUBLISHED
    live = dict(rig.rows(LIVE))
    assert (live["Q1001"], live["Q1009"]) == ("Vera", "Uwe")
    assert live["Q1002"] == "Noel", "retired in Wikidata, and kept"
    assert [subject for subject, _, _ in rig.rows(OPEN)] == ["Q1002", "Q1003", "Q1007"]
    assert rig.rows("SELECT ended_by FROM asides WHERE subject = 'Q1001'") == [
        (f"run {report.run_id}: Wikidata has something else",)
    ]


def test_released_the_facts_come_back(twice: Rig) -> None:
    """The next sync publishes what it would have without the rollback, bit for bit."""
    done = back(twice)
    with twice.bench() as bench, bench.store.begin() as tx:
        first = min(done.set_aside, key=lambda one: one.group)
        assert [one.group for one in asides.release(tx, [first.id], now(), "ann")] == [("Q1001", GOVERNMENT)]
        assert len(asides.release_all(tx, now(), "ann")) == 3
    assert twice.sync().status is RunStatus.PUBLISHED
    (second, fourth) = twice.rows("SELECT weights_hash FROM checkpoints WHERE id > 1 ORDER BY id")
    assert second == fourth


def test_forward_again_clears_it(twice: Rig) -> None:
    """Back at the newer model nothing is set aside, and what was is over: the next sync has nothing to do."""
    back(twice)
    done = back(twice, to="sync-000003")
    assert (done.set_aside, done.ended) == ((), 4)
    assert twice.rows(OPEN) == []
    assert twice.sync().status is RunStatus.UNCHANGED
    assert twice.published() == "sync-000003"


def test_two_steps_back_and_one_forward(twice: Rig) -> None:
    """A second step keeps what the first disliked, with what the older model holds; one step forward again is as
    after the first."""
    back(twice)
    first = twice.rows(OPEN)
    done = back(twice, base=True)
    assert done.publication.checkpoint is None
    assert [(subject, nothing) for subject, _, nothing in twice.rows(OPEN)] == [
        (f"Q100{number}", 1) for number in (1, 3, 4, 5, 6, 7)
    ], "the base model holds nothing, and Q1002 is as Wikidata has it: retired"
    assert {subject: value for subject, value, _ in twice.rows(OPEN)}["Q1001"] == person(18)
    assert twice.sync().status is RunStatus.UNCHANGED
    assert twice.rows(LIVE) == []
    back(twice, to="sync-000002")
    assert [subject for subject, _, _ in twice.rows(OPEN)] == ["Q1001", "Q1003", "Q1007"]
    assert set(twice.rows(OPEN)) < set(first)


def test_killed_in_between(twice: Rig) -> None:
    """Killed after its commit, before the link: the row is the truth, and the next run puts the link right and
    publishes nothing."""
    child = fork(lambda: back(twice), "commit.after=kill")
    assert os.WTERMSIG(wait(child)) == signal.SIGKILL
    assert (twice.published(), twice.link()) == ("sync-000002", "sync-000003")
    assert len(twice.rows(OPEN)) == 4
    assert twice.sync().status is RunStatus.UNCHANGED
    assert twice.link() == "sync-000002"


def test_a_run_that_planned_before_publishes_nothing(twice: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback while a run is under way: the run ends with that as its error, the next goes by the rollback."""
    twice.world.changes(("Q1009", STATE, person(20)))
    write = publishing.write

    def roll_back_meanwhile(bench: Workbench, *rest: Any) -> tuple[int, Path]:
        roll_back(bench)
        return write(bench, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "write", roll_back_meanwhile)
        with pytest.raises(StoreError, match="a rollback was made while run 4 was under way"):
            twice.sync()
    assert twice.published() == twice.link() == "sync-000002"
    assert twice.run_status()[0] == "failed"
    assert twice.sync().status is RunStatus.PUBLISHED
    live = dict(twice.rows(LIVE))
    assert (live["Q1001"], live["Q1009"]) == ("Mina", "Uwe")


def test_a_rollback_while_a_run_moves_the_link(twice: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the moment between the run's row and its link: the link leads where the store says, in the end."""
    publish = links.publish

    def roll_back_meanwhile(*words: Any) -> None:
        monkeypatch.setattr(links, "publish", publish)
        back(twice)
        publish(*words)

    twice.world.changes(("Q1009", STATE, person(20)))
    monkeypatch.setattr(links, "publish", roll_back_meanwhile)
    assert twice.sync().status is RunStatus.PUBLISHED
    assert twice.published() == twice.link() == "sync-000003"


def test_a_rollback_waits_for_who_writes_files(twice: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that writes its candidate has the folder's lock. One that keeps it for too long is named, with what is
    live: who reads that does not go back a second time."""
    with durable.only_writer(twice.checkpoints):
        monkeypatch.setattr(rollback, "_WAIT_S", 0.1)
        with pytest.raises(CheckpointError, match="sync-000002 is live now, but the link could not follow"):
            back(twice)
    assert (twice.published(), twice.link()) == ("sync-000002", "sync-000003")
    monkeypatch.setattr(rollback, "_WAIT_S", 20.0)
    with durable.only_writer(twice.checkpoints):
        forward = threading.Thread(target=back, args=(twice, "sync-000003"))
        forward.start()
        while forward.is_alive() and twice.published() != "sync-000003":
            time.sleep(0.05)
    forward.join()
    assert twice.link() == "sync-000003"


def test_going_back_imports_no_torch() -> None:
    """Nothing that the command needs takes torch's seconds."""
    code = "import sys, kbsync.sync.rollback, kbsync.cli.checkpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
