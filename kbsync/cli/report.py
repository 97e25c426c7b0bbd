"""How a run is told: its stages, its metrics before and after, the gate's verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kbsync.cli import show

if TYPE_CHECKING:
    from rich.text import Text

    from kbsync.evaluate.gate import Verdict
    from kbsync.evaluate.metrics import Metric
    from kbsync.evaluate.room import Room
    from kbsync.store.quarantines import Quarantine
    from kbsync.sync.run import Report

_RULES = {"neighborhood_drop": "neighborhood_success", "perplexity_ratio": "perplexity"}  # rule: its metric


def as_data(report: Report) -> dict[str, Any]:
    """A run as `--json` prints it."""
    return {
        "run": report.run_id,
        "status": report.status,
        "reason": report.reason,
        "seconds": report.seconds,
        "counts": report.counts,
        "metrics": report.metrics,
        "verdicts": report.verdicts,
        "room": report.room.as_data() if report.room is not None else None,
        "checkpoint": report.checkpoint,
        "kept_out": [
            {"id": f"q{one.id}", "kind": one.kind, "fact": one.fact, "reason": one.reason}
            for one in report.kept_out
        ],
    }


def print_report(report: Report) -> None:
    """The whole run on stdout."""
    reason = f": {report.reason}" if report.reason else ""
    show.line(f"run {report.run_id} {report.status}{reason} ({show.duration(report.seconds)})", "bold")
    stages = [[stage, counts_in_words(counts)] for stage, counts in report.counts.items()]
    show.table(["stage", "outcomes"], stages)
    if report.metrics:
        print_metrics(report.metrics, report.verdicts)
    if report.verdicts:
        print_verdicts(report.verdicts)
    if report.kept_out:
        print_kept_out(report.kept_out)
    if report.room is not None:
        print_room(report.room)
    if report.checkpoint is not None:
        show.line(f"checkpoint: {report.checkpoint}")


def print_kept_out(found: Sequence[Quarantine]) -> None:
    """What the run has kept out of the model, and why."""
    rows = [
        [f"q{one.id}", one.kind, one.fact.subject, one.fact.relation, one.fact.value.text, one.reason]
        for one in found
    ]
    title = "Kept out by the gate; kbsync release lets them in"
    show.table(["id", "kept out", "subject", "relation", "object", "why"], rows, title=title)


def print_room(room: Room) -> None:
    """How many facts fit, and what to beware of."""
    show.line(f"room: {room.words()}")
    for warning in room.warnings():
        show.line(f"warning: {warning}", "yellow")


_OF_LAYERS = ("condition_", "solve_residual_")


def counts_in_words(counts: Mapping[str, float]) -> str:
    """`12 stored, 3 duplicate`; seconds in words. Numbers of single layers are for those who ask the ledger."""
    shown = []
    for name, number in counts.items():
        if name.startswith(_OF_LAYERS):
            continue
        if name.endswith("_s"):
            shown.append(f"{name.removesuffix('_s')} {show.duration(number)}")
        elif isinstance(number, float) and not number.is_integer():
            shown.append(f"{name} {show.words(number)}")
        else:
            shown.append(f"{number:g} {name}" if isinstance(number, float) else f"{number} {name}")
    return ", ".join(shown)


def print_metrics(metrics: Sequence[Metric], verdicts: Sequence[Verdict]) -> None:
    """Each metric of the base model and of the candidate, with the rule that the gate has for it."""
    rules = {_RULES.get(verdict.metric, verdict.metric): verdict for verdict in verdicts}
    names = dict.fromkeys(metric.name for metric in metrics)
    values = {(metric.name, str(metric.phase)): metric for metric in metrics}
    rows = []
    for name in names:
        before, after = values.get((name, "before")), values.get((name, "after"))
        either = after or before
        assert either is not None
        rows.append(
            [
                name.replace("_", " "),
                before.value if before else None,
                after.value if after else None,
                _rule(rules.get(name)),
                either.count,
            ]
        )
    numbers = ["base model", "synced model", "over"]
    show.table(
        ["metric", "base model", "synced model", "gate", "over"],
        rows,
        title="Metrics (shares of prompts; perplexity of a fixed text)",
        numbers=numbers,
    )


def _rule(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    what = f"{verdict.metric.split('_')[-1]} " if verdict.metric in _RULES else ""
    return f"{'✓' if verdict.passed else '✗'} {what}{verdict.comparison} {verdict.threshold:g}"


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """The gate's rules with the numbers that they were held against."""
    rows = [
        [v.metric.replace("_", " "), v.value, f"{v.comparison} {v.threshold:g}", _kept(v.passed), v.reason]
        for v in verdicts
    ]
    show.table(["rule", "measured", "threshold", "verdict", "reason"], rows, title="Gate", numbers=["measured"])


def _kept(passed: bool) -> Text:
    return show.text("kept" if passed else "broken", "green" if passed else "bold red")
