"""Damage is found, named, and never loaded."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kbsync.checkpoint.manifest import FILE_NAME, from_json, to_json
from kbsync.checkpoint.verify import TENSORS, file_entry, read_checkpoint, verify
from kbsync.checkpoint.write import write_candidate
from kbsync.errors import CheckpointError
from tests.checkpoint.conftest import Tensors
from tests.checkpoint.examples import make_manifest


@pytest.fixture
def path(folder: Path, tensors: Tensors) -> Path:
    """A whole checkpoint."""
    return write_candidate(folder, "a", tensors, make_manifest())


def flip_bit(file: Path, offset: int) -> None:
    """Change one bit of the file."""
    content = bytearray(file.read_bytes())
    content[offset] ^= 0b100
    file.write_bytes(content)


def rewrite_file_entry(path: Path) -> None:
    """Let the manifest name the tensors' file as it is now, as an attacker would."""
    content = json.loads((path / FILE_NAME).read_text())
    entry = file_entry(path / TENSORS)
    content["files"] = {TENSORS: {"sha256": entry.sha256, "bytes": entry.bytes}}
    (path / FILE_NAME).write_text(json.dumps(content))


def test_a_whole_checkpoint_has_no_problems(path: Path) -> None:
    """Nothing is wrong with what was just written."""
    assert verify(path) == []


def test_one_flipped_bit_anywhere_is_found(path: Path) -> None:
    """Each byte of the tensors' file is guarded: one changed bit in any of them is damage."""
    file = path / TENSORS
    for offset in range(file.stat().st_size):
        flip_bit(file, offset)
        assert verify(path) == [f"{TENSORS} is damaged: its sha256 is not the manifest's"]
        flip_bit(file, offset)
    assert verify(path) == []


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda p: (p / TENSORS).write_bytes((p / TENSORS).read_bytes()[:-8]), "bytes, the manifest"),
    "emptied": (lambda p: (p / TENSORS).write_bytes(b""), "has 0 bytes"),
    "missing tensors": (lambda p: (p / TENSORS).unlink(), "is missing"),
    "missing manifest": (lambda p: (p / FILE_NAME).unlink(), "is not a checkpoint"),
    "broken manifest": (lambda p: (p / FILE_NAME).write_text("{"), "not a manifest"),
    "a file too many": (lambda p: (p / "model.bin").write_bytes(pickle.dumps(1)), "'model.bin' is not in the"),
    "a hidden file too many": (lambda p: (p / ".x").touch(), "'.x' is not in the manifest"),
    "tensors are a folder": (
        lambda p: [(p / TENSORS).unlink(), (p / TENSORS).mkdir()],
        "is not a plain file",
    ),
    "tensors are a link": (
        lambda p: (p / TENSORS).rename(p.parent / "x") and (p / TENSORS).symlink_to("../x"),
        "is not a plain file",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_named_and_not_read(path: Path, damage: Callable[[Path], object], words: str) -> None:
    """`verify` tells the damage in words, and `read_checkpoint` refuses it in one line."""
    damage(path)
    problems = verify(path)
    assert len(problems) == 1
    assert words in problems[0]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_file_problem_is_listed(path: Path) -> None:
    """Two kinds of damage give two lines."""
    (path / TENSORS).unlink()
    (path / "extra").touch()
    assert len(verify(path)) == 2


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"w": [1.0]}),
        b"\xff" * 8 + b"{}",
        b"\x02" + b"\0" * 7 + b"{}" + b"x" * 64,
        (60).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,99999]}} ' + b"\0",
        (57).to_bytes(8, "little") + b'{"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}   ' + b"\0" * 4,
    ],
    ids=["pickle", "endless header", "trailing bytes", "offsets outside", "unknown dtype"],
)
def test_a_hostile_file_with_a_matching_manifest_is_not_read(path: Path, content: bytes) -> None:
    """A file that only pretends to be safetensors is refused even where its sha256 is the manifest's."""
    (path / TENSORS).write_bytes(content)
    rewrite_file_entry(path)
    assert "is not readable safetensors" in verify(path)[0]
    with pytest.raises(CheckpointError, match="is not readable safetensors"):
        read_checkpoint(path)


def test_other_tensors_with_a_matching_file_hash_are_found(path: Path, tensors: Tensors) -> None:
    """The hash over the tensors catches a file that was exchanged together with its own sha256."""
    tensors["layers.0.down"][0, 0] += 1
    save_file(tensors, path / TENSORS)
    rewrite_file_entry(path)
    assert verify(path) == ["weights_hash is not that of the tensors"]
    with pytest.raises(CheckpointError, match="weights_hash"):
        read_checkpoint(path)


def test_other_shapes_are_found(path: Path, tensors: Tensors) -> None:
    """A tensor of another shape is named apart from its hash."""
    save_file({name: tensor.reshape(-1) for name, tensor in tensors.items()}, path / TENSORS)
    rewrite_file_entry(path)
    assert "names, dtypes or shapes of the tensors are not the manifest's" in verify(path)


def test_numbers_that_are_not_finite_are_found(path: Path, tensors: Tensors) -> None:
    """NaN in a file whose sha256 is right is still a problem."""
    tensors["layers.1.down"][0, 0] = float("nan")
    save_file(tensors, path / TENSORS)
    rewrite_file_entry(path)
    assert "layers.1.down holds NaN or infinity" in verify(path)


def test_a_manifest_that_lists_no_tensors_file(path: Path) -> None:
    """A manifest without the tensors' file is a problem, as is then the file itself."""
    content = json.loads((path / FILE_NAME).read_text())
    content["files"] = {}
    (path / FILE_NAME).write_text(json.dumps(content))
    assert verify(path) == [f"the manifest lists no {TENSORS}", f"{TENSORS!r} is not in the manifest"]


def test_the_layout_of_the_file_does_not_matter_to_the_weights_hash(path: Path, tensors: Tensors) -> None:
    """The same tensors in a file of another layout verify, once the manifest names that file."""
    before = (path / TENSORS).read_bytes()
    save_file(tensors, path / TENSORS, metadata={"format": "pt", "note": "moved"})
    assert (path / TENSORS).read_bytes() != before
    rewrite_file_entry(path)
    assert verify(path) == []


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder is one problem, not a traceback."""
    assert len(verify(tmp_path / "ghost")) == 1


def test_reading_gives_tensors_that_outlive_the_file(path: Path, tensors: Tensors) -> None:
    """What was read stays valid after the checkpoint is gone from the disk."""
    manifest, read = read_checkpoint(path)
    (path / TENSORS).write_bytes(b"")
    (path / TENSORS).unlink()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    assert from_json(to_json(manifest)) == manifest
