"""The capacity curve as a PNG: a panel for each rule of the gate, live sets from left to right on a log scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.cli.png import Canvas, Colour

_INK: Colour = (30, 30, 30)
_MEASURED: Colour = (20, 70, 140)
_LAW: Colour = (150, 170, 210)
_LIMIT: Colour = (170, 60, 30)
_FAR = 3.0  # times the cost that a rule allows: as far as its panel reaches
_COSTS = ("perplexity_ratio", "neighborhood_drop")  # figures that grow with the live set
_WIDTH, _HEIGHT = 560, 170
_LEFT, _TOP, _BELOW, _RIGHT = 110, 40, 40, 60

PANELS = {
    "perplexity_ratio": "perplexity ratio",
    "efficacy_success": "efficacy success",
    "efficacy_accuracy": "efficacy accuracy",
    "paraphrase_success": "paraphrase success",
    "neighborhood_drop": "neighborhood drop",
}


def draw(result: Mapping[str, Any]) -> bytes:
    """A PNG of `kbsync bench capacity`'s JSON: what was measured (dark), the law fitted to it (light), the gate's
    limit (brown, across), and how many edits keep the rule (brown, upright). What lies far beyond the limit is
    drawn at the panel's edge; panels without a figure are left out.
    """
    curve: Sequence[Mapping[str, Any]] = result["curve"]
    rules = {one["rule"]: one for one in result["capacity"]["rules"]}
    panels = {rule: points for rule in PANELS if (points := measured(curve, rule))}
    height = _TOP + _HEIGHT + _BELOW
    canvas = Canvas(_LEFT + _WIDTH + _RIGHT, max(1, len(panels)) * height)
    for number, (rule, points) in enumerate(panels.items()):
        _Panel(canvas, number * height + _TOP, points, rules.get(rule)).draw(PANELS[rule], rule)
    return canvas.png()


def measured(curve: Sequence[Mapping[str, Any]], rule: str) -> list[tuple[int, float]]:
    """(edits, figure) of a rule at each size that has one."""
    found = []
    for one in curve:
        if rule == "perplexity_ratio":
            found.append((one["edits"], one["perplexity"]["ratio"]))
        elif rule == "neighborhood_drop":
            pair = one["metrics"].get("neighborhood_success", {})
            if "before" in pair and "after" in pair:
                found.append((one["edits"], pair["before"]["value"] - pair["after"]["value"]))
        elif "after" in one["metrics"].get(rule, {}):
            found.append((one["edits"], one["metrics"][rule]["after"]["value"]))
    return [(edits, value) for edits, value in found if math.isfinite(value)]


def figure(rule: str, cost: float) -> float:
    """The gate's figure that a cost stands for."""
    if rule == "perplexity_ratio":
        return math.exp(min(cost, 50.0))
    return cost if rule == "neighborhood_drop" else 1 - cost


class _Panel:
    """One rule: where its points, its law and its limit lie."""

    def __init__(
        self, canvas: Canvas, top: int, points: Sequence[tuple[int, float]], fitted: Mapping[str, Any] | None
    ) -> None:
        self.canvas, self.top, self.points, self.fitted = canvas, top, points, fitted
        self.first, self.last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def draw(self, title: str, rule: str) -> None:
        """The whole panel."""
        limit = figure(rule, self.fitted["limit"]) if self.fitted else None
        values = [value for _, value in self.points] + ([limit] if limit is not None else [])
        self.low, self.high = min(values), max(values)
        if self.fitted is not None:  # what is far beyond the limit would leave it no room
            far = figure(rule, _FAR * self.fitted["limit"])
            self.low, self.high = (
                (self.low, min(self.high, far)) if rule in _COSTS else (max(self.low, far), self.high)
            )
        if self.high - self.low < 1e-9:
            self.low, self.high = self.low - 0.01, self.high + 0.01
        self._frame(title)
        if self.fitted is not None and limit is not None:
            self._law(rule)
            self.canvas.box(_LEFT, self._y(limit), _WIDTH, 1, _LIMIT)
            facts = self.fitted["facts"]
            if self.first <= facts <= self.last:
                self.canvas.box(self._x(facts), self.top, 1, _HEIGHT, _LIMIT)
        for one, other in zip(self.points, self.points[1:], strict=False):
            self._line(one, other)
        for edits, value in self.points:
            self.canvas.box(self._x(edits) - 3, self._y(value) - 3, 7, 7, _MEASURED)

    def _frame(self, title: str) -> None:
        fits = "" if self.fitted is None else _fits(self.fitted["facts"])
        self.canvas.text(_LEFT, self.top - 24, f"{title}{fits}", _INK)
        self.canvas.box(_LEFT, self.top, 1, _HEIGHT, _INK)
        self.canvas.box(_LEFT, self.top + _HEIGHT, _WIDTH, 1, _INK)
        for value in (self.low, self.high):
            words = f"{value:.3f}"
            self.canvas.text(_LEFT - 12 - Canvas.width_of(words), self._y(value) - 4, words, _INK)
        for edits, _ in self.points:
            self.canvas.box(self._x(edits), self.top + _HEIGHT, 1, 5, _INK)
            self.canvas.text(self._x(edits) - 8, self.top + _HEIGHT + 10, str(edits), _INK)

    def _law(self, rule: str) -> None:
        assert self.fitted is not None
        law = self.fitted["law"]
        for x in range(_LEFT, _LEFT + _WIDTH, 2):
            facts = self.first * (self.last / self.first) ** ((x - _LEFT) / _WIDTH)
            value = figure(rule, law["floor"] + law["scale"] * facts ** law["power"])
            if self.low <= value <= self.high:
                self.canvas.box(x, self._y(value), 2, 2, _LAW)

    def _line(self, one: tuple[int, float], other: tuple[int, float]) -> None:
        (x, y), (to_x, to_y) = ((self._x(n), self._y(value)) for n, value in (one, other))
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        for step in range(steps + 1):
            at = step / steps
            self.canvas.box(round(x + at * (to_x - x)), round(y + at * (to_y - y)), 1, 1, _MEASURED)

    def _x(self, edits: float) -> int:
        return _LEFT + round(_WIDTH * math.log(edits / self.first) / math.log(self.last / self.first))

    def _y(self, value: float) -> int:
        value = min(max(value, self.low), self.high)
        return self.top + round(_HEIGHT * (self.high - value) / (self.high - self.low))


def _fits(facts: float) -> str:
    return ", holds at any size" if math.isinf(facts) else f", holds up to {math.floor(facts)}"
