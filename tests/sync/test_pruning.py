"""Pruned as hard as can be, a kbsync still verifies, rebuilds, rolls back and syncs; restored elsewhere too."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from kbsync.errors import CheckpointError, LeaseHeld, StoreError
from kbsync.settings import Settings
from kbsync.store import checkpoints, prunes, runs
from kbsync.store.backup import backup, restore
from kbsync.store.engine import open_store
from kbsync.sync.clock import now
from kbsync.sync.inspect import verify_checkpoint
from kbsync.sync.overdue import prune_overdue
from kbsync.sync.pruning import Pruned, look, prune
from kbsync.sync.rollback import roll_back
from tests.sync.content import Content
from tests.sync.rig import Rig
from tests.sync.world import STATE, WINDOW_2, person

HARD = {f"{kind}_count": 0 for kind in ("checkpoints", "outcomes", "targets", "runs")}


def hard(rig: Rig) -> Settings:
    """Settings that keep only what is needed."""
    return rig.settings(retention=HARD)


def pruned(rig: Rig) -> Pruned:
    """Prune by those."""
    with open_store(hard(rig).store.url) as store:
        return prune(store, hard(rig), "tests")


def test_pruned_hard_it_goes_on_as_if_nothing_had_happened(synced: Rig, undisturbed: Content) -> None:
    """The same published weights after the next window; what is live can be rebuilt, and what a rollback needs."""
    pruned(synced)
    synced.world.changes(*WINDOW_2)
    synced.sync()
    weights = synced.rows(
        "SELECT c.weights_hash FROM publications p JOIN checkpoints c ON c.id = p.checkpoint_id WHERE p.live"
    )
    assert weights == [(undisturbed.weights,)]
    pruned(synced)
    synced.world.changes(("Q1009", STATE, person(20)))
    synced.sync()
    found = pruned(synced)
    assert [one.name for one in found.survey.checkpoints] == ["sync-000002"]
    assert sorted(path.name for path in synced.checkpoints.glob("sync-*")) == ["sync-000003", "sync-000004"]
    with synced.bench() as bench:
        assert verify_checkpoint(bench, rebuild=True) == []
        assert verify_checkpoint(bench, "sync-000003", rebuild=True) == []
        with pytest.raises(CheckpointError, match="were pruned"):
            verify_checkpoint(bench, "sync-000002")
        with pytest.raises(StoreError, match="were pruned"):
            roll_back(bench, "sync-000002")
        back = roll_back(bench).publication
    assert back.checkpoint is not None
    assert back.checkpoint.name == synced.link() == "sync-000003"


def test_a_dry_run_changes_nothing_and_foretells(synced: Rig) -> None:
    """What is said is what goes then."""
    synced.world.changes(*WINDOW_2)
    synced.sync()
    with open_store(hard(synced).store.url) as store:
        before = look(store, hard(synced))
        assert look(store, hard(synced)) == before
        assert synced.rows("SELECT COUNT(*) FROM prunes") == [(0,)]
        assert prune(store, hard(synced), "tests") == before


def test_folders_without_a_row_go_but_not_while_a_run_may_be_writing_them(
    synced: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run's folder goes; a stranger's, and one of a run that is still to come, stay."""
    for name in ("sync-000001", "sync-000777", "mine"):
        shutil.copytree(synced.checkpoints / "sync-000002", synced.checkpoints / name)
    with open_store(hard(synced).store.url) as store:
        with monkeypatch.context() as patch, store.begin() as tx:
            patch.setattr("kbsync.store.runs.os.getpid", os.getppid)  # a process that lives
            run = runs.start_run(tx, "manual", now(), {})
        assert look(store, hard(synced)).strays == ()
        with pytest.raises(LeaseHeld, match="is under way"):
            prune(store, hard(synced), "tests")
        with store.begin() as tx:
            runs.finish_run(tx, run, runs.RunStatus.FAILED, now())
        found = prune(store, hard(synced), "tests")
    assert [path.name for path in found.strays] == ["sync-000001"]
    there = {path.name for path in synced.checkpoints.iterdir()}
    assert there >= {"sync-000002", "sync-000777", "mine"}
    assert "sync-000001" not in there


def test_a_run_that_was_killed_keeps_nobody_from_pruning(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is gone, so its row says interrupted first."""
    with open_store(hard(synced).store.url) as store:
        with monkeypatch.context() as patch, store.begin() as tx:
            patch.setattr("kbsync.store.runs.os.getpid", lambda: 2**22 + 1)  # no process has such a number
            run = runs.start_run(tx, "manual", now(), {})
        prune(store, hard(synced), "tests")
        with store.read() as tx:
            assert runs.running(tx) is None
    assert synced.rows("SELECT status FROM runs WHERE id = " + str(run)) in ([("interrupted",)], [])


def test_a_pruned_model_is_not_taken_for_a_damaged_one(synced: Rig) -> None:
    """Where the live model is damaged, nobody looks for files that were removed."""
    synced.world.changes(*WINDOW_2)
    synced.sync()
    synced.world.changes(("Q1009", STATE, person(20)))
    synced.sync()
    pruned(synced)
    with open_store(hard(synced).store.url) as store, store.read() as tx:
        assert [one.name for one in checkpoints.servable(tx)] == ["sync-000004", "sync-000003"]


def test_a_pruning_that_was_killed_before_the_files_went_is_finished_later(
    synced: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says that the files are gone; the next time they are."""
    for window in (WINDOW_2, [("Q1009", STATE, person(20))]):
        synced.world.changes(*window)
        synced.sync()
    with monkeypatch.context() as patch:
        patch.setattr("kbsync.sync.pruning._remove", lambda _paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pruned(synced)
    assert (synced.checkpoints / "sync-000002").is_dir()
    assert [path.name for path in pruned(synced).strays] == ["sync-000002"]
    assert not (synced.checkpoints / "sync-000002").exists()


@pytest.mark.sqlite("a copy of a database is made by its server's own tools")
def test_a_backup_restored_in_a_new_place_builds_the_same_weights(synced: Rig, tmp_path: Path) -> None:
    """Only the copy of the store and the base model are needed."""
    weights = "SELECT c.weights_hash FROM publications p JOIN checkpoints c ON c.id = p.checkpoint_id WHERE p.live"
    wanted = synced.rows(weights)
    backup(synced.settings().store.url, tmp_path / "copy.db")
    other = Rig(synced.world, tmp_path / "elsewhere", synced.model, synced.cache)
    restore(other.settings().store.url, tmp_path / "copy.db")
    with other.bench() as bench:
        roll_back(bench, base=True, keep_syncing=True)
    assert str(other.sync().status) == "published"
    assert other.rows(weights) == wanted
    assert other.link() == "sync-000003"


def test_the_daemon_prunes_once_a_day(synced: Rig) -> None:
    """At once where it never was done, then a day after the last time, whoever did it; never with `0`."""
    day = timedelta(days=1)
    with open_store(synced.settings().store.url) as store:
        assert prune_overdue(store, day, now())
        assert not prune_overdue(store, timedelta(0), now())
        prune(store, synced.settings(), "tests")
        with store.read() as tx:
            last = prunes.last_prune(tx)
        assert last is not None
        assert not prune_overdue(store, day, last + day - timedelta(seconds=1))
        assert prune_overdue(store, day, last + day)
        assert prune_overdue(store, day, last - timedelta(days=300)), "the clock was set back since"
