"""GGUF files from strangers: a header that lies is refused before anything reads it, and an honest file
loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kbsync.errors import ModelError
from kbsync.lm import gguf
from kbsync.lm.gguf_header import check_gguf
from kbsync.lm.load import load_base
from kbsync.settings import ModelSettings
from tests.attacks.gguf_files import LIES, honest, lying
from tests.tiny import one_thread, tiny_model

__all__ = ["one_thread"]


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    """One line names the file and the lie, and nothing stays behind."""
    content, reason = LIES[name]
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=reason) as caught:
        gguf.convert(file, tmp_path / "cache")
    said = str(caught.value)
    assert said.startswith(f"{file} can't be read: ")
    assert "\n" not in said
    assert len(said) < 500
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_the_lies_differ_from_a_file_that_passes(tmp_path: Path) -> None:
    """The file that the lies are made of is refused by none of the checks."""
    file = tmp_path / "model.gguf"
    file.write_bytes(lying())
    check_gguf(file)


def test_an_honest_file_loads(tmp_path: Path) -> None:
    """It becomes the model that was written, whatever lies beside it."""
    (tmp_path / "stranger").mkdir()
    file = honest(tmp_path / "stranger" / "model.gguf")
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        (file.parent / name).write_text('{"auto_map": {"AutoConfig": "x.Y"}, "model_type": "t5"}')
    before = sorted(file.parent.iterdir())
    base = load_base(ModelSettings(base=str(file), device="cpu", cache=tmp_path / "cache"))
    assert sorted(file.parent.iterdir()) == before
    made = tiny_model("llama", layers=2)
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(base.model.state_dict()[name], made.state_dict()[name])
    assert base.stored == "GGUF (F32)"
    assert base.tokenizer("The capital of France").input_ids


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.1.attn_norm.weight", "blk.1.ffn_down.weight"])
def test_a_file_that_lacks_a_weight_is_refused(name: str, tmp_path: Path) -> None:
    """Nothing stands in for what is not there, and no folder that looks whole stays behind."""
    file = honest(tmp_path / "model.gguf", without=name)
    with pytest.raises(ModelError, match="lacks the weight model"):
        gguf.convert(file, tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_head_that_is_not_there_is_the_embedding(tmp_path: Path) -> None:
    """A file without one is of a model that ties the two."""
    folder = gguf.convert(honest(tmp_path / "model.gguf", without="output.weight"), tmp_path / "cache")
    base = load_base(ModelSettings(base=str(folder), device="cpu", cache=tmp_path / "cache"))
    assert base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight
