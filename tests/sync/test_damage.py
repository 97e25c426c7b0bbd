"""A bit that flips on the disk is found, the last good model answers, `status` says so, the next sync mends it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kbsync.checkpoint.verify import TENSORS
from kbsync.cli.main import cli
from kbsync.errors import CheckpointError
from kbsync.store.tables import RunStatus
from kbsync.sync.answer import answer
from kbsync.sync.inspect import verify_checkpoint
from tests.sync.rig import Rig
from tests.sync.world import WINDOW_2

PROMPT = "The head of government of Arland is"


@pytest.fixture
def twice(synced: Rig) -> Rig:
    """Two models were published: sync-000002, and sync-000003, which is live."""
    synced.world.changes(*WINDOW_2)
    synced.sync()
    return synced


def flip(rig: Rig, name: str, bit: int = 7) -> None:
    """Turn one bit of a checkpoint's weights."""
    file = rig.checkpoints / name / TENSORS
    whole = bytearray(file.read_bytes())
    whole[len(whole) * 3 // 4] ^= 1 << bit
    file.write_bytes(whole)


def status(rig: Rig, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `kbsync status` prints."""
    file = rig.folder / "kbsync.toml"
    file.write_text(rig.toml(), encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["-c", str(file), "status", *words], standalone_mode=False) == 0
    return capsys.readouterr().out


def weights(rig: Rig) -> str:
    """The hash of the live weights."""
    ((found,),) = rig.rows(
        "SELECT c.weights_hash FROM publications p JOIN checkpoints c ON c.id = p.checkpoint_id "
        "WHERE p.ended_at IS NULL"
    )
    return str(found)


@pytest.mark.parametrize("bit", [0, 7])
def test_the_last_good_one_answers(twice: Rig, capsys: pytest.CaptureFixture[str], bit: int) -> None:
    """Any one bit is found when the model is loaded; the one before answers, and status tells both."""
    flip(twice, "sync-000003", bit)
    with twice.bench() as bench:
        assert answer(bench, PROMPT).checkpoint == "sync-000002"
    shown = json.loads(status(twice, capsys, "--json"))["live"]
    assert (shown["checkpoint"], shown["answers"]) == ("sync-000003", "sync-000002")
    assert "edited.safetensors" in shown["damage"]
    words = " ".join(status(twice, capsys).split())
    assert "sync-000002 answers, and the next sync builds it again" in words


def test_the_next_sync_builds_it_again(twice: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a change in the world, the run finds the damage, and publishes the same weights anew, bit for bit,
    without a solve."""
    before = weights(twice)
    flip(twice, "sync-000003")
    report = twice.sync()
    assert report.status is RunStatus.PUBLISHED
    assert report.counts["solve"].get("solved", 0) == 0
    assert (twice.published(), twice.link()) == ("sync-000004", "sync-000004")
    assert weights(twice) == before
    assert json.loads(status(twice, capsys, "--json"))["live"]["damage"] is None
    assert twice.sync().status is RunStatus.UNCHANGED


def test_verify_notes_what_it_finds(twice: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """`kbsync checkpoint verify` names the damage, status repeats it, and forgets it once the files are back."""
    file = twice.checkpoints / "sync-000003" / TENSORS
    whole = file.read_bytes()
    flip(twice, "sync-000003")
    with twice.bench() as bench:
        (problem,) = verify_checkpoint(bench)
    assert json.loads(status(twice, capsys, "--json"))["live"]["damage"] == problem
    file.write_bytes(whole)
    with twice.bench() as bench:
        assert verify_checkpoint(bench) == []
    assert json.loads(status(twice, capsys, "--json"))["live"]["damage"] is None


def test_all_are_damaged(twice: Rig) -> None:
    """Where no model is whole, asking fails by name, and the next sync builds the live one."""
    for name in ("sync-000002", "sync-000003"):
        flip(twice, name)
    with twice.bench() as bench, pytest.raises(CheckpointError, match="sync-000003"):
        answer(bench, PROMPT)
    assert twice.sync().status is RunStatus.PUBLISHED
    with twice.bench() as bench:
        assert answer(bench, PROMPT).checkpoint == "sync-000004"


def test_the_folder_is_gone(twice: Rig) -> None:
    """A checkpoint whose folder was removed is one more damage."""
    live = Path(os.path.realpath(twice.checkpoints / "live"))
    for file in live.iterdir():
        file.unlink()
    live.rmdir()
    with twice.bench() as bench:
        assert answer(bench, PROMPT).checkpoint == "sync-000002"
    assert twice.sync().status is RunStatus.PUBLISHED
    assert twice.link() == twice.published() == "sync-000004"
