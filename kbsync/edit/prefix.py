"""Keys and values of the tokens before the subject's last one: constant while z is solved, so computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache


class PrefixCache(DynamicCache):
    """Attention keys and values per layer, recorded once and then only read.

    While recording, `update` stores what it is given. Once frozen, `update` returns the prefix with the new
    tokens behind it and stores nothing, so every optimiser step starts from the same prefix.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[int, tuple[Tensor, Tensor]] = {}
        self.frozen = False

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values (R, heads, T, d_head) of one layer, as its attention sees them."""
        del args, kwargs  # what the library's own caches take besides
        if not self.frozen:
            self.stored[layer_idx] = (key_states, value_states)
            return key_states, value_states
        if layer_idx not in self.stored:  # the subject's last token is the first token: there is no prefix
            return key_states, value_states
        keys, values = self.stored[layer_idx]
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Length of the prefix."""
        del layer_idx
        for keys, _ in self.stored.values():
            return int(keys.shape[-2])
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Length and offset of the keys that this many queries see."""
        return self.get_seq_length(layer_idx) + query_length, 0

    def take(self, rows: Tensor) -> None:
        """Keep only some rows, when the others have converged."""
        self.stored = {layer: (k[rows.to(k.device)], v[rows.to(v.device)]) for layer, (k, v) in self.stored.items()}

    @classmethod
    def joined(cls, caches: Sequence[PrefixCache], rows: Sequence[int]) -> PrefixCache:
        """Several frozen ones as one, with so many `rows` each: shorter prefixes are padded on the left, where
        masks hide it."""
        whole = cls()
        whole.frozen = True
        length = max(cache.get_seq_length() for cache in caches)
        for layer, like in next((cache.stored for cache in caches if cache.stored), {}).items():
            pairs = [
                cache.stored.get(layer) or _nothing(like, count) for cache, count in zip(caches, rows, strict=True)
            ]
            padded = [[functional.pad(one, (0, 0, length - one.shape[-2], 0)) for one in pair] for pair in pairs]
            keys, values = zip(*padded, strict=True)
            whole.stored[layer] = torch.cat(keys), torch.cat(values)
        return whole


def _nothing(like: tuple[Tensor, Tensor], rows: int) -> tuple[Tensor, Tensor]:
    """Keys and values of an empty prefix, shaped as others are."""
    keys, values = (one.new_empty(rows, one.shape[1], 0, one.shape[3]) for one in like)
    return keys, values
