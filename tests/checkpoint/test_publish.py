"""The live checkpoint is a link that moves in one step and never leads out of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kbsync.checkpoint.publish import checkpoints, live, prune, publish, unpublish
from kbsync.checkpoint.verify import TENSORS, read_checkpoint
from kbsync.checkpoint.write import write_candidate
from kbsync.errors import CheckpointError
from tests.checkpoint.examples import make_manifest


def write(folder: Path, name: str, value: float = 1.0) -> Path:
    """A checkpoint of one tensor."""
    return write_candidate(folder, name, {"w": torch.full((2, 2), value)}, make_manifest(run_id=name))


def test_nothing_is_live_at_first(folder: Path) -> None:
    """No folder, and a folder without a link, both mean the base model."""
    assert live(folder) is None
    write(folder, "a")
    assert live(folder) is None


def test_publishing_moves_the_link_and_rollback_moves_it_back(folder: Path) -> None:
    """Each publication is read at once, an older one can be published again, and unpublishing ends it."""
    write(folder, "a", 1.0)
    write(folder, "b", 2.0)
    for name, value in (("a", 1.0), ("b", 2.0), ("a", 1.0)):
        publish(folder, name)
        assert live(folder) == folder / name
        assert read_checkpoint(folder / "live")[1]["w"][0, 0] == value
    unpublish(folder)
    assert live(folder) is None
    unpublish(folder)  # once more changes nothing
    assert checkpoints(folder) == ["a", "b"]


def test_the_link_survives_a_move_of_the_folder(folder: Path) -> None:
    """The link is relative: the checkpoint folder can be moved as a whole."""
    write(folder, "a")
    publish(folder, "a")
    moved = folder.rename(folder.parent / "moved")
    assert live(moved) == moved / "a"


def test_a_reader_that_opened_the_old_one_keeps_it(folder: Path) -> None:
    """A file that was opened through the link before a publication still reads the old checkpoint."""
    write(folder, "a", 1.0)
    write(folder, "b", 2.0)
    publish(folder, "a")
    old = (folder / "a" / TENSORS).read_bytes()
    with (folder / "live" / TENSORS).open("rb") as file:
        publish(folder, "b")
        assert file.read() == old


def test_a_damaged_checkpoint_is_not_published(folder: Path) -> None:
    """Publishing verifies first; the old checkpoint stays live."""
    write(folder, "a")
    publish(folder, "a")
    file = write(folder, "b") / TENSORS
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(CheckpointError, match=r"b is not published: .*sha256"):
        publish(folder, "b")
    assert live(folder) == folder / "a"


@pytest.mark.parametrize("name", ["..", "../a", "live", ".tmp-x", "/"])
def test_only_names_of_this_folder_are_published(folder: Path, name: str) -> None:
    """A name that could leave the folder, or the link's own, is refused."""
    with pytest.raises(CheckpointError, match="can't name a checkpoint"):
        publish(folder, name)


def test_a_name_that_is_not_there_is_not_published(folder: Path) -> None:
    """Publishing what was never written says so."""
    with pytest.raises(CheckpointError, match=r"ghost is not published: .* is not a checkpoint"):
        publish(folder, "ghost")


@pytest.mark.parametrize("target", ["../elsewhere", "/", "live", ".tmp-x"])
def test_a_link_that_leads_elsewhere_is_not_followed(folder: Path, target: str) -> None:
    """A `live` that someone pointed out of the folder is an error, not a checkpoint."""
    folder.mkdir(parents=True)
    (folder / "live").symlink_to(target)
    with pytest.raises(CheckpointError, match="no checkpoint of this folder"):
        live(folder)


def test_a_live_checkpoint_that_is_gone_is_an_error(folder: Path) -> None:
    """A link whose checkpoint was removed is named; it does not pass for the base model."""
    folder.mkdir(parents=True)
    (folder / "live").symlink_to("a")
    with pytest.raises(CheckpointError, match="is gone; publish another or unpublish"):
        live(folder)
    unpublish(folder)
    assert live(folder) is None


def test_a_live_that_is_no_link_is_left_alone(folder: Path) -> None:
    """A folder called `live` is neither read nor removed."""
    (folder / "live").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="not a link to a checkpoint"):
        live(folder)
    unpublish(folder)
    assert (folder / "live").is_dir()
    write_free = folder / "a"
    with pytest.raises(CheckpointError):
        write(folder, "a")
    assert not write_free.exists()


def test_listing_sees_checkpoints_only(folder: Path) -> None:
    """Links, plain folders, files and what is under construction are not checkpoints."""
    assert checkpoints(folder) == []
    write(folder, "b")
    write(folder, "a")
    publish(folder, "a")
    (folder / "notes").mkdir()
    (folder / "file").touch()
    (folder / ".tmp-x").mkdir()
    assert checkpoints(folder) == ["a", "b"]


def test_pruning_removes_what_it_is_told_but_never_the_live_one(folder: Path) -> None:
    """What is not named stays, and so does what is none of ours."""
    assert prune(folder, ["a"]) == []
    for name in ("a", "b", "c", "d"):
        write(folder, name)
    (folder / "notes").mkdir()
    publish(folder, "b")
    assert prune(folder, ["a", "b", "c", "gone", "notes"]) == ["a", "c"]
    assert checkpoints(folder) == ["b", "d"]
    assert (folder / "notes").is_dir()
    assert list(folder.glob(".tmp-*")) == []


def test_pruning_does_nothing_while_the_link_is_broken(folder: Path) -> None:
    """When it is unclear what is live, nothing is removed."""
    write(folder, "a")
    (folder / "live").symlink_to("ghost")
    with pytest.raises(CheckpointError, match="is gone"):
        prune(folder, ["a"])
    assert checkpoints(folder) == ["a"]
