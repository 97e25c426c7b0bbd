"""How many facts a model holds: for each rule of the gate a law fitted to what live sets of several sizes cost.

A cost is what its rule limits: the logarithm of the perplexity ratio, the fall of neighborhood success, the share
of edits (or paraphrases) that fail. A law is

    cost(n) = floor + scale · nᵖ,   ¼ ≤ p ≤ 4,

fitted by weighted least squares. Perplexity, neighborhood and efficacy begin at 0: an edit that nothing disturbs
costs next to nothing and says its object. Paraphrases have a floor, since even a lone edit is not followed at all
of them; so that rule has no law before two live sets are known of which one is twice as large as the other.
Where the sizes don't tell p, it is taken to be between 1 (each edit costs the same) and 2 (each pair of edits
disturbs one another), and the interval says how much hangs on that. Where λ grows with the live set, costs to text
grow more slowly than the set, with p below 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kbsync.evaluate.metrics import Metric, value_of
from kbsync.facts import Phase
from kbsync.settings import GateSettings

DRAWS = 200
_POWERS = torch.arange(0.25, 4.001, 0.025, dtype=torch.float64)
_PRIOR, _FAINT = (1.0, 1.5, 2.0), 1e-3  # p where the costs don't tell; how much that weighs beside them
_MODEL = 0.1  # a law is right to a tenth of a cost at best, so that the dearest live sets don't decide it alone
_ERRORS = {"perplexity_ratio": 0.001}  # a fixed text, but the facts are chance
_SPREAD = 2.0  # sizes of which one is so many times the other can tell a floor from a slope
_CERTAIN = 2.0  # standard errors from 0 that a cost must be
_FLOORED = ("paraphrase_success",)
_SHARES = ("efficacy_success", "efficacy_accuracy", "paraphrase_success")


@dataclass(frozen=True, slots=True)
class Sample:
    """One live set: how many facts, what it costs by one rule, and the cost's standard error."""

    facts: int
    cost: float
    error: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The largest live set at which a rule holds, with its 95 % interval; infinite where nothing grows.

    `limit` is the cost that the rule allows, `law` the floor, scale and power of what live sets cost. `holds_at` is
    the largest measured live set that kept the rule and `breaks_at` the smallest that broke it, where there are
    such.
    """

    rule: str
    facts: float
    low: float
    high: float
    holds_at: int | None
    breaks_at: int | None
    limit: float
    law: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one live set of `facts` facts came to."""

    facts: int
    metrics: Sequence[Metric]


def limits_of(gate: GateSettings) -> dict[str, float]:
    """The cost that each rule allows; without the rules that are off and those that no live set could keep."""
    least = {name: getattr(gate, f"min_{name}") for name in _SHARES}
    limits = {name: 1 - share for name, share in least.items() if share is not None}
    if gate.max_neighborhood_drop is not None:
        limits["neighborhood_drop"] = gate.max_neighborhood_drop
    if gate.max_perplexity_ratio is not None:
        limits["perplexity_ratio"] = math.log(gate.max_perplexity_ratio)
    return {name: limit for name, limit in limits.items() if limit > 0}


def sample_of(rule: str, measured: Measured) -> Sample | None:
    """What a live set costs by a rule; None where that was not measured or is not finite.

    Shares have the error of as many independent trials as there are facts (neighborhood: prompts), no better than
    one in that many.
    """
    metrics = measured.metrics
    if rule in _SHARES:
        after = value_of(metrics, rule)
        if after is None:
            return None
        cost, error = 1 - after, _error(after, measured.facts)
    elif rule == "neighborhood_drop":
        name = "neighborhood_success"
        before, after = value_of(metrics, name, Phase.BEFORE), value_of(metrics, name)
        if before is None or after is None:
            return None
        count = next(m.count for m in metrics if m.name == name)
        cost, error = before - after, math.hypot(_error(before, count), _error(after, count))
    else:
        before, after = value_of(metrics, "perplexity", Phase.BEFORE), value_of(metrics, "perplexity")
        if not before or not after:
            return None
        cost, error = math.log(after / before), _ERRORS["perplexity_ratio"]
    finite = measured.facts > 0 and math.isfinite(cost) and math.isfinite(error)
    return Sample(measured.facts, cost, error) if finite else None


def _error(share: float, count: int) -> float:
    return max(math.sqrt(max(share * (1 - share), 0) / max(count, 1)), 1 / max(count, 1))


def estimate(rule: str, samples: Sequence[Sample], limit: float) -> Estimate | None:
    """How many facts keep a cost within `limit`; None where the samples don't tell.

    They don't where none is surely above 0, or where the rule has a floor and the sizes lie too close together.
    What was measured has the last word: the estimate lies between the largest live set that kept the rule and the
    smallest that broke it, whichever of the two is the larger.
    """
    points = sorted(samples, key=lambda one: (one.facts, one.cost, one.error))
    if not points or not any(one.cost > _CERTAIN * one.error for one in points):
        return None
    floored = rule in _FLOORED
    if floored and points[-1].facts < _SPREAD * points[0].facts:
        return None
    breaks = min((one.facts for one in points if one.cost > limit), default=None)
    holds = max((one.facts for one in points if one.cost <= limit), default=None)
    draws, law = _draws(points, limit, floored)
    drawn = draws[1:].sort().values
    ends = [float(drawn[round(share * (len(drawn) - 1))]) for share in (0.025, 0.975)]
    central = float(draws[0])
    found = [
        _within(round(one, 6), holds, breaks) for one in (central, min(ends[0], central), max(ends[1], central))
    ]
    return Estimate(rule, found[0], found[1], found[2], holds, breaks, limit, law)


def _within(facts: float, holds: int | None, breaks: int | None) -> float:
    """`facts`, moved to where the measured live sets allow it to be."""
    if holds is None or breaks is None:
        return max(facts, float(holds)) if holds is not None else min(facts, float((breaks or 1) - 1))
    low, high = sorted((float(holds), float(breaks - 1)))
    return min(max(facts, low), high)


def estimates(live_sets: Sequence[Measured], gate: GateSettings) -> list[Estimate]:
    """An estimate for every rule that the live sets tell something about, the one that binds first."""
    found = []
    for rule, limit in limits_of(gate).items():
        samples = [sample for one in live_sets if (sample := sample_of(rule, one)) is not None]
        one_rule = estimate(rule, samples, limit)
        if one_rule is not None:
            found.append(one_rule)
    return sorted(found, key=lambda one: (one.facts, one.rule))


def fit(samples: Sequence[Sample], floored: bool) -> tuple[float, float, float]:
    """The law of these samples: floor, scale and power. `samples` must not be empty."""
    facts, costs, errors = _columns(samples)
    floor, scale, power = _fit(facts, costs[None], errors, torch.tensor([_PRIOR[1]], dtype=torch.float64), floored)
    return float(floor), float(scale), float(power)


def _draws(samples: Sequence[Sample], limit: float, floored: bool) -> tuple[Tensor, tuple[float, float, float]]:
    """Facts at the limit (1 + DRAWS,): by the samples as they are, then with their errors drawn (a parametric
    bootstrap) and another power where the samples don't tell it. Beside them the law of the samples as they are."""
    facts, costs, errors = _columns(samples)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(DRAWS, len(samples), generator=generator, dtype=torch.float64) * errors
    low, middle, high = _PRIOR
    priors = low + (high - low) * torch.rand(DRAWS, generator=generator, dtype=torch.float64)
    drawn = torch.cat([costs[None], costs + noise])
    floor, scale, power = _fit(facts, drawn, errors, torch.cat([torch.full((1,), middle), priors]), floored)
    free = (limit - floor).clamp(min=0)
    reached = (free / scale) ** (1 / power)
    facts_at = torch.where(scale > 0, reached, torch.where(free > 0, torch.inf, 0.0))
    return facts_at, (float(floor[0]), float(scale[0]), float(power[0]))


def _columns(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Facts, costs and errors, (m,) each."""
    table = torch.tensor([[one.facts, one.cost, one.error] for one in samples], dtype=torch.float64)
    facts, costs, errors = table.T
    return facts, costs, torch.hypot(errors, _MODEL * costs)


def _fit(
    facts: Tensor, costs: Tensor, errors: Tensor, priors: Tensor, floored: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The best law for each row of `costs` (draws, m): floor, scale, power, (draws,) each, none of them negative.

    For each power the other two have a closed form; of the powers, the one with the least squares wins, and where
    these are nearly equal, the one next to its draw's prior.
    """
    weights = errors.square().reciprocal()  # (m,)
    best: tuple[Tensor, ...] | None = None
    for power in _POWERS:
        x = (facts / facts.max()) ** power  # (m,), scaled so that nothing overflows
        floor, scale = _line(x, costs, weights, floored)
        off = costs - floor[:, None] - scale[:, None] * x
        loss = (weights * off.square()).sum(1) + _FAINT * (power - priors).square()
        row = (loss, floor, scale / facts.max() ** power, power.expand_as(loss))
        if best is None:
            best = row
        else:
            better = loss < best[0]
            best = tuple(torch.where(better, new, old) for new, old in zip(row, best, strict=True))
    assert best is not None
    return best[1], best[2], best[3]


def _line(x: Tensor, costs: Tensor, weights: Tensor, floored: bool) -> tuple[Tensor, Tensor]:
    """Weighted least squares of costs (draws, m) ≈ floor + scale · x with neither below 0."""
    through = ((weights * x * costs).sum(1) / (weights * x * x).sum()).clamp(min=0)
    nothing = torch.zeros_like(through)
    if not floored:
        return nothing, through
    total = weights.sum()
    mean_x, mean_cost = (weights * x).sum() / total, (weights * costs).sum(1) / total
    spread = float((weights * (x - mean_x).square()).sum())
    rise = (weights * (x - mean_x) * (costs - mean_cost[:, None])).sum(1)
    slope = rise / spread if spread > 0 else nothing
    floor = mean_cost - slope * mean_x
    flat = slope <= 0
    floor, slope = torch.where(flat, mean_cost.clamp(min=0), floor), torch.where(flat, nothing, slope)
    below = floor < 0
    return torch.where(below, nothing, floor), torch.where(below, through, slope)
