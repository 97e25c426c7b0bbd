"""The ledger of runs, and the lease that its running row is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from kbsync.errors import LeaseHeld, StoreError
from kbsync.store import runs, triggers
from kbsync.store.engine import Store
from kbsync.store.tables import RunRow, RunStatus
from tests.store.examples import NOON, later, new_run


def test_run_goes_through_its_stages(store: Store) -> None:
    """A run keeps its stages in order, with times and counts, and its end."""
    with store.begin() as tx:
        run_id = runs.start_run(tx, "schedule", NOON, {"model": {"base": "embedded"}})
        runs.stage_started(tx, run_id, "pull", later(1))
        runs.stage_finished(tx, run_id, "pull", later(2), {"stored": 3})
        runs.identify(tx, run_id, "base", "settings")
        runs.stage_started(tx, run_id, "plan", later(3))
        runs.beat(tx, run_id, later(4))
    with store.begin() as tx:
        one = runs.running(tx)
        assert one is not None
        assert (one.stage, one.base_hash, one.beat_at) == ("plan", "base", later(4))
        assert one.settings == {"model": {"base": "embedded"}}
        runs.finish_run(tx, run_id, RunStatus.REJECTED, later(5), "efficacy too low")
        ended = runs.run_of(tx, run_id)
        assert (ended.status, ended.reason, ended.ended_at) == ("rejected", "efficacy too low", later(5))
        assert [(s.stage, s.ended_at, s.counts) for s in runs.stages(tx, run_id)] == [
            ("pull", later(2), {"stored": 3}),
            ("plan", None, {}),
        ]
        assert runs.running(tx) is None
        assert [one.id for one in runs.runs(tx)] == [run_id]


def test_stage_that_is_entered_again_starts_afresh(store: Store) -> None:
    """The second entry's clock and counts replace the first one's."""
    with store.begin() as tx:
        run_id = new_run(tx, done=False)
        runs.stage_started(tx, run_id, "pull", later(1))
        runs.stage_finished(tx, run_id, "pull", later(2), {"stored": 3})
        runs.stage_started(tx, run_id, "pull", later(3))
        (stage,) = runs.stages(tx, run_id)
        assert (stage.started_at, stage.ended_at, stage.counts) == (later(3), None, {})


def test_the_last_refusal_that_stands(store: Store) -> None:
    """Neither a refusal that does not stand, nor a run that ended otherwise, takes its place."""
    with store.begin() as tx:
        assert runs.last_refusal(tx) is None
        ends = [("ff01", RunStatus.REJECTED), ("ff02", RunStatus.REJECTED), (None, RunStatus.REJECTED)]
        for live_hash, status in [*ends, ("ff03", RunStatus.FAILED), (None, RunStatus.PUBLISHED)]:
            run_id = new_run(tx, done=False)
            if live_hash is not None:
                runs.note_refusal(tx, run_id, live_hash)
            runs.finish_run(tx, run_id, status, NOON)
        found = runs.last_refusal(tx)
        assert found is not None
        assert (found.id, found.refused_hash) == (2, "ff02")
        with pytest.raises(StoreError, match="is published and can't go on"):
            runs.note_refusal(tx, run_id, "ff04")


def test_the_last_run_that_loaded_its_model(store: Store) -> None:
    """It is found behind any number of runs that loaded none; of some statuses, and of one `model.base`."""
    with store.begin() as tx:
        assert runs.last_identified(tx) is None
        for base, status in (("a", RunStatus.PUBLISHED), ("b", RunStatus.FAILED), (None, RunStatus.UNCHANGED)):
            for _ in range(1 if base else 1001):
                settings = {"model": {"base": base}}
                run_id = runs.start_run(tx, "schedule", NOON, settings, base and f"hash of {base}")
                runs.finish_run(tx, run_id, status, NOON)
        found = [
            runs.last_identified(tx),
            runs.last_identified(tx, (RunStatus.PUBLISHED, RunStatus.UNCHANGED)),
            runs.last_identified(tx, base="a"),
        ]
        assert [one and one.base_hash for one in found] == ["hash of b", "hash of a", "hash of a"]
        assert runs.last_identified(tx, base="c") is None


def test_second_run_is_refused_while_one_runs(store: Store) -> None:
    """The lease is held by one run; the message names who holds it."""
    with store.begin() as tx:
        run_id = new_run(tx, done=False)
    with pytest.raises(LeaseHeld, match=rf"run {run_id} is running \(process {os.getpid()}"), store.begin() as tx:
        new_run(tx, done=False)


def test_database_itself_refuses_two_running_rows(store: Store) -> None:
    """The unique index holds the lease even against code that forgets to ask."""

    def row(tx: Session) -> None:
        tx.add(
            RunRow(
                trigger="t", status=RunStatus.RUNNING, host="h", pid=1, started_at=NOON, beat_at=NOON, settings={}
            )
        )
        tx.flush()

    with store.begin() as tx:
        row(tx)
    with pytest.raises(StoreError, match="breaks one of its rules"), store.begin() as tx:
        row(tx)


def test_run_that_has_ended_cannot_go_on(store: Store) -> None:
    """A process whose run was taken for dead learns it at its next word."""
    with store.begin() as tx:
        run_id = new_run(tx)
        for attempt in (
            lambda: runs.beat(tx, run_id, later(1)),
            lambda: runs.stage_started(tx, run_id, "pull", later(1)),
            lambda: runs.finish_run(tx, run_id, RunStatus.PUBLISHED, later(1)),
        ):
            with pytest.raises(StoreError, match="is published and can't go on"):
                attempt()
        with pytest.raises(StoreError, match="has not entered"):
            runs.stage_finished(tx, run_id, "solve", later(1), {})
        with pytest.raises(StoreError, match="there is no run 99"):
            runs.run_of(tx, 99)


def a_run_of(tx: Session, host: str, pid: int) -> int:
    """A running run that another process, perhaps on another host, owns."""
    run_id = new_run(tx, done=False)
    row = tx.get_one(RunRow, run_id)
    row.host, row.pid = host, pid
    tx.flush()
    return run_id


def test_run_of_a_dead_process_is_interrupted(store: Store) -> None:
    """A run whose process is gone is marked at once, and what asked for it waits again."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with store.begin() as tx:
        run_id = a_run_of(tx, socket.gethostname(), dead.pid)
        asked = triggers.request(tx, "a user", NOON)
        triggers.take(tx, run_id)
        assert runs.interrupt_stale_runs(tx, later(0)) == [run_id]
        one = runs.run_of(tx, run_id)
        assert (one.status, one.ended_at) == ("interrupted", later(0))
        assert "is gone" in (one.reason or "")
        assert [one.id for one in triggers.waiting(tx)] == [asked]
        new_run(tx, 1)


@pytest.mark.parametrize(("minutes", "stale"), [(4, False), (6, True), (-4, False), (-6, True)])
def test_run_on_another_host_has_five_minutes(store: Store, minutes: float, stale: bool) -> None:
    """A process that can't be looked at is dead when its heart has not beaten for five minutes; a beat that is
    further ahead than that was before the clock was set back."""
    with store.begin() as tx:
        run_id = a_run_of(tx, "elsewhere", 1)
        assert runs.interrupt_stale_runs(tx, later(minutes)) == ([run_id] if stale else [])


def test_run_of_a_living_process_is_left_alone(store: Store) -> None:
    """A process that lives on this host keeps its run."""
    with store.begin() as tx:
        a_run_of(tx, socket.gethostname(), os.getppid())
        assert runs.interrupt_stale_runs(tx, later(1), patience=timedelta(hours=1)) == []
        assert runs.running(tx) is not None


def test_own_run_from_before_is_interrupted(store: Store) -> None:
    """A process that starts over (or a container that reuses its id) does not wait for itself."""
    with store.begin() as tx:
        run_id = new_run(tx, done=False)
        assert runs.interrupt_stale_runs(tx, later(1)) == [run_id]
