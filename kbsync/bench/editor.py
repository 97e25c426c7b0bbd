"""`kbsync bench editor`: seconds per solved z and per rebuilt fact, and the quality that they buy.

The edits are the real changes that ship with the demo. Seconds are this machine's; what carries over to another
one are the ratios between the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.bench import trial
from kbsync.bench.asking import ask
from kbsync.bench.edits import real_changes
from kbsync.bench.machine import machine
from kbsync.bench.serial import Serial, run_serial
from kbsync.facts import EditRequest, Phase
from kbsync.sync.workbench import Workbench

SERIAL_WEIGHT = 1000.0  # λ at which the serial method does best on the embedded model; the papers' is 15,000


@dataclass(frozen=True, slots=True)
class EditorBench:
    """One measurement. Times in seconds; `quality` maps metric names to values on the candidate.

    `serial` and `serial_quality`: the same edits by the serial method, where that was asked for.
    """

    edits: int
    solve_s: float
    steps: float
    rebuild_s: float
    repair_s: float
    misses: tuple[int, ...]
    quality: dict[str, float]
    machine: dict[str, Any]
    serial: Serial | None = None
    serial_quality: dict[str, float] | None = None

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
        beside: dict[str, Any] = {}
        if self.serial is not None and self.serial_quality is not None:
            ours = self.solve_per_edit + self.rebuild_per_fact
            beside["serial"] = {
                "s_per_edit": round(self.serial.per_edit, 4),
                "solve_s": round(self.serial.solve_s, 3),
                "update_s": round(self.serial.update_s, 3),
                "mean_steps": round(self.serial.steps, 2),
                "times_ours": round(self.serial.per_edit / ours, 2),
                "quality": {name: round(value, 4) for name, value in self.serial_quality.items()},
            }
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
            **beside,
        }


def bench_editor(bench: Workbench, edits: int, serial: bool = False) -> EditorBench:
    """Solve, rebuild and evaluate `edits` real changes; none of it is stored but the sentences behind C.

    `serial` edits the same changes with the serial method, too.
    """
    requests = real_changes(bench.catalogue, edits)
    solved = trial.solve(bench, requests)
    rebuilt = trial.rebuild(bench, requests, solved.targets)
    quality = _quality(bench, requests)
    beside, beside_quality = None, None
    if serial:
        with bench.progress.stage("serial"):
            beside = run_serial(bench.editor, requests, SERIAL_WEIGHT, bench.settings.edit.seed)
        beside_quality = _quality(bench, requests)
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
        serial=beside,
        serial_quality=beside_quality,
    )


def _quality(bench: Workbench, requests: Sequence[EditRequest]) -> dict[str, float]:
    """The candidate's metrics; the model must hold the candidate."""
    from kbsync.evaluate.drift import text_perplexity
    from kbsync.evaluate.metrics import summarise

    quality = {metric.name: metric.value for metric in summarise(ask(bench, requests, Phase.AFTER))}
    after = text_perplexity(bench.base.model, bench.base.encoder, bench.settings.evaluate)
    bench.editor.restore()
    quality["perplexity_ratio"] = after / bench.base_perplexity()
    return quality
