"""Killed anywhere, the next run ends in the same rows and the same bits as one that was never killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from kbsync import disk
from kbsync.edit.memit import Editor
from kbsync.errors import Stopped
from kbsync.facts import Subjects
from kbsync.store import mirror, targets, watches
from kbsync.store.tables import RunStatus
from kbsync.sync import evaluating, planning, publishing, pulling, solving
from kbsync.sync.stages import STAGES, Sync
from tests.sync.content import Content, read_content
from tests.sync.rig import Rig
from tests.sync.world import START, WINDOW_2

Patch = pytest.MonkeyPatch
Stop = Callable[[], None]


def around(patch: Patch, owner: object, name: str, stop: Stop, *, call: int = 1, after: bool = False) -> None:
    """Let `stop` happen at the `call`-th call of a function: in its place, or once it is done."""
    real = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            stop()
        result = real(*args, **kwargs)
        if calls == call and after:
            stop()
        return result

    patch.setattr(owner, name, wrapped)


POINTS: dict[str, tuple[object, str, dict[str, Any]]] = {
    **{f"before {name}": (Sync, name, {}) for name in STAGES},
    "after publish": (Sync, "publish", {"after": True}),
    "between the relations of a pull": (pulling, "pull_relation", {"call": 2}),
    "a page pulled, its transaction open": (mirror, "apply", {"after": True}),
    "a plan made, its transaction open": (planning.holds, "save_held", {}),
    "before batches are fixed": (solving, "_assign", {}),
    "after batches are fixed": (solving, "_assign", {"after": True}),
    "between two batches": (solving, "_solve_batch", {"call": 2}),
    "a batch solved, not stored": (targets, "save_solved_batch", {}),
    "a batch stored, its transaction open": (targets, "save_solved_batch", {"after": True}),
    "in the middle of the checkpoint's files": (disk, "fsync", {}),
    "files written, no row": (publishing.checkpoints, "add_candidate", {}),
    "a row, not published": (publishing.checkpoints, "publish", {}),
    "published, its transaction open": (
        publishing.changes,
        "settle",
        {"after": True, "once": (publishing.checkpoints, "publish")},
    ),
    "published, no link": (publishing, "align_link", {"once": (publishing.checkpoints, "publish")}),
}


def arm(patch: Patch, point: str, stop: Stop) -> None:
    """Let `stop` happen at a named point of the next sync."""
    owner, name, how = POINTS[point]
    first = how.get("once")
    if first is None:
        around(patch, owner, name, stop, **how)
        return
    # the function is called earlier too: it is armed only once another one has been entered
    rest = {key: value for key, value in how.items() if key != "once"}
    around(patch, *first, lambda: around(patch, owner, name, stop, **rest))


def sync_in_a_process_that_dies(rig: Rig, point: str) -> None:
    """Sync in a child that gets SIGKILL at the point: nothing of it can clean up."""
    child = os.fork()
    if child == 0:  # pragma: no cover -- it does not live to tell
        try:
            arm(Patch(), point, lambda: os.kill(os.getpid(), signal.SIGKILL))
            rig.sync()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the sync never came to the point: {point}"
    assert os.WTERMSIG(status) == signal.SIGKILL


def heal_and_compare(rig: Rig, undisturbed: Content) -> None:
    """Sync again until it ends, and find what an undisturbed history leaves."""
    report = rig.sync()
    assert report.status in (RunStatus.PUBLISHED, RunStatus.UNCHANGED)
    found = read_content(rig)
    for name, rows in undisturbed.rows.items():
        assert found.rows[name] == rows, name
    assert found.targets == undisturbed.targets
    assert rig.link() == rig.published()
    assert [p.name for p in rig.checkpoints.glob(".tmp-*")] == []


@pytest.mark.parametrize("point", POINTS)
def test_killed(synced: Rig, undisturbed: Content, point: str) -> None:
    """SIGKILL at this point: the run's row says interrupted, and the next run ends as if nothing had been."""
    synced.world.changes(*WINDOW_2)
    sync_in_a_process_that_dies(synced, point)
    assert synced.run_status() == ("running", None)
    heal_and_compare(synced, undisturbed)
    (status, reason), _ = synced.rows("SELECT status, reason FROM runs WHERE id > 2 ORDER BY id")
    assert status == "interrupted"
    assert reason.startswith("its process ")


def test_killed_again_and_again(synced: Rig, undisturbed: Content) -> None:
    """Killed at one point after the other, the history still ends the same."""
    synced.world.changes(*WINDOW_2)
    for point in ("between the relations of a pull", "between two batches", "files written, no row"):
        sync_in_a_process_that_dies(synced, point)
    heal_and_compare(synced, undisturbed)
    statuses = [status for (status,) in synced.rows("SELECT status FROM runs WHERE id > 2 ORDER BY id")]
    assert statuses == ["interrupted", "interrupted", "interrupted", "published"]


def test_what_was_solved_before_a_kill_is_kept(synced: Rig) -> None:
    """The batches that were stored before the kill are not solved again."""
    synced.world.changes(*WINDOW_2)
    sync_in_a_process_that_dies(synced, "between two batches")
    assert len(synced.rows("SELECT * FROM targets")) == 8
    counts = synced.sync().counts["solve"]
    assert (counts["cached"], counts["solved"]) == (5, 1)


def test_the_link_follows_the_row(synced: Rig) -> None:
    """Killed between the row and the link, readers of the files see the old model until the next run starts."""
    synced.world.changes(*WINDOW_2)
    sync_in_a_process_that_dies(synced, "published, no link")
    assert (synced.published(), synced.link()) == ("sync-000003", "sync-000002")
    assert synced.sync().status is RunStatus.UNCHANGED
    assert (synced.published(), synced.link()) == ("sync-000003", "sync-000003")


def test_a_first_pull_that_was_killed_goes_on(fresh: Rig) -> None:
    """Half a first pull is not read again, and what comes after is the baseline too."""
    page = {"source": {"page_size": 5}}
    child = os.fork()
    if child == 0:  # pragma: no cover -- it does not live to tell
        try:
            around(Patch(), mirror, "apply", lambda: os.kill(os.getpid(), signal.SIGKILL), call=3)
            fresh.sync(**page)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    assert fresh.rows("SELECT count(*) FROM facts") == [(10,)]
    report = fresh.sync(**page)
    assert report.status is RunStatus.UNCHANGED
    assert report.counts["pull"]["first pull: subjects"] == 14, "the other two of P6's and all of P35's"
    assert fresh.rows("SELECT count(*), sum(CASE WHEN baseline THEN 1 END) FROM facts") == [(24, 24)]


def test_a_relation_that_is_removed_is_withdrawn(fresh: Rig) -> None:
    """What a command watches is edited; when it is watched no longer, the next sync takes its edits back."""
    only = {"watch": {"relations": ["P6"]}}
    with fresh.bench(**only) as bench, bench.store.begin() as tx:
        watches.add(tx, "P35", Subjects(), "tests", START)
    fresh.sync(**only)
    fresh.world.changes(("Q1001", "P35", "Q2020"))
    assert fresh.sync(**only).status is RunStatus.PUBLISHED
    edited = "SELECT status, relation FROM edit_requests WHERE status = 'edited'"
    assert fresh.rows(edited) == [("edited", "P35")]
    with fresh.bench(**only) as bench, bench.store.begin() as tx:
        watches.remove(tx, "P35")
    fresh.sync(**only)
    assert fresh.rows(edited) == []
    assert fresh.rows("SELECT facts FROM checkpoints ORDER BY id DESC LIMIT 1") == [(0,)]


INSIDE: dict[str, tuple[object, str]] = {
    "pull": (pulling, "pull_relation"),
    "plan": (planning.requests, "save_requests"),
    "solve": (solving, "_solve_batch"),
    "rebuild": (Editor, "rebuild"),
    "evaluate": (evaluating.drift, "text_perplexity"),
    "gate": (publishing, "write_candidate"),
    "publish": (publishing.checkpoints, "publish"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_by_the_user(synced: Rig, undisturbed: Content, stage: str, monkeypatch: Patch) -> None:
    """Ctrl-C in this stage ends the run as interrupted, with exit code 130, and the next one carries on."""
    synced.world.changes(*WINDOW_2)

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        around(patch, *INSIDE[stage], ctrl_c)
        with pytest.raises(Stopped, match=r"run 3 stopped; what it committed stays") as stopped:
            synced.sync()
    assert stopped.value.exit_code == 130
    assert synced.run_status() == ("interrupted", "stopped by the user")
    ((where,),) = synced.rows("SELECT stage FROM runs WHERE id = 3")
    assert where == stage
    heal_and_compare(synced, undisturbed)
