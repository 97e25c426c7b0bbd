"""`kbsync bench capacity`: how many edits a model holds, as a curve over growing live sets, and where it ends.

Each live set has all edits of the one before. z are solved once, on the base model, and used at every size: they
do not depend on what else is edited. A law is fitted to the curve for each rule of the gate, and gives the largest
live set that still keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from kbsync.bench.asking import ask_base
from kbsync.bench.quality import Drawn, Measured, draw, measure
from kbsync.facts import Phase
from kbsync.settings import GateSettings
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    from kbsync.evaluate.capacity import Estimate
    from kbsync.evaluate.metrics import Metric


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest live set that keeps each rule, the rule that binds first before the others; `most` edits were
    measured at once."""

    rules: tuple[Estimate, ...]
    most: int

    @property
    def first(self) -> Estimate | None:
        """The rule that binds; None where nothing that was measured grows towards its limit."""
        return next((one for one in self.rules if math.isfinite(one.facts)), None)

    @property
    def max_live(self) -> int:
        """What to set `watch.max_live` to: the capacity, but no more than was measured, and at least 1."""
        return max(1, min(self.most, math.floor(self.first.facts) if self.first is not None else self.most))

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        first = self.first
        return {
            "facts": math.floor(first.facts) if first is not None else None,
            "low": first.low if first is not None else None,
            "high": first.high if first is not None else None,
            "rule": first.rule if first is not None else None,
            "max_live": self.max_live,
            "rules": [
                {
                    "rule": one.rule,
                    "facts": one.facts,
                    "low": one.low,
                    "high": one.high,
                    "holds_at": one.holds_at,
                    "breaks_at": one.breaks_at,
                    "limit": round(one.limit, 6),
                    "law": dict(zip(("floor", "scale", "power"), one.law, strict=True)),
                }
                for one in self.rules
            ],
        }


def sizes(most: int) -> list[int]:
    """50, 100, 200, 500, 1000, … below `most`, and `most` itself."""
    steps = []
    size, factors = 50, cycle((2, 2, 2.5))
    while size < most:
        steps.append(size)
        size = int(size * next(factors))
    return [*steps, most]


def bench_capacity(
    bench: Workbench,
    most: int,
    seed: int,
    at: Sequence[int] = (),
    ask: int | None = None,
    keep: Callable[[Drawn, Sequence[Measured]], None] | None = None,
) -> tuple[Drawn, Sequence[Measured]]:
    """Measure growing numbers of counterfactual edits, up to what is left of the first `most`.

    `at`: the sizes to measure, where not the usual ones; of those beyond what is left, all that is left takes the
    place. `ask`: at most so many edits are asked about, the first ones and so the same at every size; None means
    all. `keep` is called with the curve so far whenever a size is measured: the large ones take hours. Raises
    ConfigError when there are fewer edits.
    """
    drawn = draw(bench, most, seed)
    requests = drawn.kept.requests
    base = ask_base(bench, requests[:ask])
    left = len(requests)
    curve: list[Measured] = []
    for size in sorted({min(one, left) for one in at}) or sizes(left):
        bench.progress.note(f"{size} edits")
        part = requests[:size]
        curve.append(measure(bench, part, base.of(part), drawn.solved.targets))
        if keep is not None:
            keep(drawn, curve)
    return drawn, curve


def capacity(curve: Sequence[Measured], gate: GateSettings) -> Capacity:
    """Fit the curve: how many edits keep each rule of the gate. `curve` must not be empty."""
    from kbsync.evaluate import capacity as laws

    live_sets = [laws.Measured(one.edits, metrics_of(one)) for one in curve]
    return Capacity(tuple(laws.estimates(live_sets, gate)), max(one.edits for one in curve))


def metrics_of(measured: Measured) -> list[Metric]:
    """What a sync would have kept of the same live set."""
    from kbsync.evaluate.metrics import Metric

    found = [
        Metric(name, phase, share.value, share.count)
        for name, pair in measured.metrics.items()
        for phase, share in ((Phase.BEFORE, pair.before), (Phase.AFTER, pair.after))
        if share is not None
    ]
    before, after = measured.perplexity
    return [*found, Metric("perplexity", Phase.BEFORE, before, 1), Metric("perplexity", Phase.AFTER, after, 1)]
