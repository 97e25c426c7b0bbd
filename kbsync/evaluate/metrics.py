"""Outcomes summed up: the paper's metrics, each as success and as accuracy, before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kbsync.facts import Outcome, Phase, PromptKind

NAMES: Mapping[PromptKind, str] = {
    PromptKind.REWRITE: "efficacy",
    PromptKind.PARAPHRASE: "paraphrase",
    PromptKind.QUESTION: "question",
    PromptKind.NEIGHBORHOOD: "neighborhood",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One number about one model: `efficacy_success`, `perplexity`, …; `count` prompts are behind it."""

    name: str
    phase: Phase
    value: float
    count: int


def summarise(outcomes: Iterable[Outcome]) -> list[Metric]:
    """Mean success and accuracy per prompt kind and phase; every prompt weighs the same."""
    groups: dict[tuple[PromptKind, Phase], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.kind not in NAMES:  # retired facts are no edits: `evaluate.drift` counts them
            continue
        groups[outcome.kind, outcome.phase].append(outcome)
    metrics = []
    for (kind, phase), group in sorted(groups.items()):
        for name, hits in (
            ("success", sum(o.success for o in group)),
            ("accuracy", sum(o.accuracy for o in group)),
        ):
            metrics.append(Metric(f"{NAMES[kind]}_{name}", phase, hits / len(group), len(group)))
    return metrics


def value_of(metrics: Sequence[Metric], name: str, phase: Phase = Phase.AFTER) -> float | None:
    """A metric's value, or None when it was not measured."""
    return next((m.value for m in metrics if m.name == name and m.phase is phase), None)
