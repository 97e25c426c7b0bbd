"""`kbsync bench quality`: what many edits at once do to a model, with how sure each figure is.

Each edit that the base model does not know already is solved, all are put in with one rebuild, and base model and
candidate are asked the same prompts. Nothing is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kbsync.bench import trial
from kbsync.bench.edits import counterfactual, real_changes
from kbsync.bench.machine import machine
from kbsync.errors import ConfigError
from kbsync.facts import EditRequest, Outcome, Phase, PromptKind
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval; `count` prompts are behind it."""

    value: float
    low: float
    high: float
    count: int

    def as_json(self) -> dict[str, float]:
        """Plain JSON, rounded to what can be read off so many prompts."""
        return {
            "value": round(self.value, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "count": self.count,
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """What one live set came to. `shares` and `elsewhere` have (base model, candidate) by metric or surroundings;
    `relations` the candidate's values by relation and metric. Times in seconds."""

    edits: int
    shares: Mapping[str, tuple[Share | None, Share | None]]
    elsewhere: Mapping[str, tuple[Share, Share]]
    relations: Mapping[str, Mapping[str, float]]
    perplexity: tuple[float, float]
    misses: tuple[int, ...]
    residual: float
    solve_s: float
    steps: float
    rebuild_s: float
    repair_s: float

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, with the figures per edit and per fact beside the sums."""
        before, after = self.perplexity
        return {
            "edits": self.edits,
            "metrics": {name: _pair(pair) for name, pair in self.shares.items()},
            "elsewhere": {name: _pair(pair) for name, pair in self.elsewhere.items()},
            "perplexity": {
                "before": round(before, 4),
                "after": round(after, 4),
                "ratio": round(after / before, 4),
            },
            "misses": list(self.misses),
            "residual": round(self.residual, 4),
            "solve_s_per_edit": round(self.solve_s / self.edits, 4),
            "rebuild_s_per_fact": round((self.rebuild_s + self.repair_s) / self.edits, 4),
            "solve_s": round(self.solve_s, 3),
            "rebuild_s": round(self.rebuild_s, 3),
            "repair_s": round(self.repair_s, 3),
            "mean_steps": round(self.steps, 2),
            "relations": {r: {k: round(v, 4) for k, v in own.items()} for r, own in self.relations.items()},
        }


@dataclass(frozen=True, slots=True)
class QualityBench:
    """One measurement. `known`: edits that the base model says already; `unaskable`: why others were left out."""

    source: str
    seed: int
    drawn: int
    known: int
    unaskable: Mapping[str, int]
    trial: Trial
    machine: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "source": self.source,
            "seed": self.seed,
            "drawn": self.drawn,
            "known": self.known,
            "unaskable": dict(self.unaskable),
            **self.trial.as_json(),
            "machine": dict(self.machine),
            "settings": dict(self.settings),
        }


@dataclass(frozen=True, slots=True)
class Sorted:
    """Edits to measure with, and how many were left out and why."""

    requests: tuple[EditRequest, ...]
    known: int
    unaskable: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """What one model said."""

    outcomes: tuple[Outcome, ...]
    elsewhere: Mapping[str, tuple[bool, ...]]  # by surroundings, one for each request


def bench_quality(bench: Workbench, edits: int, seed: int, real: bool = False) -> QualityBench:
    """Edit the first `edits` of a seeded shuffle of counterfactual edits, or of the demo's `real` changes.

    Raises ConfigError when there are fewer, or none that the base model does not know.
    """
    if real:
        chosen = real_changes(bench.catalogue, edits)
    else:
        chosen = counterfactual(bench.catalogue, edits, seed, bench.settings.evaluate.neighbors)
    kept = sort_out(bench, chosen)
    base = ask_base(bench, kept.requests)
    solved = trial.solve(bench, kept.requests)
    return QualityBench(
        source="real changes" if real else "counterfact",
        seed=seed,
        drawn=len(chosen),
        known=kept.known,
        unaskable=kept.unaskable,
        trial=measure(bench, kept.requests, base, solved),
        machine=machine(bench),
        settings=settings_of(bench),
    )


def settings_of(bench: Workbench) -> dict[str, Any]:
    """The settings that shape the weights, as JSON."""
    return {k: v for k, v in bench.weight_settings.items() if k not in ("device", "threads", "torch")}


def sort_out(bench: Workbench, chosen: Sequence[EditRequest]) -> Sorted:
    """Leave out what the base model says already, as a sync does, and what its tokenizer can't be asked.

    Raises ConfigError when nothing is left.
    """
    from kbsync.evaluate.probes import known_already, unaskable

    base = bench.base
    reasons = [unaskable(base.encoder, request) for request in chosen]
    askable = [request for request, reason in zip(chosen, reasons, strict=True) if reason is None]
    bench.editor.restore()
    known = known_already(base.model, base.encoder, askable)
    kept = tuple(request for request, is_known in zip(askable, known, strict=True) if not is_known)
    if not kept:
        raise ConfigError(f"the base model says all of {len(chosen)} edits already; ask for more with --edits")
    faults = [reason for reason in reasons if reason is not None]
    return Sorted(kept, sum(known), {reason: faults.count(reason) for reason in sorted(set(faults))})


def ask_base(bench: Workbench, requests: Sequence[EditRequest]) -> Asked:
    """What the base model says; where an edit has no old object, its own answer is what the new one must beat."""
    from kbsync.evaluate.probes import contrast_of, greedy_answers

    bench.editor.restore()
    base = bench.base
    tokens = bench.settings.evaluate.said_tokens
    without = [r for r in requests if r.target_old is None]
    said = greedy_answers(base.model, base.encoder, without, tokens)
    answers = {r.content_hash: text for r, text in zip(without, said, strict=True)}
    contrasts = {r.content_hash: contrast_of(r, answers.get(r.content_hash, "")) for r in requests}
    return _ask(bench, requests, contrasts, Phase.BEFORE)


def _ask(
    bench: Workbench, requests: Sequence[EditRequest], contrasts: Mapping[str, str | None], phase: Phase
) -> Asked:
    from kbsync.evaluate import probes
    from kbsync.evaluate.surroundings import said_elsewhere

    model, encoder = bench.base.model, bench.base.encoder
    name = "ask the base model" if phase is Phase.BEFORE else "ask the candidate"
    with bench.progress.stage(name):
        outcomes = probes.ask(model, encoder, requests, contrasts, phase)
        outcomes = probes.with_neighbor_answers(model, encoder, requests, outcomes)
        elsewhere = said_elsewhere(model, encoder, requests)
    return Asked(tuple(outcomes), {name: tuple(said) for name, said in elsewhere.items()})


def measure(bench: Workbench, requests: Sequence[EditRequest], base: Asked, solved: trial.Solved) -> Trial:
    """Rebuild with `requests`, ask the candidate what `base` was asked, and put the two side by side.

    The model holds the base weights afterwards.
    """
    from kbsync.evaluate.drift import text_perplexity

    contrasts = {o.content_hash: o.target_old for o in base.outcomes if o.kind is PromptKind.REWRITE}
    try:
        rebuilt = trial.rebuild(bench, requests, solved.targets)
        after = _ask(bench, requests, contrasts, Phase.AFTER)
        perplexity = text_perplexity(bench.base.model, bench.base.encoder, bench.settings.evaluate)
    finally:
        bench.editor.restore()
    both = [*base.outcomes, *after.outcomes]
    return Trial(
        edits=len(requests),
        shares=_shares(both),
        elsewhere={name: (_wilson(base.elsewhere[name]), _wilson(said)) for name, said in after.elsewhere.items()},
        relations=_by_relation(requests, both),
        perplexity=(bench.base_perplexity(), perplexity),
        misses=rebuilt.misses,
        residual=rebuilt.residual,
        solve_s=solved.seconds,
        steps=solved.mean_steps,
        rebuild_s=rebuilt.seconds["solve"],
        repair_s=rebuilt.seconds["repair"],
    )


def _shares(outcomes: Sequence[Outcome]) -> dict[str, tuple[Share | None, Share | None]]:
    from kbsync.evaluate.intervals import intervals
    from kbsync.evaluate.metrics import NAMES, SCORE, UNCHANGED, summarise

    bounds = intervals(outcomes)
    order = [f"{name}_{what}" for name in NAMES.values() for what in ("success", "accuracy")]
    found: dict[str, dict[Phase, Share]] = {name: {} for name in (*order, UNCHANGED, SCORE)}
    for metric in summarise(outcomes):
        interval = bounds[metric.name, metric.phase]
        found[metric.name][metric.phase] = Share(metric.value, interval.low, interval.high, metric.count)
    return {name: (own.get(Phase.BEFORE), own.get(Phase.AFTER)) for name, own in found.items() if own}


def _wilson(said: Sequence[bool]) -> Share:
    """One prompt a fact: these are independent."""
    from kbsync.evaluate.intervals import wilson

    interval = wilson(sum(said), len(said))
    return Share(sum(said) / len(said), interval.low, interval.high, len(said))


def _by_relation(requests: Sequence[EditRequest], outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """The candidate's metrics of each relation alone, the one with most edits first."""
    from kbsync.evaluate.metrics import summarise

    of = {request.content_hash: request.fact.relation for request in requests}
    counts: dict[str, int] = {}
    for relation in of.values():
        counts[relation] = counts.get(relation, 0) + 1
    found = {}
    for relation in sorted(counts, key=lambda r: (-counts[r], r)):
        own = [o for o in outcomes if of[o.content_hash] == relation]
        values = {m.name: m.value for m in summarise(own) if m.phase is Phase.AFTER}
        found[relation] = {"edits": float(counts[relation]), **values}
    return found


def _pair(pair: tuple[Share | None, Share | None]) -> dict[str, dict[str, float]]:
    names = ("before", "after")
    return {name: share.as_json() for name, share in zip(names, pair, strict=True) if share is not None}
