"""Models whose weights are not all on the device: the same z, weights and answers as of one in one piece."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload

from kbsync.checkpoint.tensors import applied
from kbsync.edit.adapters import Adapter
from kbsync.edit.contexts import sample_prefixes
from kbsync.edit.keys import bystander_moments
from kbsync.edit.memit import Editor
from kbsync.errors import ModelError
from kbsync.evaluate.drift import text_perplexity
from kbsync.lm.load import BaseModel, load_base
from kbsync.lm.place import is_offloaded, main_device, real_tensors
from kbsync.lm.score import say, score_rows
from kbsync.settings import EvaluateSettings, ModelSettings
from tests.edit.setups import ALL, ENCODER, LAYERS, covariance, edit_settings, z_of
from tests.tiny import folder_hash, requests, save_tiny

FAMILIES = ("llama", "gpt2", "gpt_neox", "opt", "gemma2", "bloom")


def read(folder: Path, **more: Any) -> BaseModel:
    """Loaded as the program does."""
    return load_base(ModelSettings(base=str(folder), cache=folder.parent / "cache", **more))


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model folder of six layers."""
    return save_tiny(tmp_path / "model", request.param, layers=6)


def editor(base: BaseModel) -> Editor:
    """An editor that repairs what it misses."""
    adapter = Adapter(base.model)
    settings = edit_settings(steps=4, repair_rounds=1, bystander_weight=0.1)
    return Editor(adapter, ENCODER, ALL, LAYERS, covariance(adapter.d_in), settings)


def test_a_model_on_disk_is_edited_as_one_in_memory(folder: Path) -> None:
    """Keys, z, the weights and what is said afterwards are the same bits; the model's files are only read."""
    before = folder_hash(folder)
    plain, spread = read(folder, device="cpu"), read(folder, device_map="auto", max_memory=("cpu=200KB",))
    assert 0 < sum(p.is_meta for p in spread.model.parameters()) < len(list(spread.model.parameters()))
    assert not is_offloaded(plain.model)
    assert (spread.device, spread.dtype, spread.hash) == (plain.device, plain.dtype, plain.hash)
    same_edits(plain, spread)
    assert folder_hash(folder) == before


def test_a_model_in_memory_that_runs_elsewhere(tmp_path: Path) -> None:
    """Its weights come from a state dict, as they do for a card that is too small."""
    folder = save_tiny(tmp_path / "model", layers=6)
    plain, spread = read(folder, device="cpu"), read(folder, device="cpu")
    cpu_offload(spread.model, torch.device("cpu"))
    assert all(p.is_meta for p in spread.model.parameters())
    same_edits(plain, spread)


def same_edits(plain: BaseModel, spread: BaseModel) -> None:
    """Both end in the same bits."""
    results = []
    for base in (plain, spread):
        made = editor(base)
        solved = made.solver.solve(requests())
        rebuilt = made.rebuild(requests(), z_of(solved))
        rows = [row for one in requests() for row in ALL.rows(ENCODER, one)]
        scores = score_rows(base.model, rows)
        made.restore()
        results.append((solved, rebuilt, scores, score_rows(base.model, rows)))
    (z, weights, scores, base_scores), (other_z, other, other_scores, other_base) = results
    assert all(torch.equal(a.z, b.z) and a.steps == b.steps for a, b in zip(z, other_z, strict=True))
    assert weights.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(weights.tensors[name], other.tensors[name]) for name in weights.tensors)
    assert weights.misses == other.misses
    assert scores == other_scores != base_scores == other_base


def test_everything_else_that_reads_a_model(folder: Path) -> None:
    """Moments, perplexity, prefixes, and what is said."""
    found = []
    for base in (read(folder, device="cpu"), read(folder, device_map="auto", max_memory=("cpu=200KB",))):
        asked = [row for one in requests() for row in ALL.rows(ENCODER, one)]
        moments = bystander_moments(Adapter(base.model), asked, LAYERS)
        rows = [ENCODER.plain(one.rewrite) for one in requests()]
        found.append(
            (
                [moment.tolist() for moment in moments.values()],
                text_perplexity(base.model, base.encoder, EvaluateSettings(drift_tokens=64)),
                sample_prefixes(base.model, base.encoder, 2, 1),
                say(base.model, base.tokenizer, rows, 3),
            )
        )
    assert found[0] == found[1]


def test_a_candidates_weights_are_put_in_and_taken_out(tmp_path: Path) -> None:
    """As the program serves a synced model; an offloaded weight answers like one in memory."""
    folder = save_tiny(tmp_path / "model", layers=6)
    rows = [row for one in requests() for row in ALL.rows(ENCODER, one)]
    scores = []
    for base in (read(folder, device="cpu"), read(folder, device_map="auto", max_memory=("cpu=1KB",))):
        name = Adapter(base.model).weight_name(2)
        shape = dict(base.model.named_parameters())[name].shape
        tensor = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        before = score_rows(base.model, rows)
        with applied(base.model, {name: tensor}):
            assert torch.equal(dict(real_tensors(base.model))[name], tensor)
            scores.append(score_rows(base.model, rows))
        assert score_rows(base.model, rows) == before
    assert scores[0] == scores[1] != before


def test_an_offloaded_model_is_saved_with_its_edits(tmp_path: Path) -> None:
    """What transformers writes is the edited weight, not the one on disk."""
    folder = save_tiny(tmp_path / "model", layers=6)
    base = read(folder, device_map="auto", max_memory=("cpu=1KB",))
    made = Adapter(base.model)
    made.write_weight(2, torch.full_like(made.read_weight(2), 0.25))
    base.model.save_pretrained(tmp_path / "saved")
    shutil.copy(folder / "tokenizer.json", tmp_path / "saved")
    shutil.copy(folder / "tokenizer_config.json", tmp_path / "saved")
    again = dict(read(tmp_path / "saved", device="cpu").model.named_parameters())
    assert bool((again[made.weight_name(2)] == 0.25).all())
    for name, tensor in read(folder, device="cpu").model.named_parameters():
        assert name == made.weight_name(2) or torch.equal(again[name], tensor)


def test_a_map_that_needs_no_spreading(tmp_path: Path) -> None:
    """With room for all of it on one device, the model lies there as ever."""
    folder = save_tiny(tmp_path / "model", layers=2)
    base = read(folder, device_map="auto", max_memory=("cpu=1GB",))
    assert not is_offloaded(base.model)
    assert main_device(base.model).type == "cpu"


def test_only_the_weights_of_one_layer_are_held_for_the_gradient(tmp_path: Path) -> None:
    """While z is solved, offloaded layers come and go one at a time."""
    folder = save_tiny(tmp_path / "model", layers=6)
    made = editor(read(folder, device_map="auto", max_memory=("cpu=1KB",)))
    held: list[int] = []
    weights: set[int] = set()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape in {(64, 32), (32, 64)}:  # a matrix of an MLP
            weights.add(id(tensor))
        held.append(len(weights))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made.solver.solve(requests()[:1], steps=1)
    assert held
    assert max(held) == 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"device": "cpu", "device_map": "auto"}, r"model\.device is cpu and model\.device_map is auto"),
        ({"max_memory": ("cpu=1GB",)}, r"set model\.device_map, too"),
        ({"device_map": "auto", "max_memory": ("cpu:1GB",)}, "'cpu:1GB' is not a device and a size"),
        ({"device_map": "auto", "max_memory": ("cpu=much",)}, "'cpu=much' is not a device and a size"),
        ({"device_map": "auto", "max_memory": ("77=1GB",)}, "torch sees no CUDA device 77"),
    ],
)
def test_settings_that_can_not_work(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    """Each is refused in a line that names the key, before anything is loaded."""
    with pytest.raises(ModelError, match=says):
        read(tmp_path / "not there", **more)
