"""Full disks, failing disks and kills at every step: readers find the old state or the new one."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kbsync.checkpoint import durable
from kbsync.checkpoint.manifest import read_manifest
from kbsync.checkpoint.publish import checkpoints, live, prune, publish, unpublish
from kbsync.checkpoint.verify import verify
from kbsync.checkpoint.write import write_candidate
from kbsync.errors import CheckpointError
from tests.checkpoint.conftest import Tensors
from tests.checkpoint.examples import make_manifest

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("fsync", "rename", "replace")  # the calls that make a state durable or visible


def fail_at(patch: pytest.MonkeyPatch, step: int, code: int) -> Iterator[int]:
    """Let the `step`-th fsync, rename or replace (counted together) fail once; returns the counter."""
    count = iter(range(1_000))

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(count) == step:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        return call

    for name in STEPS:
        patch.setattr(os, name, failing(getattr(os, name)))
    return count


def errors_at_every_step(
    monkeypatch: pytest.MonkeyPatch, code: int, act: Callable[[], object], check: Callable[[], None]
) -> list[str]:
    """Run `act` with a failure at its first step, its second, … until it passes; `check` after each."""
    errors = []
    for step in range(30):
        with monkeypatch.context() as patch:
            fail_at(patch, step, code)
            try:
                act()
            except CheckpointError as error:
                errors.append(str(error))
            else:
                return errors
        check()
    raise AssertionError("it never passed")


def leftovers(folder: Path) -> list[Path]:
    """What is under construction in `folder`."""
    return list(folder.glob(f"{durable.TEMPORARY}*"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, r"a does not fit in .* \(No space left on device\): it needs .* MB are free"),
        (errno.EDQUOT, r"a does not fit in .* \(Disk quota exceeded\): it needs .* MB are free"),
        (errno.EIO, r"a could not be written to .*: Input/output error"),
    ],
)
def test_a_disk_that_fails_at_any_step_of_a_write(
    folder: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    """Whichever step fails, the error says why, nothing half is left, and the live checkpoint is whole."""
    write_candidate(folder, "old", tensors, make_manifest())
    publish(folder, "old")

    def check() -> None:
        assert leftovers(folder) == []
        assert live(folder) == folder / "old"
        assert all(verify(folder / name) == [] for name in checkpoints(folder))

    errors = errors_at_every_step(
        monkeypatch, code, lambda: write_candidate(folder, "a", tensors, make_manifest()), check
    )
    assert len(errors) >= 5  # two files, their folder, the rename, the parent
    assert all(re.fullmatch(words + ".*", error) for error in errors), errors
    check()
    assert checkpoints(folder) == ["a", "old"]


def test_a_disk_that_fails_while_a_candidate_is_replaced(
    folder: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any failure the name holds the earlier candidate or the new one, whole."""
    write_candidate(folder, "a", tensors, make_manifest(run_id="1"))

    def check() -> None:
        assert verify(folder / "a") == []
        assert read_manifest(folder / "a").run_id in {"1", "2"}

    errors = errors_at_every_step(
        monkeypatch,
        errno.EIO,
        lambda: write_candidate(folder, "a", tensors, make_manifest(run_id="2")),
        check,
    )
    assert len(errors) >= 6
    assert read_manifest(folder / "a").run_id == "2"


def test_a_disk_that_fails_at_any_step_of_publishing(
    folder: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When publishing fails the old checkpoint is live, as the error tells the caller."""
    for name in ("old", "new"):
        write_candidate(folder, name, tensors, make_manifest())
    publish(folder, "old")

    def check() -> None:
        assert live(folder) == folder / "old"
        assert leftovers(folder) == []

    errors = errors_at_every_step(monkeypatch, errno.EIO, lambda: publish(folder, "new"), check)
    assert len(errors) == 2
    assert live(folder) == folder / "new"


def test_a_disk_that_fails_at_the_first_publication_or_the_rollback(
    folder: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first publication that fails leaves the base model live, a rollback that fails the checkpoint."""
    write_candidate(folder, "a", tensors, make_manifest())

    def base_is_live() -> None:
        assert live(folder) is None

    def a_is_live() -> None:
        assert live(folder) == folder / "a"

    assert errors_at_every_step(monkeypatch, errno.EIO, lambda: publish(folder, "a"), base_is_live)
    assert errors_at_every_step(monkeypatch, errno.EIO, lambda: unpublish(folder), a_is_live)
    assert live(folder) is None


def test_a_disk_that_fails_while_pruning(folder: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruning that fails is an error of one line, and what it did not reach is whole."""
    for name in ("a", "b", "c"):
        write_candidate(folder, name, tensors, make_manifest())

    def check() -> None:
        assert all(verify(folder / name) == [] for name in checkpoints(folder))

    errors = errors_at_every_step(monkeypatch, errno.EIO, lambda: prune(folder, ["a", "b"]), check)
    assert errors
    assert checkpoints(folder) == ["c"]


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from kbsync.checkpoint.write import write_candidate
from kbsync.errors import CheckpointError
from tests.checkpoint.examples import make_manifest
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    write_candidate(Path(sys.argv[1]), "big", {"w": torch.zeros(1000, 1000)}, make_manifest())
except CheckpointError as error:
    print(error)
"""

KILLED = """
import os, sys
from pathlib import Path
import torch
from kbsync.checkpoint.publish import publish
from kbsync.checkpoint.write import write_candidate
from tests.checkpoint.examples import make_manifest

folder = Path(sys.argv[1])
torch.set_num_threads(1)

def sync(run, value, step=None):
    count = iter(range(1_000))
    def killing(real):
        def call(*args, **kwargs):
            if next(count) == step:
                os._exit(9)
            return real(*args, **kwargs)
        return call
    if step is not None:
        for name in ("fsync", "rename", "replace", "symlink"):
            setattr(os, name, killing(getattr(os, name)))
    write_candidate(folder, run, {"w": torch.full((8, 8), value)}, make_manifest(run_id=run))
    publish(folder, run)

sync("old", 1.0)
for step in range(100):
    child = os.fork()
    if child == 0:
        sync("new", 2.0, step)
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    (folder.parent / "states").mkdir(exist_ok=True)
    state = folder.parent / "states" / f"{step:02}"
    os.system(f"cp -a {folder} {state}")
    if died == 0:
        break
"""


def run_script(source: str, folder: Path) -> str:
    """Run `source` in a Python of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", source, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_a_file_that_may_not_grow_is_told_as_a_full_disk(folder: Path) -> None:
    """A real write that the system cuts off ends in one line that says what was needed, and in no folder."""
    told = run_script(LIMITED, folder)
    assert re.match(r"big does not fit in .* \(File too large\): it needs 4\.0 MB and .* MB are free", told)
    assert checkpoints(folder) == []
    assert leftovers(folder) == []


def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(folder: Path) -> None:
    """A process that dies at any step of write and publish leaves a whole live checkpoint, and the next heals.

    Each state is what a real process left that ended at one fsync, rename or symlink without any cleaning up.
    """
    run_script(KILLED, folder)
    states = sorted((folder.parent / "states").iterdir())
    seen = []
    for state in states:
        current = live(state)
        assert current is not None
        seen.append(current.name)
        assert all(verify(state / name) == [] for name in checkpoints(state))
        write_candidate(state, "next", {"w": torch.ones(2)}, make_manifest())
        assert leftovers(state) == []
    assert len(states) >= 8
    assert seen == sorted(seen, reverse=True)  # old, …, old, new, …: one step between them
    assert {seen[0], seen[-1]} == {"old", "new"}
