"""What a model's weights are stored in, what they are loaded as, and codes that are no numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from kbsync.errors import ModelError
from kbsync.lm.load import BaseModel, load_base
from kbsync.lm.precision import SOURCE, note_source, quantiser, stored_in
from kbsync.settings import ModelSettings
from tests.tiny import save_tiny

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def read(folder: Path) -> BaseModel:
    """Load as the program does, on the CPU."""
    return load_base(ModelSettings(base=str(folder), device="cpu", cache=folder.parent / "cache"))


def save_in(folder: Path, dtype: torch.dtype) -> Path:
    """A tiny model whose file and configuration are of one type."""
    save_tiny(folder, layers=2)
    AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).save_pretrained(folder)
    return folder


def quantise(folder: Path, config: dict[str, Any]) -> Path:
    """Write a quantiser into a model's configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": config}))
    return folder


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_loaded_as_float32_on_the_cpu(name: str, tmp_path: Path) -> None:
    """Each number is the stored one, and what it was stored in is told."""
    base = read(save_in(tmp_path / "m", TYPES[name]))
    assert (base.stored, base.dtype) == (name, torch.float32)
    for key, tensor in load_file(tmp_path / "m" / "model.safetensors").items():
        assert tensor.dtype == TYPES[name]
        assert torch.equal(base.model.state_dict()[key], tensor.float())


def test_the_same_numbers_in_other_types_are_other_bases(tmp_path: Path) -> None:
    """z of one is never taken for a z of the other."""
    wide, narrow = (read(save_in(tmp_path / name, TYPES[name])) for name in ("float32", "bfloat16"))
    assert wide.weights_hash != narrow.weights_hash


def test_types_are_told_by_how_much_is_in_them(tmp_path: Path) -> None:
    """The type of most numbers comes first."""
    folder = save_in(tmp_path / "m", torch.bfloat16)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file(tensors, folder / "model.safetensors")
    assert stored_in(folder) == "bfloat16, float32"
    assert stored_in(tmp_path) == ""


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Half a header is no model."""
    (tmp_path / "model.safetensors").write_bytes(b"\x40\x00\x00\x00")
    with pytest.raises(ModelError, match="is damaged"):
        stored_in(tmp_path)


def test_a_conversion_tells_what_it_read(tmp_path: Path) -> None:
    """The GGUF types, most numbers first; a note that can't be read is passed over."""
    folder = save_in(tmp_path / "m", torch.float32)
    note_source(folder, {"F32": 10, "Q8_0": 1000})
    assert stored_in(folder) == "GGUF (Q8_0, F32)"
    assert read(folder).stored == "GGUF (Q8_0, F32)"
    (folder / SOURCE).write_text("{")
    assert stored_in(folder) == "float32"


class TestQuantised:
    """Matrices of codes and scales."""

    @pytest.mark.parametrize(
        ("config", "says"),
        [
            ({"quant_method": "gptq", "bits": 4, "group_size": 128}, r"quantised \(gptq, 4 bits\)"),
            ({"quant_method": "awq", "bits": 4, "version": "gemm"}, r"quantised \(awq, 4 bits\)"),
            ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"quantised \(bitsandbytes\)"),
            ({"quant_method": "compressed-tensors"}, r"quantised \(compressed-tensors\)"),
            ({"bits": 3}, r"quantised \(by an unknown method, 3 bits\)"),
            ("int8", r"quantised \(by an unknown method\)"),
        ],
    )
    def test_codes_are_refused_in_one_line(self, config: Any, says: str, tmp_path: Path) -> None:
        """The method is named, and what to use instead; no package of the quantiser is asked for."""
        folder = quantise(save_in(tmp_path / "m", torch.float32), config)
        with pytest.raises(ModelError, match=says) as caught:
            read(folder)
        assert "name the model that it was made from, or a GGUF file of it" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"quantization_config": {}}])
    def test_no_quantiser(self, config: dict[str, Any]) -> None:
        """A plain model says nothing of one."""
        assert quantiser(config) is None

    def test_fp8_becomes_plain_numbers(self, tmp_path: Path) -> None:
        """Each is its code times its block's scale, and nothing of the quantiser is left on the model."""
        folder = save_in(tmp_path / "m", torch.float32)
        expected, stored = {}, {}
        for name, weight in load_file(folder / "model.safetensors").items():
            if not name.endswith("_proj.weight"):
                stored[name] = weight
                continue
            rows, columns = weight.shape[0] // 16, weight.shape[1] // 16
            blocks = weight.reshape(rows, 16, columns, 16).transpose(1, 2)  # (rows, columns, 16, 16)
            scale = blocks.abs().amax((-1, -2)) / 400
            codes = (blocks / scale[..., None, None]).to(torch.float8_e4m3fn)
            expected[name] = (codes.float() * scale[..., None, None]).transpose(1, 2).reshape(weight.shape)
            stored[name] = codes.transpose(1, 2).reshape(weight.shape).contiguous()
            stored[name.replace("weight", "weight_scale_inv")] = scale
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        quantise(folder, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]})
        base = read(folder)
        assert base.dtype == torch.float32
        assert base.stored in ("float32, float8_e4m3", "float8_e4m3, float32")
        for name, weight in expected.items():
            torch.testing.assert_close(base.model.state_dict()[name], weight, rtol=1e-6, atol=1e-7)
        base.model.save_pretrained(tmp_path / "out")
        assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
        assert stored_in(tmp_path / "out") == "float32"
        saved = load_file(tmp_path / "out" / "model.safetensors")
        assert all(torch.equal(saved[name], base.model.state_dict()[name]) for name in expected)
