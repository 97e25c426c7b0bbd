"""Which of several settings of the editor is best: what each came to on the same edits, and the rule.

Success and accuracy are worth nothing where text and neighbors suffer, so a point must first keep within limits
that are tighter than the gate's; among those that do, the one that teaches most wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.settings import GateSettings

_ROUNDING = 1e-9  # differences below this are those of the arithmetic


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a point may go; None where the gate does not check."""

    neighborhood_drop: float | None
    perplexity_ratio: float | None

    @classmethod
    def within(cls, gate: GateSettings) -> Limits:
        """Half of what the gate leaves: a live set will be larger than the trial, and cost more."""
        drop, ratio = gate.max_neighborhood_drop, gate.max_perplexity_ratio
        return cls(
            drop / 2 if drop is not None else None,
            min(ratio, 1 + (ratio - 1) / 2) if ratio is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Point:
    """Settings, and what one rebuild with them came to. Shares are of prompts; None was not measured.

    `neighborhood_drop` is the base model's neighborhood success minus the candidate's. `fault` tells why there is
    no candidate; its perplexity is then infinite.
    """

    layers: tuple[int, ...]
    clamp: float
    covariance_weight: float
    efficacy_success: float = 0.0
    efficacy_accuracy: float = 0.0
    paraphrase_success: float | None = None
    neighborhood_drop: float | None = None
    perplexity_ratio: float = math.inf
    fault: str | None = None

    @property
    def gain(self) -> float:
        """The mean of efficacy accuracy and paraphrase success."""
        if self.paraphrase_success is None:
            return self.efficacy_accuracy
        return (self.efficacy_accuracy + self.paraphrase_success) / 2

    def excess(self, limits: Limits) -> float:
        """By how much it breaks its limits, summed; 0 when it is allowed."""
        return sum(self._over(limits).values())

    def breaks(self, limits: Limits) -> str | None:
        """Why it is not allowed, or None when it is."""
        if self.fault is not None:
            return self.fault
        return " and ".join(self._over(limits)) or None

    def _over(self, limits: Limits) -> dict[str, float]:
        measured = [
            ("neighborhood", self.neighborhood_drop, limits.neighborhood_drop),
            ("perplexity", self.perplexity_ratio, limits.perplexity_ratio),
        ]
        over = {}
        for name, value, limit in measured:
            broken = math.inf if value is not None and math.isnan(value) else value
            if self.fault is not None:
                over[name] = math.inf
            elif broken is not None and limit is not None and broken > limit + _ROUNDING:
                over[name] = broken - limit
        return over

    def as_json(self, limits: Limits) -> dict[str, Any]:
        """Plain JSON, with the gain and why it is not allowed."""
        figures = {
            "efficacy_success": self.efficacy_success,
            "efficacy_accuracy": self.efficacy_accuracy,
            "paraphrase_success": self.paraphrase_success,
            "gain": self.gain,
            "neighborhood_drop": self.neighborhood_drop,
            "perplexity_ratio": self.perplexity_ratio,
        }
        return {
            "layers": list(self.layers),
            "clamp": self.clamp,
            "covariance_weight": self.covariance_weight,
            **{name: None if value is None else round(value, 4) for name, value in figures.items()},
            "breaks": self.breaks(limits),
        }


def choose(points: Sequence[Point], limits: Limits) -> Point:
    """The allowed point with the most gain; of equals, the one with the lowest perplexity.

    Where none is allowed, the one that breaks its limits least. `points` must not be empty.
    """

    def rank(point: Point) -> tuple[float, float, float]:
        return (point.excess(limits), -round(point.gain, 9), point.perplexity_ratio)

    return min(points, key=rank)
