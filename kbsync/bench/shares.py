"""A benchmark's shares: base model beside candidate, each with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kbsync.facts import EditRequest, Outcome, Phase


@dataclass(frozen=True, slots=True)
class Share:
    """A share or a mean with its 95 % interval; `count` prompts are behind it."""

    value: float
    low: float
    high: float
    count: int

    def as_json(self) -> dict[str, float]:
        """Plain JSON."""
        bounds = {"value": self.value, "low": self.low, "high": self.high}
        return {**{name: round(number, 4) for name, number in bounds.items()}, "count": self.count}


@dataclass(frozen=True, slots=True)
class Pair:
    """The base model's share and the candidate's; None where there is no such thing."""

    before: Share | None
    after: Share | None

    def as_json(self) -> dict[str, dict[str, float]]:
        """Plain JSON, without what there is not."""
        both = {"before": self.before, "after": self.after}
        return {name: share.as_json() for name, share in both.items() if share is not None}


def shares_of(outcomes: Sequence[Outcome]) -> dict[str, Pair]:
    """Every metric of the outcomes of both phases, with bootstrap intervals over facts; the edits' own first."""
    from kbsync.evaluate.intervals import intervals
    from kbsync.evaluate.metrics import NAMES, SCORE, UNCHANGED, summarise

    bounds = intervals(outcomes)
    order = [f"{name}_{what}" for name in NAMES.values() for what in ("success", "accuracy")]
    found: dict[str, dict[Phase, Share]] = {name: {} for name in (*order, UNCHANGED, SCORE)}
    for metric in summarise(outcomes):
        interval = bounds[metric.name, metric.phase]
        found[metric.name][metric.phase] = Share(metric.value, interval.low, interval.high, metric.count)
    return {name: Pair(own.get(Phase.BEFORE), own.get(Phase.AFTER)) for name, own in found.items() if own}


def share_of(said: Iterable[bool]) -> Share:
    """A share of prompts of which each fact has one: they are independent, so Wilson's interval serves."""
    from kbsync.evaluate.intervals import wilson

    all_said = list(said)
    interval = wilson(sum(all_said), len(all_said))
    return Share(sum(all_said) / len(all_said), interval.low, interval.high, len(all_said))


def mean_of(values: Iterable[float]) -> Share | None:
    """A mean over facts, with its bootstrap interval; None over none."""
    from kbsync.evaluate.intervals import mean_interval

    own = list(values)
    if not own:
        return None
    interval = mean_interval(own)
    return Share(sum(own) / len(own), interval.low, interval.high, len(own))


def by_relation(requests: Sequence[EditRequest], outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """By relation, the one with most edits first: how many `edits`, and the candidate's metrics on them."""
    from kbsync.evaluate.metrics import summarise

    relation_of: Mapping[str, str] = {request.content_hash: request.fact.relation for request in requests}
    counts = Counter(relation_of.values())
    found: dict[str, dict[str, float]] = {}
    for relation in sorted(counts, key=lambda r: (-counts[r], r)):
        own = [o for o in outcomes if relation_of[o.content_hash] == relation]
        values = {metric.name: metric.value for metric in summarise(own) if metric.phase is Phase.AFTER}
        found[relation] = {"edits": counts[relation], **values}
    return found
