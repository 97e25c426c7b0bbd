"""The gate: whether a candidate may go live. Each rule gives a verdict with its numbers and its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.evaluate.metrics import Metric, value_of
from kbsync.facts import Phase
from kbsync.settings import GateSettings

# rules without a threshold of the user's
FINITE, READ_BACK, COLLAPSE = "finite", "read_back", "collapse"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule applied: `value comparison threshold`. `reason` reads as a sentence."""

    metric: str
    value: float | None
    comparison: str
    threshold: float
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Soundness:
    """Whether a candidate is a model at all, as far as that was looked at.

    `broken`: a sentence for each of its `tensors` tensors, as built or as written, that is not finite.
    `wrong`: a sentence for each fault of the model that is made of its files, which was asked `probes` probes.
    `collapsed`: one where that model gives one answer to everything. What was not looked at is None.
    """

    tensors: int
    broken: Sequence[str] = ()
    probes: int = 0
    wrong: Sequence[str] | None = None
    collapsed: Sequence[str] | None = None


def verdicts_on(metrics: Sequence[Metric] | None, sound: Soundness, settings: GateSettings) -> list[Verdict]:
    """Every rule that can be asked of a candidate: those with a threshold, of one that was measured (None: it was
    not), and those that are always on."""
    verdicts = judge(metrics, settings) if metrics is not None else []
    verdicts.append(_finite(sound))
    if sound.wrong is not None:
        verdicts.append(_read_back(sound.wrong, sound.probes))
    if sound.collapsed is not None:
        verdicts.append(_collapse(sound.collapsed, sound.probes))
    return verdicts


def judge(metrics: Sequence[Metric], settings: GateSettings) -> list[Verdict]:
    """Apply every rule whose threshold is set. A metric that was not measured has nothing to say (no edits);
    one that is not finite fails."""
    drop = _difference(metrics, "neighborhood_success")
    ratio = _ratio(metrics, "perplexity")
    rules = [
        ("efficacy_success", value_of(metrics, "efficacy_success"), "≥", settings.min_efficacy_success),
        ("efficacy_accuracy", value_of(metrics, "efficacy_accuracy"), "≥", settings.min_efficacy_accuracy),
        ("paraphrase_success", value_of(metrics, "paraphrase_success"), "≥", settings.min_paraphrase_success),
        ("neighborhood_drop", drop, "≤", settings.max_neighborhood_drop),
        ("perplexity_ratio", ratio, "≤", settings.max_perplexity_ratio),
        ("retired_favoured", value_of(metrics, "retired_favoured"), "≤", settings.max_retired_favoured),
    ]
    return [
        _verdict(name, value, comparison, threshold)
        for name, value, comparison, threshold in rules
        if threshold is not None
    ]


def _finite(sound: Soundness) -> Verdict:
    """Whether every number of the candidate is one: nothing can be made of a model of others."""
    seen = "as built" if sound.wrong is None else "as built and as written"
    reason = "; ".join(sound.broken) or f"all {sound.tensors} tensors are finite, {seen}"
    return Verdict(FINITE, len(sound.broken), "≤", 0, not sound.broken, reason)


def _read_back(wrong: Sequence[str], probes: int) -> Verdict:
    """Whether the model that is made of the candidate's files answers as the one that was judged."""
    reason = "; ".join(wrong) or f"{probes} probes are answered from the files as they were from memory"
    return Verdict(READ_BACK, len(wrong), "≤", 0, not wrong, reason)


def _collapse(collapsed: Sequence[str], probes: int) -> Verdict:
    """Whether the candidate says different things to different questions, or the base model did not either."""
    reason = "; ".join(collapsed) or f"{probes} probes are not all answered with one token"
    return Verdict(COLLAPSE, len(collapsed), "≤", 0, not collapsed, reason)


def passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether every rule was kept."""
    return all(v.passed for v in verdicts)


def refusal(verdicts: Sequence[Verdict]) -> str:
    """Why a candidate is refused, in one line."""
    return "; ".join(v.reason for v in verdicts if not v.passed)


def _verdict(name: str, value: float | None, comparison: str, threshold: float) -> Verdict:
    if value is None:
        return Verdict(name, None, comparison, threshold, True, f"{name} was not measured: no prompts")
    ok = math.isfinite(value) and (value >= threshold if comparison == "≥" else value <= threshold)
    word = "is" if ok else "is not"
    return Verdict(name, value, comparison, threshold, ok, f"{name} {value:.3f} {word} {comparison} {threshold:g}")


def _difference(metrics: Sequence[Metric], name: str) -> float | None:
    before, after = value_of(metrics, name, Phase.BEFORE), value_of(metrics, name)
    # Shares of prompts: 0.75 - 0.70 is 0.05, whatever binary fractions make of it.
    return round(before - after, 9) if before is not None and after is not None else None


def _ratio(metrics: Sequence[Metric], name: str) -> float | None:
    before, after = value_of(metrics, name, Phase.BEFORE), value_of(metrics, name)
    return after / before if before and after is not None else None
