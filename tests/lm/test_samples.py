"""What a model says when it is sampled: by a seed, in batches, with keys and values kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kbsync.lm import samples as module
from kbsync.lm.rows import Encoder
from kbsync.lm.samples import sample_texts
from tests.edit.setups import ENCODER, NO_BOS
from tests.tiny import FAMILIES, tiny_model


def plainly(model: Any, encoder: Encoder, number: int, length: int, seed: int) -> list[int]:
    """One text with nothing kept: all of it is read anew for each token."""
    head = [] if encoder.bos_id is None else [encoder.bos_id]
    said = [] if head else encoder.text_ids(module._STARTS[number])[:1]
    draws = module._draws(seed, number, length)
    while len(said) < length:
        logits = model(input_ids=torch.tensor([head + said])).logits[:, -1].float()
        logits[:, module._barred(encoder)] = -torch.inf
        said.append(int(module._draw(logits, draws[len(said)][None])[0]))
    return said


@pytest.mark.parametrize("encoder", [ENCODER, NO_BOS], ids=["bos", "no bos"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_cache_changes_nothing(family: str, encoder: Encoder) -> None:
    """Texts are what reading everything anew for each token gives, in every family."""
    model = tiny_model(family)
    with torch.inference_mode():
        expected = [plainly(model, encoder, number, 12, 5) for number in range(3)]
    assert sample_texts(model, encoder, range(3), 12, 5).tolist() == expected


def test_one_seed_is_one_text() -> None:
    """Whatever is sampled with it; another seed and another number are other texts."""
    model = tiny_model()
    four = sample_texts(model, ENCODER, range(4), 20, 7)
    assert four.shape == (4, 20)
    assert torch.equal(sample_texts(model, ENCODER, range(2, 4), 20, 7), four[2:])
    assert not torch.equal(sample_texts(model, ENCODER, range(4), 20, 8), four)
    assert len({tuple(row) for row in four.tolist()}) == 4


def test_no_special_token_is_drawn() -> None:
    """Also where the model likes nothing better."""
    model = tiny_model()
    special = ENCODER.tokenizer.all_special_ids

    def like(module: Any, args: Any, out: Any) -> None:
        out.logits[..., special] = 1e4

    handle = model.register_forward_hook(like)
    said = sample_texts(model, ENCODER, range(6), 16, 0)
    handle.remove()
    assert not set(said.flatten().tolist()) & set(special)


def test_rows_that_pad_the_embedding_are_not_drawn() -> None:
    """They have no word."""
    model = tiny_model(vocab=450)
    assert int(sample_texts(model, NO_BOS, range(8), 16, 0).max()) < 400


def test_frequencies_are_the_model_s() -> None:
    """Tokens are drawn as often as they are likely, among the likeliest."""
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(20_000, 1)
    drawn = module._draw(
        logits, torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.015, rtol=0)
    wide = torch.zeros(1, 400)
    wide[0, :50] = 1.0
    ends = torch.tensor([0.0, 0.999999999999], dtype=torch.float64)
    assert set(module._draw(wide.repeat(2, 1), ends).tolist()) <= set(range(50))
    assert len(set(module._draw(wide.repeat(2, 1), ends).tolist())) == 2
