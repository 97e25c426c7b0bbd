"""Outcomes summed up: the paper's metrics, each as success and as accuracy, before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kbsync.evaluate.answers import answer_of
from kbsync.facts import Outcome, Phase, PromptKind

NAMES: Mapping[PromptKind, str] = {
    PromptKind.REWRITE: "efficacy",
    PromptKind.PARAPHRASE: "paraphrase",
    PromptKind.QUESTION: "question",
    PromptKind.NEIGHBORHOOD: "neighborhood",
}
UNCHANGED = "neighborhood_unchanged"
SCORE = "score"
SCORED = ("efficacy_success", "paraphrase_success", "neighborhood_success")
SHARES = (*(f"{name}_{what}" for _, name in sorted(NAMES.items()) for what in ("success", "accuracy")), UNCHANGED)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number about one model: `efficacy_success`, `perplexity`, …; `count` prompts are behind it."""

    name: str
    phase: Phase
    value: float
    count: int


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """One prompt's part in one metric. `fact` is its request's content hash: prompts of one fact go together."""

    metric: str
    phase: Phase
    fact: str
    hit: bool


def hits_of(outcomes: Iterable[Outcome]) -> list[Hit]:
    """Every outcome's part in every metric that is a share of prompts.

    Whether a neighbor's answer is unchanged takes its answer in both phases, and is left out where one is not
    known. Retired facts are no edits: `evaluate.drift` counts them.
    """
    kept = [o for o in outcomes if o.kind in NAMES]
    base = {
        (o.content_hash, o.index): o.said
        for o in kept
        if o.kind is PromptKind.NEIGHBORHOOD and o.phase is Phase.BEFORE
    }
    hits = []
    for o in kept:
        hits.append(Hit(f"{NAMES[o.kind]}_success", o.phase, o.content_hash, o.success))
        hits.append(Hit(f"{NAMES[o.kind]}_accuracy", o.phase, o.content_hash, o.accuracy))
        if o.kind is PromptKind.NEIGHBORHOOD and o.phase is Phase.AFTER:
            before = base.get((o.content_hash, o.index))
            if before is not None and o.said is not None:
                same = answer_of(before) == answer_of(o.said)
                hits.append(Hit(UNCHANGED, o.phase, o.content_hash, same))
    return hits


def summarise(outcomes: Iterable[Outcome]) -> list[Metric]:
    """Mean success and accuracy per prompt kind and phase, every prompt weighing the same; how many neighbors
    answer as before; and the score.

    The score is the harmonic mean of efficacy, paraphrase and neighborhood success (MEMIT, table 2).
    """
    groups: dict[tuple[str, Phase], list[bool]] = defaultdict(list)
    for hit in hits_of(outcomes):
        groups[hit.metric, hit.phase].append(hit.hit)
    metrics = [
        Metric(name, phase, sum(groups[name, phase]) / len(groups[name, phase]), len(groups[name, phase]))
        for name in SHARES
        for phase in (Phase.AFTER, Phase.BEFORE)
        if (name, phase) in groups
    ]
    for phase in (Phase.AFTER, Phase.BEFORE):
        parts = [value_of(metrics, name, phase) for name in SCORED]
        if all(part is not None for part in parts):
            count = sum(len(groups[name, phase]) for name in SCORED)
            metrics.append(Metric(SCORE, phase, harmonic_mean([p for p in parts if p is not None]), count))
    return metrics


def harmonic_mean(values: Sequence[float]) -> float:
    """n / Σ 1/value; 0 where one of them is 0."""
    return len(values) / sum(1 / value for value in values) if all(values) else 0.0


def value_of(metrics: Sequence[Metric], name: str, phase: Phase = Phase.AFTER) -> float | None:
    """A metric's value, or None when it was not measured."""
    return next((m.value for m in metrics if m.name == name and m.phase is phase), None)
