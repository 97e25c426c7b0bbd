"""Text that a model itself says, sampled with a seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kbsync.facts import digest
from kbsync.lm.place import main_device
from kbsync.lm.rows import Encoder

TOP = 50  # a token is drawn from so many likeliest ones: the long tail of a small model is noise
_STARTS = ("The", "In", "A", "It", "When", "This")  # first tokens, where nothing marks the start of a document


@torch.inference_mode()
def sample_texts(model: Any, encoder: Encoder, numbers: range, length: int, seed: int) -> Tensor:
    """The texts with these numbers, `length` tokens each after BOS: (len(numbers), length) int32 on the CPU.

    All are extended together, a token at a time, with the keys and values of what was read before kept. Each text
    has random numbers of its own from the CPU's generator, so a text depends on `seed` and its number and, but for
    rounding, on neither device nor the other texts. Special tokens are never drawn. Without BOS a text begins with
    a common first word.
    """
    device = main_device(model)
    draws = torch.stack([_draws(seed, number, length) for number in numbers], dim=1)  # (length, R)
    barred = _barred(encoder)
    if encoder.bos_id is not None:
        said, last = [], torch.full((len(numbers),), encoder.bos_id)
    else:
        first = [encoder.text_ids(_STARTS[number % len(_STARTS)])[0] for number in numbers]
        last = torch.tensor(first)
        said = [last]
    cache = None
    while len(said) < length:
        out = model(input_ids=last[:, None].to(device), cache=cache, use_cache=True)
        cache = out.cache
        logits = out.logits[:, -1].float()  # (R, V)
        logits[:, barred[barred < logits.shape[1]].to(device)] = -torch.inf
        logits[:, len(encoder.tokenizer) :] = -torch.inf  # rows that pad the embedding
        last = _draw(logits, draws[len(said)])
        said.append(last)
    return torch.stack(said, dim=1).int()


def _draws(seed: int, number: int, length: int) -> Tensor:
    """Uniform random numbers in [0, 1), (length,) float64, of one text."""
    own = int(digest([seed, number])[:15], 16)
    return torch.rand(length, dtype=torch.float64, generator=torch.Generator().manual_seed(own))


def _barred(encoder: Encoder) -> Tensor:
    """Ids of special tokens, also of those that have no role."""
    added = encoder.tokenizer.added_tokens_decoder
    ids = {*encoder.tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
    return torch.tensor(sorted(ids), dtype=torch.long)


def _draw(logits: Tensor, at: Tensor) -> Tensor:
    """A token for each row of logits (R, V): where its cumulative probability passes `at` (R,)."""
    top = logits.topk(min(TOP, logits.shape[1]))
    ladder = top.values.cpu().double().softmax(-1).cumsum(-1)  # (R, TOP)
    step = (ladder <= at[:, None] * ladder[:, -1:]).sum(-1, keepdim=True).clamp(max=ladder.shape[1] - 1)
    return top.indices.cpu().gather(1, step)[:, 0]
