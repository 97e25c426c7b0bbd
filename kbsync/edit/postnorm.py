"""A norm behind the down-projection: which value makes the norm's output move by what is asked for.

Most models add the down-projection's output v to the hidden state as it is. Gemma 2 and 3, OLMo 2 and 3 and a few
more add f(v) = w ⊙ v / rms(v). Its outputs lie on an ellipsoid, so a residual can't be had exactly: what is had is
the nearest point, and what is missing is told, so that other layers can make up for it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HALVINGS = 80  # of the multiplier's interval, in float64: down to rounding


def into_norm(norm: nn.Module, values: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """How `values` must change so that the norm's outputs change by `residual`, and what can't be had of it.

    All are (d, n), one column per request. With v a column, the change v* - v has f(v*) nearest to f(v) + r among
    the outputs that f has, and rms(v*) = rms(v), since the output does not depend on it. A residual of zero gives
    zero. The second result is f(v) + r - f(v*). Both are float64.
    """
    reference = next(norm.parameters())
    rows = values.T.to(torch.promote_types(reference.dtype, torch.float32))  # (n, d)
    with torch.no_grad():
        now = norm(rows).double()
        weight = norm(torch.ones_like(rows[:1])).double()  # 1 + w in Gemma, w elsewhere
    v, wanted = values.T.double(), now + residual.T.double()
    rms = v.square().mean(-1, keepdim=True).sqrt()
    shape = weight * v / rms
    shrunk = now.norm(dim=-1, keepdim=True) / shape.norm(dim=-1, keepdim=True)  # the norm's ε, felt by small values
    axes = shrunk * weight  # (n, d), the ellipsoid's half axes over √d
    u = _nearest(axes, wanted)
    moved = (residual != 0).any(0)[:, None]
    change = torch.where(moved, rms * u - v, 0.0)
    missing = torch.where(moved, wanted - axes * u, 0.0)
    return change.T, missing.T


def _nearest(axes: Tensor, wanted: Tensor) -> Tensor:
    """u (n, d) with rms 1 for which axes ⊙ u is nearest to `wanted`.

    Outside the ellipsoid by the multiplier μ ≥ 0 of ‖axes ⊙ u - wanted‖² under ‖u‖² = d: u = axes ⊙ wanted /
    (axes² + μ), where ‖u‖ falls with μ. Inside, the nearest point would put everything into the coordinate
    that the norm hears least, so the direction of `wanted` is kept instead.
    """
    d = axes.shape[-1]
    direction = torch.where(axes != 0, wanted / axes, 0.0)
    radial = direction * (d**0.5 / direction.norm(dim=-1, keepdim=True))
    low = torch.zeros_like(wanted[:, :1])
    high = (axes * wanted).norm(dim=-1, keepdim=True) / d**0.5  # there ‖u‖² ≤ d
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        far = (axes * wanted / (axes.square() + middle)).norm(dim=-1, keepdim=True) > d**0.5
        low, high = torch.where(far, middle, low), torch.where(far, high, middle)
    outside = direction.norm(dim=-1, keepdim=True) >= d**0.5
    return torch.where(outside, axes * wanted / (axes.square() + high), radial)
