"""A candidate is on disk whole, or not at all."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from kbsync.checkpoint import durable
from kbsync.checkpoint.manifest import FILE_NAME, Base, read_manifest
from kbsync.checkpoint.publish import checkpoints, live, publish
from kbsync.checkpoint.tensors import tensors_hash
from kbsync.checkpoint.verify import TENSORS, file_entry, read_checkpoint, verify
from kbsync.checkpoint.write import write_candidate
from kbsync.errors import CheckpointError
from kbsync.facts import digest
from tests.checkpoint.conftest import Tensors
from tests.checkpoint.examples import live_fact, make_manifest


def leftovers(folder: Path) -> list[Path]:
    """What is under construction in `folder`."""
    return list(folder.glob(f"{durable.TEMPORARY}*"))


def test_a_candidate_has_two_files_and_reads_back(folder: Path, tensors: Tensors) -> None:
    """Tensors and manifest come back as they were given, bit for bit, and nothing else lies around."""
    path = write_candidate(folder, "run-7", tensors, make_manifest())
    assert path == folder / "run-7"
    assert {entry.name for entry in path.iterdir()} == {TENSORS, FILE_NAME}
    manifest, read = read_checkpoint(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert manifest.live == make_manifest().live
    assert manifest.weights_hash == tensors_hash(tensors)
    assert manifest.files == {TENSORS: file_entry(path / TENSORS)}
    assert leftovers(folder) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_dtype_of_weights_comes_back(folder: Path, dtype: torch.dtype) -> None:
    """Half precision is stored as it is, not widened."""
    tensors = {"w": torch.randn(3, 5).to(dtype), "scalar": torch.tensor(1.5).to(dtype)}
    _, read = read_checkpoint(write_candidate(folder, "a", tensors, make_manifest()))
    assert read["w"].dtype == dtype
    assert torch.equal(read["w"], tensors["w"])
    assert read["scalar"].shape == ()


def test_views_and_shared_memory_are_stored_as_plain_tensors(folder: Path) -> None:
    """A transposed view and two names for one memory are written as contiguous tensors of their own."""
    base = torch.randn(4, 6)
    tensors = {"a": base, "b": base, "t": base.T, "part": base[1:3, ::2], "none": base[:0]}
    _, read = read_checkpoint(write_candidate(folder, "a", tensors, make_manifest()))
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_a_candidate_without_edits_is_whole(folder: Path) -> None:
    """An empty live set gives a checkpoint without tensors: the base model."""
    path = write_candidate(folder, "empty", {}, make_manifest(live=()))
    assert verify(path) == []
    assert read_checkpoint(path)[1] == {}


def test_the_same_candidate_has_the_same_bytes(folder: Path, tensors: Tensors) -> None:
    """Writing the same tensors twice, in another order of names, gives files that are equal byte by byte."""
    one = write_candidate(folder, "one", tensors, make_manifest())
    two = write_candidate(folder, "two", dict(reversed(tensors.items())), make_manifest())
    for name in (TENSORS, FILE_NAME):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_the_tensors_have_the_mode_that_the_umask_gives(folder: Path, tensors: Tensors) -> None:
    """Both files are readable for whoever may read the user's other files."""
    path = write_candidate(folder, "a", tensors, make_manifest())
    modes = {stat.S_IMODE((path / name).stat().st_mode) for name in (TENSORS, FILE_NAME)}
    plain = folder / "plain"
    plain.touch()
    assert modes == {stat.S_IMODE(plain.stat().st_mode)}


def test_the_file_says_that_it_holds_torch_tensors(folder: Path, tensors: Tensors) -> None:
    """Other readers of safetensors find the `pt` mark that they look for."""
    path = write_candidate(folder, "a", tensors, make_manifest())
    with safe_open(path / TENSORS, "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("name", ["", "..", "../up", "/abs", "a/b", ".hidden", "live", "a\nb"])
def test_a_name_that_could_leave_the_folder_is_refused(folder: Path, tensors: Tensors, name: str) -> None:
    """Only plain names are written, and nothing appears for another."""
    with pytest.raises(CheckpointError, match="can't name a checkpoint"):
        write_candidate(folder, name, tensors, make_manifest())
    assert not folder.exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(folder: Path, tensors: Tensors, bad: float) -> None:
    """One NaN or infinity anywhere refuses the candidate and names the tensor."""
    tensors["layers.0.down"][2, 1] = bad
    with pytest.raises(CheckpointError, match=r"layers\.0\.down holds NaN or infinity"):
        write_candidate(folder, "a", tensors, make_manifest())
    assert not folder.exists()


@pytest.mark.parametrize(
    "tensor", [torch.empty(2, device="meta"), torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.complex64)]
)
def test_tensors_without_plain_memory_are_refused(folder: Path, tensor: torch.Tensor) -> None:
    """Meta, sparse and complex tensors are named, not half written."""
    with pytest.raises(CheckpointError, match="w is not a dense"):
        write_candidate(folder, "a", {"w": tensor}, make_manifest())


def test_a_manifest_that_nobody_could_read_is_not_written(folder: Path, tensors: Tensors) -> None:
    """A base hash that is no sha256 is refused when the candidate is written, not when it is published."""
    base = Base("org/tiny", "unknown", digest("t"), "llama", "float32")
    with pytest.raises(CheckpointError, match=r"base\.weights_hash is not a sha256"):
        write_candidate(folder, "a", tensors, make_manifest(base=base))
    assert checkpoints(folder) == []
    assert leftovers(folder) == []


def test_an_unpublished_candidate_of_the_same_name_is_replaced(folder: Path, tensors: Tensors) -> None:
    """A run that starts again may write its candidate again, with other content."""
    write_candidate(folder, "a", tensors, make_manifest())
    path = write_candidate(folder, "a", {"w": torch.ones(2)}, make_manifest(run_id="8"))
    assert read_manifest(path).run_id == "8"
    assert verify(path) == []
    assert leftovers(folder) == []


def test_a_published_checkpoint_is_not_written_over(folder: Path, tensors: Tensors) -> None:
    """The same weights under the live name change nothing; other weights are an error."""
    path = write_candidate(folder, "a", tensors, make_manifest())
    publish(folder, "a")
    before = (path / FILE_NAME).read_bytes()
    assert write_candidate(folder, "a", tensors, make_manifest(run_id="8")) == path
    with pytest.raises(CheckpointError, match="published with other weights"):
        write_candidate(folder, "a", {"w": torch.ones(2)}, make_manifest())
    with pytest.raises(CheckpointError, match="published with other weights"):
        write_candidate(folder, "a", tensors, make_manifest(live=(live_fact(5),)))
    assert (path / FILE_NAME).read_bytes() == before


def test_a_damaged_published_checkpoint_is_not_taken_for_whole(folder: Path, tensors: Tensors) -> None:
    """Writing the live name again finds the damage instead of calling it done. Written anew, it is whole."""
    path = write_candidate(folder, "a", tensors, make_manifest())
    publish(folder, "a")
    (path / TENSORS).unlink()
    with pytest.raises(CheckpointError, match="the published a is damaged"):
        write_candidate(folder, "a", tensors, make_manifest())
    assert write_candidate(folder, "a", tensors, make_manifest(), anew=True) == live(folder) == path
    assert verify(path) == []
    assert leftovers(folder) == []


def test_what_killed_writers_left_is_swept(folder: Path, tensors: Tensors) -> None:
    """Temporary folders and links of earlier processes are gone after the next write; the rest stays."""
    (folder / ".tmp-run-6-abcd").mkdir(parents=True)
    (folder / ".tmp-run-6-abcd" / TENSORS).write_bytes(b"half")
    (folder / ".tmp-live-0123").symlink_to("nowhere")
    (folder / "notes.txt").write_text("mine")
    write_candidate(folder, "a", tensors, make_manifest())
    assert leftovers(folder) == []
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_second_writer_waits_its_turn(folder: Path, tensors: Tensors) -> None:
    """While one process writes, another is refused and sweeps nothing of the first."""
    with durable.only_writer(folder):
        busy = folder / ".tmp-busy"
        busy.mkdir()
        with pytest.raises(CheckpointError, match="another kbsync is writing"):
            write_candidate(folder, "a", tensors, make_manifest())
        assert busy.exists()
    write_candidate(folder, "a", tensors, make_manifest())
    assert not busy.exists()


def test_a_folder_that_can_not_be_made(tmp_path: Path, tensors: Tensors) -> None:
    """A checkpoint folder below a file is a CheckpointError, not a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="can't be written to"):
        write_candidate(tmp_path / "file" / "checkpoints", "a", tensors, make_manifest())


def test_too_little_room_is_seen_before_the_first_byte(
    folder: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When less is free than is needed, both numbers are said and nothing is written."""
    folder.mkdir(parents=True)
    usage = shutil.disk_usage(folder)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"does not fit .*it needs \d+\.\d MB and 0\.0 MB are free"):
        write_candidate(folder, "a", tensors, make_manifest())
    assert checkpoints(folder) == []
    assert leftovers(folder) == []
