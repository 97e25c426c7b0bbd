"""The closed form of MEMIT's update (Meng et al. 2023, eq. 14), in float64 by Cholesky."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kbsync.edit.conditioning import Conditioning, condition, remainder
from kbsync.errors import EditError, NotFinite


@dataclass(frozen=True, slots=True)
class Solution:
    """An update Δ: (d_out, d_in), float64, and tr Kᵀ(λC + KKᵀ)⁻¹K, the directions that its keys take;
    `conditioning` where it was asked for."""

    delta: Tensor
    directions: float
    conditioning: Conditioning | None = None


def closed_form(residual: Tensor, keys: Tensor, covariance: Tensor, weight: float) -> Tensor:
    """Δ = R Kᵀ (λC + K Kᵀ)⁻¹, as `solution` finds it."""
    return solution(residual, keys, covariance, weight).delta


def solution(residual: Tensor, keys: Tensor, covariance: Tensor, weight: float, examine: bool = False) -> Solution:
    """Δ = R Kᵀ (λC + K Kᵀ)⁻¹, with the directions that K takes, which fall out of the same factors.

    `residual` R: (d_out, n); `keys` K: (d_in, n); `covariance` C: (d_in, d_in), symmetric; `weight` λ > 0.
    Of the two equal forms, the one with the smaller system is used: d_in × d_in,
    or n × n by K ᵀ(λC + KKᵀ)⁻¹ = (λI + KᵀC⁻¹K)⁻¹ KᵀC⁻¹. A column of R that is zero is a constraint: that key's
    output stays where it is, as far as λC allows.

    `examine` also finds out how well posed the system was, which changes no bit of Δ.

    Raises EditError when the system is not positive definite (too little text behind C), and NotFinite.
    """
    R, K, C = residual.double(), keys.double(), covariance.double()
    n, d_in = K.shape[1], K.shape[0]
    if n == 0:
        return Solution(torch.zeros(R.shape[0], d_in, dtype=torch.float64, device=R.device), 0.0)
    if n >= d_in:
        system = weight * C + K @ K.T
        factor = cholesky(system, "λC + KKᵀ")
        worst = condition(system, factor) if examine else 0.0
        del system
        solved: Tensor = torch.cholesky_solve(K, factor)  # (d_in, n)
        delta: Tensor = R @ solved.T
        found = Conditioning(worst, remainder(delta, R, K, C, weight)) if examine else None
        return Solution(delta, float((K * solved).sum()), found)
    factor = cholesky(C, "C")
    worst = condition(C, factor) if examine else 0.0
    C_inv_K: Tensor = torch.cholesky_solve(K, factor)  # (d_in, n)
    small = K.T @ C_inv_K
    small.diagonal().add_(weight)
    inner = (small + small.T) / 2
    factor = cholesky(inner, "λI + KᵀC⁻¹K")
    inverse = torch.cholesky_inverse(factor)
    delta = torch.linalg.multi_dot([R, inverse, C_inv_K.T])
    found = None
    if examine:  # two systems are solved, one after the other; the worse one counts
        found = Conditioning(max(worst, condition(inner, factor)), remainder(delta, R, K, C, weight))
    # tr Kᵀ(λC + KKᵀ)⁻¹K = tr M(λI + M)⁻¹ = n − λ tr (λI + M)⁻¹ with M = KᵀC⁻¹K
    return Solution(delta, n - weight * float(inverse.diagonal().sum()), found)


def cholesky(matrix: Tensor, name: str) -> Tensor:
    """The lower factor. A pivot lost in rounding is as bad as a negative one: what is divided by it is noise."""
    if not bool(matrix.isfinite().all()):
        raise NotFinite(f"{name} is not finite; a z or a weight of the model must be broken")
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    size = matrix.shape[0]
    noise = size * torch.finfo(matrix.dtype).eps * matrix.diagonal()
    if int(info) != 0 or not bool((factor.diagonal().square() > noise).all()):
        raise EditError(
            f"{name} is not positive definite ({size} × {size}); "
            "give the covariance more tokens (covariance.tokens, at least the size of a key)"
        )
    return factor
