"""How sure a measured share is: 95 % intervals over the facts that were asked.

Prompts of one fact are not independent: where the edit fails, all its paraphrases fail with it. So it is facts
that are drawn anew, each with all its prompts (a cluster bootstrap; Davison & Hinkley 1997, section 3.8), and not
prompts. What the interval covers is the choice of facts; model, settings and prompts' wording are as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kbsync.evaluate.metrics import SCORE, SCORED, SHARES, Hit, harmonic_mean, hits_of
from kbsync.facts import Outcome, Phase

RESAMPLES = 1000
_Z = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(hits: int, count: int) -> Interval:
    """The score interval of a share of `count` independent trials (Wilson 1927, equation for p).

    Raises ValueError when there are none.
    """
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"{hits} of {count} is no share")
    share, square = hits / count, _Z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    spread = _Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    low = middle - spread if hits else 0.0  # both bounds are exact at the ends, but for rounding
    return Interval(low, middle + spread if hits < count else 1.0)


def intervals(
    outcomes: Iterable[Outcome], seed: int = 0, resamples: int = RESAMPLES
) -> dict[tuple[str, Phase], Interval]:
    """The interval of each metric that `summarise` gives for the same outcomes, by name and phase.

    Percentiles of `resamples` draws of as many facts as there are; the same for the same `seed`. Where all prompts
    agree, drawing facts anew shows nothing, and Wilson's interval over the facts stands in its place.
    """
    hits = hits_of(outcomes)
    found: dict[tuple[str, Phase], Interval] = {}
    for phase in Phase:
        own = [hit for hit in hits if hit.phase is phase]
        if own:
            found |= {(name, phase): interval for name, interval in _of_phase(own, seed, resamples).items()}
    return found


def mean_interval(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The interval of a mean of numbers, one for each fact: percentiles of the means of facts drawn anew.

    Raises ValueError when there are none. One fact alone, or several that agree, show no spread.
    """
    if not values:
        raise ValueError("no values, no mean")
    means = _draws(len(values), resamples, seed) @ torch.tensor(values, dtype=torch.float64) / len(values)
    return _percentiles(means)


def _of_phase(hits: Sequence[Hit], seed: int, resamples: int) -> dict[str, Interval]:
    facts = {fact: i for i, fact in enumerate(sorted({hit.fact for hit in hits}))}
    names = [name for name in SHARES if any(hit.metric == name for hit in hits)]
    columns = {name: i for i, name in enumerate(names)}
    won = torch.zeros(len(facts), len(names), dtype=torch.float64)  # (facts, metrics)
    asked = torch.zeros_like(won)
    for hit in hits:
        won[facts[hit.fact], columns[hit.metric]] += hit.hit
        asked[facts[hit.fact], columns[hit.metric]] += 1
    drawn = _draws(len(facts), resamples, seed)  # (resamples, facts)
    shares = (drawn @ won) / (drawn @ asked)  # (resamples, metrics); nan where a draw has no such prompt
    found = {}
    for name, column in columns.items():
        total, count = float(won[:, column].sum()), float(asked[:, column].sum())
        if total in (0.0, count):
            with_prompts = int((asked[:, column] > 0).sum())
            found[name] = wilson(with_prompts if total else 0, with_prompts)
        else:
            found[name] = _percentiles(shares[:, column])
    if all(name in columns for name in SCORED):
        means = len(SCORED) / (1 / shares[:, [columns[n] for n in SCORED]]).sum(1)
        parts = [found[name] for name in SCORED]
        bounds = Interval(harmonic_mean([p.low for p in parts]), harmonic_mean([p.high for p in parts]))
        found[SCORE] = _percentiles(means) if float(means.std()) > 0 else bounds
    return found


def _draws(facts: int, resamples: int, seed: int) -> Tensor:
    """How often each draw has each fact, (resamples, facts)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(facts, (resamples, facts), generator=generator)
    return torch.zeros(resamples, facts, dtype=torch.float64).scatter_add_(
        1, chosen, torch.ones(resamples, facts, dtype=torch.float64)
    )


def _percentiles(values: Tensor) -> Interval:
    low, high = torch.quantile(values[~values.isnan()], torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return Interval(low, high)
