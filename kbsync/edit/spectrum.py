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
        condition = condition_of(C, factor)
    return Spectrum(float(C.trace()), effective_rank(C), condition)


def effective_rank(matrix: Tensor) -> float:
    """tr(C)² / tr(C²) of a symmetric (d, d) matrix: from 1 to d, and 0 where all of it is 0."""
    square = float(matrix.square().sum())  # tr(C²), C being symmetric
    return float(matrix.trace()) ** 2 / square if square else 0.0


def condition_of(matrix: Tensor, factor: Tensor, rounds: int = _ROUNDS) -> float:
    """The largest eigenvalue of a positive definite (d, d) matrix over its smallest, estimated from below, with the
    lower Cholesky factor at hand."""
    largest = _largest(matrix, lambda v: matrix @ v, rounds)
    inverse = _largest(matrix, lambda v: torch.cholesky_solve(v, factor), rounds)  # 1 / the smallest
    return max(1.0, largest * inverse)


def _largest(matrix: Tensor, apply: Callable[[Tensor], Tensor], rounds: int) -> float:
    """The largest eigenvalue of what `apply` does to (d, 1), by power iteration from a fixed start."""
    d = matrix.shape[0]
    v = torch.randn(d, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(matrix.device)
    value = torch.zeros((), dtype=torch.float64, device=matrix.device)
    for _ in range(rounds):
        v = v / v.norm()
        image = apply(v)
        value = (v * image).sum()
        v = image
    return float(value)
