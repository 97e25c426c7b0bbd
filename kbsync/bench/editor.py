"""`kbsync bench editor`: seconds per solved z and per rebuilt fact, and the quality that they buy.

The edits are the real changes that ship with the demo. Seconds are this machine's; what carries over to another
one are the ratios between the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.bench import trial
from kbsync.bench.edits import real_changes
from kbsync.bench.machine import machine
from kbsync.facts import EditRequest, Phase
from kbsync.sync.workbench import Workbench


@dataclass(frozen=True, slots=True)
class EditorBench:
    """One measurement. Times in seconds; `quality` maps metric names to values on the candidate."""

    edits: int
    solve_s: float
    steps: float
    rebuild_s: float
    repair_s: float
    misses: tuple[int, ...]
    quality: dict[str, float]
    machine: dict[str, Any]

    @property
    def solve_per_edit(self) -> float:
        """Seconds of z solving per edit, all included."""
        return self.solve_s / self.edits

    @property
    def rebuild_per_fact(self) -> float:
        """Seconds of the rebuild per live fact, repair included."""
        return (self.rebuild_s + self.repair_s) / self.edits

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, with the figures per edit beside the sums."""
        return {
            "edits": self.edits,
            "solve_s_per_edit": round(self.solve_per_edit, 4),
            "rebuild_s_per_fact": round(self.rebuild_per_fact, 4),
            "solve_s": round(self.solve_s, 3),
            "rebuild_s": round(self.rebuild_s, 3),
            "repair_s": round(self.repair_s, 3),
            "mean_steps": round(self.steps, 2),
            "misses": list(self.misses),
            "quality": {name: round(value, 4) for name, value in self.quality.items()},
            "machine": self.machine,
        }


def bench_editor(bench: Workbench, edits: int) -> EditorBench:
    """Solve, rebuild and evaluate `edits` real changes; none of it is stored but the sentences behind C."""
    requests = real_changes(bench.catalogue, edits)
    solved = trial.solve(bench, requests)
    rebuilt = trial.rebuild(bench, requests, solved.targets)
    with bench.progress.stage("evaluate"):
        quality = _quality(bench, requests)
    bench.editor.restore()
    return EditorBench(
        edits=len(requests),
        solve_s=solved.seconds,
        steps=solved.mean_steps,
        rebuild_s=rebuilt.seconds["solve"],
        repair_s=rebuilt.seconds["repair"],
        misses=rebuilt.misses,
        quality=quality,
        machine=machine(bench),
    )


def _quality(bench: Workbench, requests: Sequence[EditRequest]) -> dict[str, float]:
    """The candidate's metrics; the model must hold the candidate."""
    from kbsync.evaluate.drift import text_perplexity
    from kbsync.evaluate.metrics import summarise
    from kbsync.evaluate.probes import ask

    base = bench.base
    contrasts = {request.content_hash: request.target_old for request in requests}
    found = ask(base.model, base.encoder, requests, contrasts, Phase.AFTER)
    quality = {metric.name: metric.value for metric in summarise(found)}
    after = text_perplexity(base.model, base.encoder, bench.settings.evaluate)
    bench.editor.restore()
    quality["perplexity_ratio"] = after / bench.base_perplexity()
    return quality
