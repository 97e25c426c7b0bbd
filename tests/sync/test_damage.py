"""A bit that flips on the disk is found, the last good model answers, `status` says so, the next sync mends it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kbsync.checkpoint import write
from kbsync.checkpoint.files import TENSORS, check_files
from kbsync.checkpoint.verify import verify
from kbsync.checkpoint.write import write_candidate
from kbsync.cli.main import cli
from kbsync.errors import CheckpointError, EndpointDown, Stopped
from kbsync.store import checkpoints
from kbsync.store.tables import RunStatus
from kbsync.sync.answer import answer
from kbsync.sync.inspect import verify_checkpoint
from kbsync.sync.rollback import roll_back
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
    """Without a change in the world, the run finds the damage, and writes the same weights again, bit for bit,
    without a solve; the files are what `verify` and a rollback want."""
    before = weights(twice)
    flip(twice, "sync-000003")
    report = twice.sync()
    assert report.status is RunStatus.UNCHANGED
    assert "solve" not in report.counts
    assert is_whole(twice, "sync-000003")
    assert weights(twice) == before
    assert json.loads(status(twice, capsys, "--json"))["live"]["damage"] is None
    with twice.bench() as bench:
        assert verify_checkpoint(bench, rebuild=True) == []
        roll_back(bench, keep_syncing=True)
        roll_back(bench, to="sync-000003", keep_syncing=True)
    assert twice.sync().status is RunStatus.UNCHANGED


def is_whole(rig: Rig, name: str) -> bool:
    """Whether this one is live, by the store and by the link, and its files are what the store says."""
    ((path, manifest, size),) = rig.rows(
        f"SELECT path, manifest_sha256, bytes FROM checkpoints WHERE name = '{name}'"
    )
    whole = check_files(Path(path), manifest) == [] and verify(Path(path)) == []
    sized = size == sum(file.stat().st_size for file in Path(path).iterdir())
    return whole and sized and (rig.published(), rig.link()) == (name, name)


REFUSING = {"gate": {"max_perplexity_ratio": 0.000001}}


@pytest.fixture
def refused(twice: Rig) -> Rig:
    """What is wanted now was refused by the gate, and the live model is damaged since."""
    twice.world.changes(("Q1009", "P6", "Q2024"))
    assert twice.sync(**REFUSING).status is RunStatus.REJECTED
    flip(twice, "sync-000003")
    return twice


def test_it_is_built_again_while_a_refusal_stands(refused: Rig) -> None:
    """What the gate refuses is another model: the live one has passed it, and is mended; the refusal stands."""
    before = weights(refused)
    report = refused.sync(**REFUSING)
    assert report.status is RunStatus.REJECTED
    assert tuple(report.counts) == ("pull", "plan", "solve")
    assert is_whole(refused, "sync-000003")
    assert weights(refused) == before


def test_it_is_built_again_while_the_source_is_away(twice: Rig) -> None:
    """The store and the base model are all that it takes."""
    flip(twice, "sync-000003")
    with pytest.raises(EndpointDown):
        twice.sync(source={"endpoint": "http://127.0.0.1:9/sparql", "attempts": 1})
    assert is_whole(twice, "sync-000003")


def test_another_machine_can_not_build_it_again(refused: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the same bits can't be had, and the gate refuses what is wanted, nothing is built over and over. The
    last good one answers, status names the command after which it is live; what passes the gate ends it too."""
    other = {**REFUSING, "model": {"threads": 2}}
    assert refused.sync(**other).status is RunStatus.REJECTED  # judged anew: it is another candidate
    report = refused.sync(**other)
    assert (report.status, tuple(report.counts)) == (RunStatus.REJECTED, ("pull", "plan", "solve"))
    assert refused.published() == "sync-000003"
    with refused.bench() as bench:
        assert answer(bench, PROMPT).checkpoint == "sync-000002"
    words = " ".join(status(refused, capsys).split())
    then = "kbsync checkpoint rollback --keep-syncing --to sync-000002"
    assert f"sync-000002 answers, and the next sync builds it again; if it can't, `{then}` makes" in words
    with refused.bench() as bench:
        roll_back(bench, to="sync-000002", keep_syncing=True)
    assert is_whole(refused, "sync-000002")
    assert refused.sync(model={"threads": 2}).status is RunStatus.PUBLISHED
    assert is_whole(refused, "sync-000007")


def test_a_disk_that_does_not_take_it(twice: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on, and its own candidate takes the damaged one's place, as on another machine."""

    def full(folder: Path, name: str, *rest: Any, **anew: bool) -> Path:
        if anew:
            raise CheckpointError("no space left")
        return write_candidate(folder, name, *rest)

    before = weights(twice)
    flip(twice, "sync-000003")
    monkeypatch.setattr(write, "write_candidate", full)
    report = twice.sync()
    assert report.status is RunStatus.PUBLISHED
    assert report.counts["solve"].get("solved", 0) == 0
    assert is_whole(twice, "sync-000004")
    assert weights(twice) == before


def test_killed_between_its_files_and_its_row(twice: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run sees that the files are not those of the row, and does it again."""

    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    flip(twice, "sync-000003")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "written_again", ctrl_c)
        with pytest.raises(Stopped):
            twice.sync()
    assert not is_whole(twice, "sync-000003")
    assert twice.sync().status is RunStatus.UNCHANGED
    assert is_whole(twice, "sync-000003")


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
    assert twice.sync().status is RunStatus.UNCHANGED
    with twice.bench() as bench:
        assert answer(bench, PROMPT).checkpoint == "sync-000003"


def test_the_folder_is_gone(twice: Rig) -> None:
    """A checkpoint whose folder was removed is one more damage."""
    live = Path(os.path.realpath(twice.checkpoints / "live"))
    for file in live.iterdir():
        file.unlink()
    live.rmdir()
    with twice.bench() as bench:
        assert answer(bench, PROMPT).checkpoint == "sync-000002"
    assert twice.sync().status is RunStatus.UNCHANGED
    assert is_whole(twice, "sync-000003")
