"""Many small minimisations side by side: L-BFGS within a trust radius, every row by itself.

One evaluation of the loss costs a forward and a backward pass through most of a model, so what counts is how few
are needed. Quasi-Newton steps (Nocedal & Wright, Numerical Optimization, 2nd ed., algorithms 7.4 and 4.1) need
about half of Adam's and no learning rate: all lengths are relative to the row's own scale.

The metric is not Euclidean. In plain coordinates the shortest way runs along the few steepest directions of the
residual stream, and a z found there breaks as soon as the edited weights miss it by a little. Coordinates are
therefore weighted as Adagrad does, by the size of the gradients seen, which spreads δ over all of them.

Spread out so, a point soon lies as far out as it may, whether it needs to or not. So rows begin with half of the
room that their limit gives them, and get a little more with each evaluation that they spend at its end.
"""

from __future__ import annotations

import torch
from torch import Tensor

_HISTORY = 8  # pairs of step and change of gradient that are remembered
_FIRST, _LARGEST = 0.3, 0.4  # trust radius at the start and at most, as shares of the scale
_GROW, _SHRINK = 1.5, 0.4  # what it is multiplied by after a good step, and after one that was refused
_GOOD = 0.25  # a step is good when the loss falls by this share of what the gradient promised
# A pair is remembered when its curvature is above this share of its lengths. What is less is mostly noise, which it
# is divided by: a rounding of 1e-6 came out as 3e-5 of the next point.
_CURVED = 0.1
_ROOM, _WIDER = 0.5, 1.05  # share of the limit that a row has at first, and what it gets more when it is at its end
_AT_END = 0.98  # a row is there when its length is this share of its room
_FLOOR = 1e-3  # least weight of a coordinate, as a share of the mean
_TINY = 1e-20


class Descent:
    """`point` says where to evaluate next, `tell` takes value and gradient there, `keep` drops rows that are done.

    Rows are (B, d), start at zero, and stay within ‖x‖ ≤ `limit` (B,). `scale` (B,) is the length that the
    trust radius is measured in.
    """

    def __init__(self, scale: Tensor, limit: Tensor, dim: int) -> None:
        rows = len(scale)
        self._limit, self._room = limit, _ROOM * limit
        self._most = _LARGEST * scale
        self._radius = _FIRST * scale
        self._x = torch.zeros(rows, dim, device=scale.device)
        self._value: Tensor | None = None
        self._gradient = torch.zeros_like(self._x)
        self._seen = torch.zeros_like(self._x)  # Σ g², per coordinate
        self._steps = torch.zeros(rows, _HISTORY, dim, device=scale.device)  # the newest pair is the last one
        self._changes = torch.zeros_like(self._steps)
        self._inverse = torch.zeros(rows, _HISTORY, device=scale.device)  # 1 / sᵀy; 0: no pair yet
        self.point = self._x

    @property
    def best(self) -> Tensor:
        """The point with the least value so far, of each row."""
        return self._x

    def tell(self, value: Tensor, gradient: Tensor) -> Tensor:
        """Take the value (B,) and gradient (B, d) at `point`; returns which rows (B,) moved there.

        A row whose value did not fall, or is not finite, stays where it was and will take a shorter step.
        """
        if self._value is None:
            moved = torch.ones_like(value, dtype=torch.bool)
            self._seen = gradient**2
            self._value, self._gradient = value, gradient
        else:
            moved = value < self._value
            self._learn(value, gradient, moved)
            self._x = torch.where(moved[:, None], self.point, self._x)
            self._gradient = torch.where(moved[:, None], gradient, self._gradient)
            self._value = torch.where(moved, value, self._value)
        at_end = self._x.norm(dim=-1) > _AT_END * self._room
        self._room = torch.where(at_end, (self._room * _WIDER).minimum(self._limit), self._room)
        self.point = self._next()
        return moved

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        for name, tensor in vars(self).items():
            setattr(self, name, tensor[rows])

    def _learn(self, value: Tensor, gradient: Tensor, moved: Tensor) -> None:
        """Remember the pair where it has positive curvature, and set the trust radius."""
        assert self._value is not None
        step, change = self.point - self._x, gradient - self._gradient
        curvature = (step * change).sum(-1)
        length = step.norm(dim=-1)
        curved = curvature > _CURVED * length * change.norm(dim=-1)
        at = curved[:, None, None]
        self._steps = torch.where(at, torch.cat([self._steps[:, 1:], step[:, None]], 1), self._steps)
        self._changes = torch.where(at, torch.cat([self._changes[:, 1:], change[:, None]], 1), self._changes)
        inverse = (1 / curvature.clamp_min(_TINY))[:, None]
        self._inverse = torch.where(curved[:, None], torch.cat([self._inverse[:, 1:], inverse], 1), self._inverse)
        self._seen = self._seen + torch.where(gradient.isfinite(), gradient, 0) ** 2
        promised = -(self._gradient * step).sum(-1)
        good = moved & (self._value - value > _GOOD * promised)
        grown = (self._radius * _GROW).minimum(self._most)
        self._radius = torch.where(good, grown, torch.where(moved, self._radius, length * _SHRINK))

    def _next(self) -> Tensor:
        """The quasi-Newton step from the best point, cut to the trust radius and the room that there is."""
        root = self._seen.sqrt()
        floor = _FLOOR * self._seen.mean(-1, keepdim=True).sqrt()
        weight = 1 / (root + floor).clamp_min(_TINY)
        q = self._gradient
        shares = []
        for i in reversed(range(_HISTORY)):
            share = self._inverse[:, i] * (self._steps[:, i] * q).sum(-1)
            q = q - share[:, None] * self._changes[:, i]
            shares.append(share)
        q = weight * q
        last_step, last_change = self._steps[:, -1], self._changes[:, -1]
        size = (last_step * last_change).sum(-1) / (last_change**2 * weight).sum(-1).clamp_min(_TINY)
        first = self._radius / q.norm(dim=-1).clamp_min(_TINY)  # without a pair: as far as the radius goes
        q = q * torch.where(self._inverse[:, -1] > 0, size, first)[:, None]
        for i, share in enumerate(reversed(shares)):
            back = self._inverse[:, i] * (self._changes[:, i] * q).sum(-1)
            q = q + (share - back)[:, None] * self._steps[:, i]
        return _within(self._x - _within(q, self._radius), self._room)


def _within(x: Tensor, limit: Tensor) -> Tensor:
    """Rows longer than their limit, cut to it."""
    share: Tensor = (limit / x.norm(dim=-1).clamp_min(_TINY)).clamp_max(1.0)
    return x * share[:, None]
