"""How much room a model has left: what a run found of it, in numbers, in words and as metrics.

No torch here: those who only look at the ledger ask the same questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbsync.evaluate.metrics import Metric, value_of
from kbsync.facts import Phase

if TYPE_CHECKING:
    from kbsync.evaluate.capacity import Estimate
    from kbsync.evaluate.gate import Verdict

NEARLY_FULL = 0.8  # share of the estimate from which on there is a warning
MARGIN = 0.95  # share of the estimate that is kept of a live set that was too large
FEW = 10  # so few missed edits say nothing about repair
CAPACITY, KEEPS, LEFT = "capacity", "keeps", "repair_left"


@dataclass(frozen=True, slots=True)
class Room:
    """What a live set of `facts` facts leaves of the model.

    `capacity`: about how many facts fit before `rule` breaks, with its 95 % interval from `low` to `high`; None
    where that can't be told yet. `missed` edits were missed after the solve and `left` of these after repair.
    `keeps`: the gate refused since the model is full, and so many facts would fit.
    """

    facts: int
    capacity: float | None = None
    low: float = 0.0
    high: float = math.inf
    rule: str | None = None
    missed: int = 0
    left: int = 0
    keeps: int | None = None

    @property
    def headroom(self) -> float | None:
        """How many more facts fit; below 0 how many are too many; None where it can't be told."""
        return None if self.capacity is None else math.floor(self.capacity) - self.facts

    @property
    def nearly_full(self) -> bool:
        """Whether the live set takes more than its share of what fits."""
        return self.capacity is not None and self.facts > NEARLY_FULL * self.capacity

    @property
    def repair_fails(self) -> bool:
        """Whether repair leaves more than half of what the solve missed."""
        return self.missed > FEW and 2 * self.left > self.missed

    def as_data(self) -> dict[str, Any]:
        """The room for programs, with what follows from its numbers."""
        return {
            "facts": self.facts,
            "capacity": self.capacity,
            "low": self.low,
            "high": self.high,
            "rule": self.rule,
            "headroom": self.headroom,
            "keeps": self.keeps,
            "warnings": self.warnings(),
        }

    def warnings(self) -> list[str]:
        """What the user should know before the gate refuses."""
        found = []
        if self.nearly_full:
            full = "full" if (self.headroom or 0) < 0 else "nearly full"
            found.append(f"the model is {full}: {self.words()}")
        if self.repair_fails:
            found.append(
                f"repair does little: of {self.missed} edits that the solve missed, {self.left} are missed after "
                "it, as happens when a model fills up"
            )
        return found

    def advice(self, when_full: str) -> str | None:
        """What a refusal says when the model is full, and what comes next; None when it is not."""
        if self.keeps is None:
            return None
        fit = f"the model is full: about {self.keeps} of these {self.facts} facts fit"
        if when_full == "hold":
            return f"{fit}, and the next sync holds back the others, those of least priority (watch.priority)"
        return f"{fit}; set watch.max_live to {self.keeps}, watch less, or take a bigger model"

    def words(self) -> str:
        """`73 facts of about 136 that fit (120 to 180; perplexity_ratio binds)`."""
        if self.capacity is None:
            return f"{self.facts} facts; how many fit can't be told yet"
        ends = " to ".join("any number" if math.isinf(n) else f"{math.floor(n)}" for n in (self.low, self.high))
        return f"{self.facts} facts of about {math.floor(self.capacity)} that fit ({ends}; {self.rule} binds)"

    def metrics(self) -> list[Metric]:
        """The room as metrics, over the facts of the live set (`repair_left`: over the missed edits)."""
        numbers: dict[str, float] = {}
        if self.capacity is not None:
            numbers = {CAPACITY: self.capacity, f"{CAPACITY}_low": self.low}
            numbers |= {f"{CAPACITY}_high": self.high} if math.isfinite(self.high) else {}
            numbers |= {f"{CAPACITY}_by_{self.rule}": self.capacity}
        if self.keeps is not None:
            numbers[KEEPS] = self.keeps
        found = [Metric(name, Phase.AFTER, value, self.facts) for name, value in numbers.items()]
        if self.missed:
            found.append(Metric(LEFT, Phase.AFTER, self.left / self.missed, self.missed))
        return found


def room_of(facts: int, metrics: Sequence[Metric]) -> Room:
    """The room that a run's metrics tell of."""
    by = f"{CAPACITY}_by_"
    rule = next((one.name.removeprefix(by) for one in metrics if one.name.startswith(by)), None)
    repaired = next((one for one in metrics if one.name == LEFT), None)
    high, keeps = value_of(metrics, f"{CAPACITY}_high"), value_of(metrics, KEEPS)
    return Room(
        facts=facts,
        capacity=value_of(metrics, CAPACITY),
        low=value_of(metrics, f"{CAPACITY}_low") or 0.0,
        high=math.inf if high is None else high,
        rule=rule,
        missed=repaired.count if repaired is not None else 0,
        left=round(repaired.value * repaired.count) if repaired is not None else 0,
        keeps=None if keeps is None else round(keeps),
    )


def look(facts: int, estimates: Sequence[Estimate], verdicts: Sequence[Verdict], misses: Sequence[int]) -> Room:
    """What this run tells about the room: the rule that binds first, and whether the model is full.

    It is full when the gate refuses by a rule whose law says that fewer facts would keep it, but some. `estimates`
    must have been made with this live set among those that were measured.
    """
    finite = [one for one in estimates if math.isfinite(one.facts)]
    first = min(finite, key=lambda one: (one.facts, one.rule), default=None)
    missed, left = (misses[0], misses[-1]) if misses else (0, 0)
    keeps = _keeps(facts, finite, {verdict.metric for verdict in verdicts if not verdict.passed})
    if first is None:
        return Room(facts, missed=missed, left=left, keeps=keeps)
    return Room(facts, first.facts, first.low, first.high, first.rule, missed, left, keeps)


def _keeps(facts: int, estimates: Sequence[Estimate], broken: set[str]) -> int | None:
    """The most facts that would keep all broken rules that have a law; None where that is no way out."""
    kept = [
        max(math.floor(MARGIN * one.facts), one.holds_at if one.holds_at and one.holds_at < facts else 0)
        for one in estimates
        if one.rule in broken and one.facts < facts
    ]
    return min(kept) if kept and min(kept) >= 1 else None
