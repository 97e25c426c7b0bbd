"""`kbsync bench capacity`: how many edits a model holds, as a curve over growing live sets.

Each live set has all edits of the one before. z are solved once, on the base model, and used at every size: they
do not depend on what else is edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from kbsync.bench.asking import ask_base
from kbsync.bench.quality import Drawn, Measured, draw, measure
from kbsync.sync.workbench import Workbench


def sizes(most: int) -> list[int]:
    """50, 100, 200, 500, 1000, … below `most`, and `most` itself."""
    steps = []
    size, factors = 50, cycle((2, 2, 2.5))
    while size < most:
        steps.append(size)
        size = int(size * next(factors))
    return [*steps, most]


def bench_capacity(bench: Workbench, most: int, seed: int) -> tuple[Drawn, Sequence[Measured]]:
    """Measure growing numbers of counterfactual edits, up to what is left of the first `most`.

    Raises ConfigError when there are fewer.
    """
    drawn = draw(bench, most, seed)
    requests = drawn.kept.requests
    base = ask_base(bench, requests)
    curve = []
    for size in sizes(len(requests)):
        bench.progress.note(f"{size} edits")
        part = requests[:size]
        curve.append(measure(bench, part, base.of(part), drawn.solved.targets))
    return drawn, curve
