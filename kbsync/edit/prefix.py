"""Keys and values of the tokens before the subject's last one: constant while z is solved, so computed once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
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
