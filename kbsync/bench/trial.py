"""One trial: solve z for some edits, rebuild with them, and take the time of each part."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kbsync.facts import EditRequest
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from kbsync.edit.memit import Rebuilt


@dataclass(frozen=True, slots=True)
class Solved:
    """z by content hash, (d,) each; the seconds that solving took and the steps of each z."""

    targets: Mapping[str, Tensor]
    seconds: float
    steps: tuple[int, ...]

    @property
    def mean_steps(self) -> float:
        """Evaluations of the loss per z; 0 where none was solved."""
        return sum(self.steps) / len(self.steps) if self.steps else 0.0


def solve(bench: Workbench, requests: Sequence[EditRequest]) -> Solved:
    """z of every request, on the base model, in batches of like length as a sync makes them."""
    editor = bench.editor
    editor.restore()
    started = time.perf_counter()
    order = sorted(requests, key=editor.solver.place)
    solved = []
    with bench.progress.stage("solve", len(order), "edits") as task:
        for batch in editor.solver.cut(order):
            solved += editor.solver.solve(order[batch])
            task.advance(len(order[batch]))
    seconds = time.perf_counter() - started
    return Solved({t.content_hash: t.z for t in solved}, seconds, tuple(t.steps for t in solved))


def rebuild(bench: Workbench, requests: Sequence[EditRequest], targets: Mapping[str, Tensor]) -> Rebuilt:
    """The candidate with `requests` in it, which the model holds afterwards."""
    with bench.progress.stage("rebuild") as task:
        return bench.editor.rebuild(
            requests, {r.content_hash: targets[r.content_hash] for r in requests}, task.describe
        )
