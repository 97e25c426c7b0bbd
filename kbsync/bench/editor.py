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
from kbsync.bench.edits import real_changes, sentences
from kbsync.bench.machine import machine
from kbsync.bench.serial import Serial, run_serial
from kbsync.errors import ConfigError
from kbsync.facts import EditRequest, Phase
from kbsync.sync.workbench import Workbench

SERIAL_WEIGHT = 1000.0  # λ at which the serial method does best on the embedded model; the papers' is 15,000


@dataclass(frozen=True, slots=True)
class EditorBench:
    """One measurement. Times in seconds; `quality` maps metric names to values on the candidate.

    `serial`: some of the same edits by the serial method, where that was asked for; `serial_quality` its metrics on
    them, and `sample_quality` ours on the same ones, put in among all others.
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
    sample_quality: dict[str, float] | None = None

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
        if self.serial is not None and self.serial_quality is not None and self.sample_quality is not None:
            ours = self.solve_per_edit + self.rebuild_per_fact
            beside["serial"] = {
                "edits": self.serial.edits,
                "s_per_edit": round(self.serial.per_edit, 4),
                "solve_s": round(self.serial.solve_s, 3),
                "update_s": round(self.serial.update_s, 3),
                "mean_steps": round(self.serial.steps, 2),
                "times_ours": round(self.serial.per_edit / ours, 2),
                "quality": {name: round(value, 4) for name, value in self.serial_quality.items()},
                "ours": {name: round(value, 4) for name, value in self.sample_quality.items()},
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


def bench_editor(bench: Workbench, edits: int, serial: int = 0) -> EditorBench:
    """Solve, rebuild and evaluate `edits` real changes; none of it is stored.

    `serial` of them, spread evenly, are edited with the serial method, too: what it takes per edit does not depend
    on how many there are. Raises ConfigError when that is more than there are edits.
    """
    if serial > edits:
        raise ConfigError(f"{serial} edits can't be some of {edits}; ask for fewer one by one")
    bench.sentences = sentences(bench.catalogue, real=True)
    requests = real_changes(bench.catalogue, edits)
    sample = [requests[i * edits // serial] for i in range(serial)]
    solved = trial.solve(bench, requests)
    bench.base_perplexity()  # while the model holds the base weights
    rebuilt = trial.rebuild(bench, requests, solved.targets)
    quality = _quality(bench, requests)
    beside, beside_quality, ours = None, None, None
    if sample:
        ours = _quality(bench, sample)
        bench.editor.restore()
        with bench.progress.stage("serial"):
            beside = run_serial(bench.editor, sample, SERIAL_WEIGHT, bench.settings.edit.seed)
        beside_quality = _quality(bench, sample)
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
        sample_quality=ours,
    )


def _quality(bench: Workbench, requests: Sequence[EditRequest]) -> dict[str, float]:
    """The metrics of the model as it is now."""
    from kbsync.evaluate.drift import text_perplexity
    from kbsync.evaluate.metrics import summarise

    quality = {metric.name: metric.value for metric in summarise(ask(bench, requests, Phase.AFTER))}
    after = text_perplexity(bench.base.model, bench.base.encoder, bench.settings.evaluate)
    quality["perplexity_ratio"] = after / bench.base_perplexity()
    return quality
