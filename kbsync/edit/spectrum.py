"""What a covariance's eigenvalues look like, without computing them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Of one C: `trace`, the mean square length of a key; `effective_rank` = tr(C)² / tr(C²), the number of equally
    strong directions that would look the same; `condition`, an estimate from below of the ratio of the largest to
    the smallest eigenvalue, None where C is not positive definite."""

    trace: float
    effective_rank: float
    condition: float | None


def spectrum(matrix: Tensor) -> Spectrum:
    """The spectrum's outline of a symmetric (d, d) matrix.

    The ends of it by power iteration with C and with its inverse, through Cholesky's factor.
    """
    C = matrix.double()
    factor, info = torch.linalg.cholesky_ex(C)
    condition = None
    if int(info) == 0:
        largest = _largest(C.shape[0], lambda v: C @ v)
        smallest = 1 / _largest(C.shape[0], lambda v: torch.cholesky_solve(v, factor))
        condition = max(1.0, largest / smallest)
    return Spectrum(float(C.trace()), effective_rank(C), condition)


def effective_rank(matrix: Tensor) -> float:
    """tr(C)² / tr(C²) of a symmetric (d, d) matrix: from 1 to d, and 0 where all of it is 0."""
    square = float(matrix.square().sum())  # tr(C²), C being symmetric
    return float(matrix.trace()) ** 2 / square if square else 0.0


def _largest(d: int, apply: Callable[[Tensor], Tensor]) -> float:
    """The largest eigenvalue, by power iteration from a fixed start."""
    v = torch.randn(d, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value = 0.0
    for _ in range(_ROUNDS):
        v = v / v.norm()
        image = apply(v)
        value = float((v * image).sum())
        v = image
    return value
