"""How many requests are solved for z together.

Who else is in a batch shapes the last bits of a z, so a batch is cut before it is solved, by rules that a rerun on
the same device repeats: a number of requests, or, on CUDA, what the batch is estimated to hold in memory. What is
free at the moment plays no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kbsync.edit.adapters import Adapter, Top
from kbsync.lm.rows import Row

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import EditSettings

FEW = 64  # requests of a batch on the CPU, where larger ones are no faster
MANY = 1024  # on CUDA: what is lost when a run is killed within a batch
_GIB = 1024**3
_MOST = 9 * _GIB  # memory of a batch at most; more makes no batch faster that is full of requests already
_SPARE = 2 * _GIB  # of a device, for what is not counted here
_STEP = _GIB // 4  # estimates are no better than this, and cards of one kind differ by a little


@dataclass(frozen=True, slots=True)
class Limit:
    """What a batch may hold: at most `requests`, and at most `bytes` by estimate (None: however many that are)."""

    requests: int
    bytes: int | None = None

    @property
    def rule(self) -> int | dict[str, int]:
        """As it stands in the settings that weights are a function of."""
        return self.requests if self.bytes is None else {"requests": self.requests, "bytes": self.bytes}

    def cut(self, count: int, size: Callable[[int], int]) -> list[slice]:
        """`count` requests in the order given, cut into batches; `size(i)` estimates the bytes of request i.

        A request that is larger than the limit stands alone.
        """
        slices: list[slice] = []
        first = held = 0
        for i in range(count):
            own = size(i) if self.bytes is not None else 0
            full = i - first >= self.requests or (self.bytes is not None and held + own > self.bytes)
            if i > first and full:
                slices.append(slice(first, i))
                first, held = i, 0
            held += own
        return [*slices, slice(first, count)] if count else []


def limit_for(adapter: Adapter, top: Top, settings: EditSettings) -> Limit:
    """The limit of a batch: the settings' number of requests, or, for `auto`, what the device has memory for."""
    if settings.batch_size != "auto":
        return Limit(int(settings.batch_size))
    if top.device.type != "cuda":
        return Limit(FEW)
    total = int(torch.cuda.get_device_properties(top.device).total_memory)
    return Limit(MANY, bytes_beside(total, weight_bytes(adapter, top)))


def bytes_beside(total: int, weights: int) -> int:
    """What a batch may hold on a device of `total` bytes that holds `weights` bytes already."""
    left = min(_MOST, total - weights - _SPARE)
    return max(0, left // _STEP * _STEP)


def weight_bytes(adapter: Adapter, top: Top) -> int:
    """Bytes of the weights on the main device: the model's, and the copies that z is solved with."""
    seen: dict[int, int] = {}
    for module in (adapter.model, top.module):
        for parameter in module.parameters():
            if parameter.device == adapter.device:
                seen[parameter.data_ptr()] = parameter.numel() * parameter.element_size()
    return sum(seen.values())


def row_bytes(config: Any, layers: int, d_in: int, size: int, row: Row) -> int:
    """Bytes that one row holds while its loss is differentiated, an estimate from above.

    `layers`: those that are run; `size`: bytes of one number. Per token after the subject's place and layer: ten
    vectors of the hidden size (what norms, projections and attention keep) and four of the key's; per token and
    layer keys and values, once in the prefix and once behind it, and four times the attention's scores; per scored
    token the logits in float32, four times over (them, their log-softmax, their gradient, and the base model's).
    """
    hidden, vocabulary = int(config.hidden_size), int(config.vocab_size)
    behind = len(row.inputs) - row.subject_last
    kept = layers * behind * (10 * hidden + 4 * d_in) * size
    attention = layers * 2 * (len(row.inputs) + row.subject_last) * hidden * size
    scores = layers * 4 * int(config.num_attention_heads) * behind * len(row.inputs) * size
    return kept + attention + scores + max(1, row.target_len) * vocabulary * 4 * 4


def request_bytes(adapter: Adapter, top: Top, layer: int, rows: Sequence[Row]) -> int:
    """Bytes that a request's rows hold together, those of its KL terms included."""
    above = adapter.n_layers - 1 - layer
    config = adapter.model.config
    return sum(row_bytes(config, above, adapter.d_in, top.dtype.itemsize, row) for row in rows)
