"""What keeps z the same bits in a rerun on CUDA, where fast kernels add up in any order.

z is stored once it is solved, but repair solves on each candidate anew, and weights are a function of the live set.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def repeatable(device: torch.device) -> AbstractContextManager[None]:
    """Attention by plain matrix products on CUDA; nothing changes on the CPU.

    The backward passes of the fused kernels use atomic additions. For rows as short as those behind a subject
    they are hardly faster.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else nullcontext()


def add_at(sums: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """`sums` (n,) with `values` (m,) added at the indices `at` (m,), in one order on each device."""
    if sums.device.type == "cuda":  # sorts by index first, where index_add uses atomic additions
        return sums.index_put((at,), values, accumulate=True)
    return sums.index_add(0, at, values)
