"""What can be edited, and why the rest can't: told from a config alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoConfig

from kbsync.edit.families import FAMILIES, family_of
from kbsync.errors import ModelError


def test_the_docs_list_every_family() -> None:
    """By the name that config.json has for it."""
    page = (Path(__file__).parents[2] / "docs" / "editing.md").read_text(encoding="utf-8")
    assert [kind for kind in FAMILIES if f"`{kind}`" not in page] == []


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_librarys_own_config_of_each_family_is_taken(kind: str) -> None:
    """Defaults of every supported type, as objects and as a config.json has them."""
    config = AutoConfig.for_model(kind)
    assert family_of(config).name == kind
    assert family_of(SimpleNamespace(**config.to_dict())).name == kind


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("t5", "is an encoder-decoder"),
        ("mixtral", "'mixtral' is a mixture of experts"),
        ("qwen3_moe", "'qwen3_moe' is a mixture of experts"),
        ("deepseek_v3", "'deepseek_v3' is a mixture of experts"),
        ("mamba", "'mamba' is recurrent"),
        ("rwkv", "'rwkv' is recurrent"),
        ("lfm2", "'lfm2' is recurrent"),
        ("recurrent_gemma", "'recurrent_gemma' is recurrent"),
        ("gemma3", "'gemma3' wraps a language model"),
        ("llava", "'llava' wraps a language model"),
        ("bert", "no adapter for the model type 'bert'"),
        ("openai-gpt", "no adapter for the model type 'openai-gpt'"),
    ],
)
def test_others_are_refused_with_the_reason(kind: str, reason: str) -> None:
    """Encoder-decoders, experts, states, wrappers, and what nobody has tried."""
    with pytest.raises(ModelError, match=reason):
        family_of(AutoConfig.for_model(kind))


@pytest.mark.parametrize(
    ("kind", "more", "reason"),
    [
        ("opt", {"do_layer_norm_before": False}, "norms the hidden state itself"),
        ("opt", {"hidden_size": 1024, "word_embed_proj_dim": 512}, "projects its embeddings"),
        ("bloom", {"slow_but_exact": True, "pretraining_tp": 4}, "slow_but_exact"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "both directions"),
        ("gpt2", {"add_cross_attention": True}, "attends to an encoder"),
    ],
)
def test_odd_models_of_a_supported_family_are_refused(kind: str, more: dict[str, Any], reason: str) -> None:
    """OPT-350m and others whose config turns on what the family's contracts don't hold for."""
    with pytest.raises(ModelError, match=f"this {kind} model .*{reason}"):
        family_of(AutoConfig.for_model(kind, **more))


def test_layers_that_do_not_attend_are_refused() -> None:
    """A hybrid of a known type is named by the layers that are foreign."""
    config = SimpleNamespace(model_type="qwen3", layer_types=["full_attention", "linear_attention"])
    with pytest.raises(ModelError, match="layers of the kind linear_attention"):
        family_of(config)
