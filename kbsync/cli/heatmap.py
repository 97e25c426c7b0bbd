"""Heat maps of average indirect effects as a PNG picture: one panel per kind of state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kbsync.cli.png import Canvas

if TYPE_CHECKING:
    from torch import Tensor

    from kbsync.sync.tracing import Tracing

Colour = tuple[int, int, int]

_LOW: Colour = (255, 255, 255)
_HIGH: dict[bool, Colour] = {True: (20, 70, 140), False: (150, 70, 20)}  # blue for gains, brown for losses
_NONE: Colour = (225, 225, 225)
_INK: Colour = (30, 30, 30)
_CELL = 18
_LEFT, _TOP, _BELOW, _MARGIN = 280, 30, 54, 16
_SCALE = 120  # columns of the bar that explains the colours


def peak(effects: Tensor) -> float:
    """The highest effect of a panel (roles, layers), at which its colour is strongest."""
    known = effects[~effects.isnan()]
    return float(known.max())


def colour(value: float, top: float) -> Colour:
    """White for no effect, dark blue for `top`; brown where restoring took probability away, on the same scale."""
    share = min(1.0, abs(value) / top) if top > 0 else 0.0
    red, green, blue = (
        round(low + share * (high - low)) for low, high in zip(_LOW, _HIGH[value >= 0], strict=True)
    )
    return red, green, blue


def draw(found: Tracing) -> bytes:
    """A PNG: panels below one another, token roles from top to bottom, layers from left to right.

    Under each panel stand the layers' numbers and the effect of the darkest colour. Cells for which no fact has a
    token are grey. A line under the MLP panel marks the proposed layers.
    """
    from kbsync.cli.trace import title_of
    from kbsync.edit.effects import ROLES
    from kbsync.edit.trace import KINDS

    kinds, roles, layers = found.effects.mean.shape
    height = _TOP + roles * _CELL + _BELOW
    titles = [title_of(kind, found.window) for kind in KINDS]
    width = _LEFT + max(layers * _CELL, *map(Canvas.width_of, titles)) + _MARGIN
    canvas = Canvas(width, kinds * height + _MARGIN)
    for number, kind in enumerate(KINDS):
        at = number * height
        canvas.text(_LEFT, at + 12, titles[number], _INK)
        _cells(canvas, at + _TOP, found.effects.mean[number], ROLES)
        below = at + _TOP + roles * _CELL
        for layer in range(0, layers, 5):
            canvas.text(_LEFT + layer * _CELL + 3, below + 6, str(layer), _INK)
        if kind == "mlp":
            first, last = found.proposal[0], found.proposal[-1] + 1
            canvas.box(_LEFT + first * _CELL, below + 1, (last - first) * _CELL, 3, _INK)
        _explain(canvas, below + 24, peak(found.effects.mean[number]))
    return canvas.png()


def _cells(canvas: Canvas, top: int, effects: Tensor, roles: tuple[str, ...]) -> None:
    strongest = peak(effects)
    for row, (name, values) in enumerate(zip(roles, effects.tolist(), strict=True)):
        y = top + row * _CELL
        canvas.text(_LEFT - 10 - canvas.width_of(name), y + 4, name, _INK)
        for layer, value in enumerate(values):
            fill = _NONE if math.isnan(value) else colour(value, strongest)
            canvas.box(_LEFT + layer * _CELL, y, _CELL - 1, _CELL - 1, fill)


def _explain(canvas: Canvas, y: int, top: float) -> None:
    """The colours from no effect to the strongest."""
    for step in range(_SCALE):
        canvas.box(_LEFT + step, y, 1, 10, colour(top * step / (_SCALE - 1), top))
    canvas.text(_LEFT - 10 - canvas.width_of("effect from 0"), y, "effect from 0", _INK)
    canvas.text(_LEFT + _SCALE + 8, y, f"to {top:.4f}", _INK)
