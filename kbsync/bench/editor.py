"""`kbsync bench editor`: seconds per solved z and per rebuilt fact, and the quality that they buy.

The edits are the real changes that ship with the demo. Seconds are this machine's; what carries over to another
one are the ratios between the parts.
"""

from __future__ import annotations

import csv
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kbsync.bench.serial import Serial, run_serial
from kbsync.errors import ConfigError
from kbsync.facts import EditRequest, Fact, Phase, Value, ValueKind
from kbsync.request.catalogue import Catalogue
from kbsync.request.verbalise import verbalise
from kbsync.settings import share
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


def real_changes(catalogue: Catalogue, count: int) -> list[EditRequest]:
    """The first `count` real changes of the demo's windows that can be said, each subject and relation once.

    Raises ConfigError when the demo has fewer.
    """
    requests: dict[tuple[str, str], EditRequest] = {}
    words: set[str] = set()
    with share("data/demo/expected.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            request = _request(row, catalogue)
            if request is None or request.rewrite.text in words:
                continue
            words.add(request.rewrite.text)
            requests.setdefault((row["subject"], row["property"]), request)
    if len(requests) < count:
        raise ConfigError(f"the demo has only {len(requests)} changes to measure with; ask for that many or fewer")
    return list(requests.values())[:count]


def _request(row: dict[str, str], catalogue: Catalogue) -> EditRequest | None:
    if row["kind"] not in ("replaced", "added"):
        return None
    fact = Fact(row["subject"], row["property"], Value(ValueKind.ITEM, row["new"]))
    labels: dict[str, str | None] = {
        row["subject"]: row["label"],
        row["property"]: row["property_label"],
        row["new"]: row["new_label"],
    }
    previous = None
    if row["old"]:
        previous = Value(ValueKind.ITEM, row["old"])
        labels[row["old"]] = row["old_label"]
    request = verbalise(fact, labels, catalogue, previous)
    return request if isinstance(request, EditRequest) else None


def bench_editor(bench: Workbench, edits: int, serial: bool = False) -> EditorBench:
    """Solve, rebuild and evaluate `edits` real changes; none of it is stored but the sentences behind C.

    `serial` edits the same changes with the serial method, too.
    """
    requests = real_changes(bench.catalogue, edits)
    editor = bench.editor
    editor.restore()
    started = time.perf_counter()
    order = sorted(requests, key=lambda r: (editor.solver.length(r), r.content_hash))
    targets = []
    size = bench.settings.edit.batch_size
    with bench.progress.stage("solve", len(order), "edits") as task:
        for at in range(0, len(order), size):
            targets += editor.solver.solve(order[at : at + size])
            task.advance(len(order[at : at + size]))
    solve_s = time.perf_counter() - started
    with bench.progress.stage("rebuild") as task:
        rebuilt = editor.rebuild(requests, {t.content_hash: t.z for t in targets}, task.describe)
    with bench.progress.stage("evaluate"):
        quality = _quality(bench, requests)
    editor.restore()
    beside, beside_quality = None, None
    if serial:
        with bench.progress.stage("serial"):
            beside = run_serial(editor, requests, SERIAL_WEIGHT, bench.settings.edit.seed)
            beside_quality = _quality(bench, requests)
        editor.restore()
    return EditorBench(
        edits=len(requests),
        solve_s=solve_s,
        steps=sum(t.steps for t in targets) / len(targets),
        rebuild_s=rebuilt.seconds["solve"],
        repair_s=rebuilt.seconds["repair"],
        misses=rebuilt.misses,
        quality=quality,
        machine=_machine(bench),
        serial=beside,
        serial_quality=beside_quality,
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


def _machine(bench: Workbench) -> dict[str, Any]:
    import torch
    import transformers

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": str(bench.base.device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "solve_dtype": str(bench.editor.solver.top.dtype).removeprefix("torch."),
        "model": bench.base.spec,
        "seed": bench.settings.edit.seed,
    }
