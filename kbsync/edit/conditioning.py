"""How well posed the solve of a layer was: what rounding may have made of its update.

Nothing here shapes weights. A system whose condition number is κ loses about log₁₀ κ of float64's sixteen digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kbsync.edit.spectrum import condition_of

_ROUNDS = 20  # of power iteration: an order of magnitude is what is wanted
_ROWS = 8  # random combinations of the update's rows that stand for all of them
CONDITION, REMAINDER = 1e12, 1e-6  # beyond these, float64 leaves less than what bfloat16 or float32 can tell


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Of one layer's solve: `condition`, an estimate (from below) of the condition number of the matrix that is
    solved, the worse one where there are two; `residual`, an estimate of ‖Δ(λC + KKᵀ) − RKᵀ‖ / ‖RKᵀ‖."""

    condition: float
    residual: float

    @property
    def bad(self) -> bool:
        """Whether what float64 leaves of the update is in doubt: a number that is not finite is worst."""
        return not (self.condition <= CONDITION and self.residual <= REMAINDER)


def condition(matrix: Tensor, factor: Tensor) -> float:
    """The condition number of a positive definite (d, d) matrix, from below, with its lower Cholesky factor."""
    return condition_of(matrix, factor, _ROUNDS)


def remainder(delta: Tensor, residual: Tensor, keys: Tensor, covariance: Tensor, weight: float) -> float:
    """‖Δ(λC + KKᵀ) − RKᵀ‖ / ‖RKᵀ‖ in Frobenius's norm, of a few fixed random combinations of the rows: a product
    with all of Δ would take as long as the solve. `delta`: (d_out, d_in); `residual` R: (d_out, n); `keys` K:
    (d_in, n); `covariance` C: (d_in, d_in). 0 where nothing is asked for."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(_ROWS, delta.shape[0], dtype=torch.float64, generator=generator).to(delta.device)
    some = mix @ delta  # (8, d_in)
    asked = (mix @ residual) @ keys.T
    left = weight * (some @ covariance) + (some @ keys) @ keys.T - asked
    size = float(asked.norm())
    return float(left.norm()) / size if size else 0.0
