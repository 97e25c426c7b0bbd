"""Tensors that hold what no model can be made of: NaN, infinity."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether the tensor has no NaN and no infinity."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def broken(name: str, tensor: Tensor) -> str | None:
    """What is wrong with a tensor's numbers, as a sentence that names it; None when all are finite."""
    if is_finite(tensor):
        return None
    nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    return f"{name} holds {nan} NaN and {infinite} infinite of {tensor.numel()} numbers"


def all_broken(tensors: Mapping[str, Tensor]) -> list[str]:
    """`broken` of each tensor, by their names' order."""
    return [said for name, tensor in sorted(tensors.items()) if (said := broken(name, tensor)) is not None]
