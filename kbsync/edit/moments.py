"""Σ k kᵀ over text, per layer: sums that are exact enough for any number of tokens.

A batch's product is taken in float32, where it is fast, and added up in float64: in float32 a sum over millions of
tokens would lose what the later ones bring. Products are symmetric, so only blocks on and above the diagonal are
computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.edit.keys import KeyTap
from kbsync.lm.batch import align

_ROOM = {"cpu": 2048}  # tokens of one forward pass; more on other devices
_MUCH_ROOM = 16_384
_BLOCK = 384  # columns of a block: small ones save more of the product, and are multiplied less fast


class Moments:
    """Sums over the tokens read so far. `sums[layer]`: (d_in, d_in) float64, right on and above the diagonal.

    They stay on the model's device where there is room for them, so that nothing waits for a transfer.
    """

    def __init__(self, adapter: Adapter, layers: Sequence[int]) -> None:
        self.adapter = adapter
        self.layers = layers
        d, device = adapter.d_in, adapter.device
        need = len(layers) * d * d * 8
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        where = sums_device(device, need, free)
        self.sums = {layer: torch.zeros(d, d, dtype=torch.float64, device=where) for layer in layers}

    def load(self, sums: Mapping[int, Tensor]) -> None:
        """Go on from sums that were saved."""
        for layer, own in self.sums.items():
            own.copy_(sums[layer])

    @torch.inference_mode()
    def add(self, chunks: Sequence[Sequence[int]]) -> None:
        """Read sequences of ids, and add every token's key. Only the layers up to the last of these are run."""
        batch = align(chunks, [0] * len(chunks), self.adapter.device)
        real = None if bool(batch.real.all()) else batch.real.flatten()
        with KeyTap(self.adapter, self.layers) as tap:
            self.adapter.run(batch, (0, batch.ids.shape[1]), (0, max(self.layers) + 1))
            for layer in self.layers:
                keys = tap.keys[layer] if real is None else tap.keys[layer][real]
                _add(self.sums[layer], keys.float())  # (tokens, d_in)

    def whole(self, tokens: int) -> dict[int, Tensor]:
        """The means over so many tokens, on the CPU, (d_in, d_in) and exactly symmetric."""
        found = {}
        for layer, own in self.sums.items():
            upper = own.cpu().triu_().div_(tokens) if own.is_cuda else own.triu() / tokens
            found[layer] = upper + upper.triu(1).T
        return found


def together(adapter: Adapter, longest: int) -> int:
    """How many sequences of at most `longest` tokens are read at once."""
    room = _ROOM.get(adapter.device.type, _MUCH_ROOM)
    return max(1, room // longest)


def sums_device(device: torch.device, need: int, free: int) -> torch.device:
    """The device itself where `need` bytes take at most half of what is free there; else the CPU."""
    return device if device.type == "cpu" or 2 * need <= free else torch.device("cpu")


def _add(sums: Tensor, keys: Tensor) -> None:
    """sums += keysᵀ keys, on and above the diagonal."""
    for rows, columns in _blocks(sums.shape[0]):
        sums[rows, columns] += (keys[:, rows].T @ keys[:, columns]).to(sums.device)


def _blocks(d: int) -> Iterator[tuple[slice, slice]]:
    for at in range(0, d, _BLOCK):
        yield slice(at, at + _BLOCK), slice(at, d)
