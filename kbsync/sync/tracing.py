"""Causal tracing of the store's facts: which layers hold what the base model knows, and which ones to edit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kbsync.edit.adapters import Adapter, critical_layers
from kbsync.edit.effects import ROLES, Effects, Level, average, level, over_layers, propose
from kbsync.edit.states import StateKind
from kbsync.edit.trace import KINDS, NOISE, Trace, Tracer, embedding_deviation
from kbsync.errors import ConfigError, StoreError
from kbsync.evaluate.probes import known_already, unaskable
from kbsync.facts import EditRequest, Fact, Held, Value, digest
from kbsync.request.verbalise import verbalise
from kbsync.store import known
from kbsync.sync.workbench import Workbench

_ASKED_AT_ONCE = 512  # the more, the more of their words are read once
_PAPER_WINDOW, _PAPER_LAYERS = 10, 48  # GPT-2 XL's


@dataclass(frozen=True, slots=True, eq=False)
class Tracing:
    """What tracing found. `asked` of the store's facts were put to the base model to find those in `requests`.

    `deviation` is σ of the subjects' embeddings, of which the noise is a multiple. `proposal`: as many layers as
    `auto` takes, with the highest MLP effect at the subject's last token; `lead` is how much higher their mean
    effect is than that of `auto`, fact by fact. `configured` are the layers in force.
    """

    requests: tuple[EditRequest, ...]
    traces: tuple[Trace, ...]
    asked: int
    samples: int
    window: int
    seed: int
    deviation: float
    effects: Effects
    proposal: tuple[int, ...]
    auto: tuple[int, ...]
    configured: tuple[int, ...]
    model: str

    @property
    def clean(self) -> Level:
        """P(object)."""
        return level([trace.clean for trace in self.traces])

    @property
    def corrupted(self) -> Level:
        """P(object) with the subject corrupted."""
        return level([trace.corrupted for trace in self.traces])

    @property
    def total(self) -> Level:
        """The total effect: what the corruption takes (equation 1 of the paper)."""
        return level([trace.clean - trace.corrupted for trace in self.traces])

    def mlp_effect(self, layers: Sequence[int]) -> Level:
        """The mean MLP effect at the subject's last token over some layers."""
        return level(over_layers(self.traces, layers))

    @property
    def lead(self) -> Level:
        """The proposal's effect less that of `auto`."""
        both = zip(over_layers(self.traces, self.proposal), over_layers(self.traces, self.auto), strict=True)
        return level([ours - its for ours, its in both])

    @property
    def relations(self) -> dict[str, int]:
        """How many of the traced facts are of each relation, by its label."""
        return dict(sorted(Counter(request.relation_label for request in self.requests).items()))

    def as_json(self) -> dict[str, Any]:
        """JSON's types, but for numbers that are not finite. Effects are lists by role, then by layer."""
        return {
            "facts": len(self.traces),
            "asked": self.asked,
            "relations": self.relations,
            "samples": self.samples,
            "window": self.window,
            "noise": {"multiple": NOISE, "deviation": self.deviation},
            "seed": self.seed,
            "model": self.model,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "total_effect": self.total,
            "roles": [{"role": r, "facts": n} for r, n in zip(ROLES, self.effects.counts, strict=True)],
            "effects": {
                kind: {"mean": _lists(self.effects.mean[i]), "error": _lists(self.effects.error[i])}
                for i, kind in enumerate(KINDS)
            },
            "proposal": {"layers": self.proposal, "effect": self.mlp_effect(self.proposal)},
            "auto": {"layers": self.auto, "effect": self.mlp_effect(self.auto)},
            "configured": self.configured,
            "lead": self.lead,
            "traced": [
                {"prompt": r.rewrite.text, "object": r.target_new, "clean": t.clean, "corrupted": t.corrupted}
                for r, t in zip(self.requests, self.traces, strict=True)
            ],
        }


def _lists(values: Tensor) -> Any:
    return values.tolist()


def default_window(layers: int) -> int:
    """The paper's window of 10 of GPT-2 XL's 48 layers, in proportion."""
    return max(1, round(layers * _PAPER_WINDOW / _PAPER_LAYERS))


def trace_facts(bench: Workbench, facts: int, samples: int, window: int | None, seed: int) -> Tracing:
    """Trace up to `facts` facts of the store's first pull that the base model says by itself.

    They are taken in an order that only their ids decide. `window` None is `default_window`. Raises StoreError
    when the store has no facts yet, ConfigError when the base model says none of them.
    """
    requests, asked = _known_requests(bench, facts)
    adapter = Adapter(bench.base.model)
    rows = [bench.base.encoder.plain(request.rewrite, request.target_new) for request in requests]
    window = window or default_window(adapter.n_layers)
    deviation = embedding_deviation(adapter, rows)
    tracer = Tracer(adapter, samples, window, NOISE * deviation, seed)
    with bench.progress.stage("trace", tracer.state_count(rows), "states") as task:
        traces = tracer.trace(rows, task.advance)
    effects = average(traces)
    auto = critical_layers(adapter, "auto")
    return Tracing(
        requests=tuple(requests),
        traces=tuple(traces),
        asked=asked,
        samples=samples,
        window=window,
        seed=seed,
        deviation=deviation,
        effects=effects,
        proposal=propose(effects.at_subject_last(StateKind.MLP)[0], len(auto)),
        auto=auto,
        configured=critical_layers(adapter, bench.settings.edit.layers),
        model=bench.base.spec,
    )


def _known_requests(bench: Workbench, wanted: int) -> tuple[list[EditRequest], int]:
    """The first `wanted` requests whose object the base model says, and how many it was asked."""
    relations = bench.relations
    with bench.store.read() as tx:
        facts = known.baseline_facts(tx, relations)
        facts.sort(key=_order)
        ids = (
            {fact.subject for fact in facts}
            | {one for fact in facts for one in fact.value.entities}
            | set(relations)
        )
        labels = known.labels(tx, sorted(ids))
    if not facts:
        raise StoreError(
            f"{bench.store.place} has no facts of the watched relations yet; `kbsync sync` reads them, then trace"
        )
    found: list[EditRequest] = []
    asked = 0
    with bench.progress.stage("find known facts", wanted, "facts") as task:
        for part in _in_parts(bench, facts, labels):
            asked += len(part)
            said = known_already(bench.base.model, bench.base.encoder, part)
            here = [request for request, knows in zip(part, said, strict=True) if knows]
            task.advance(min(len(here), wanted - len(found)))
            found += here
            if len(found) >= wanted:
                break
    if not found:
        raise ConfigError(
            f"the base model says none of the {asked} facts in {bench.store.place} that it can be asked, and only "
            "known facts can be traced; watch relations that it knows (P36, capital, is one that most models do) "
            "and sync, or set model.base to a model that knows more"
        )
    return found[:wanted], asked


def _order(fact: Fact) -> tuple[str, Value]:
    """As good as drawn by lot, but one prompt's objects lie together, so that its words are read once."""
    return digest([fact.subject, fact.relation]), fact.value


def _in_parts(bench: Workbench, facts: Sequence[Fact], labels: dict[str, str]) -> Iterator[list[EditRequest]]:
    """What can be said and asked of `facts`, each wording once."""
    part: list[EditRequest] = []
    hashes: set[str] = set()
    for fact in facts:
        request = verbalise(fact, labels, bench.catalogue)
        if isinstance(request, Held) or request.content_hash in hashes:
            continue
        hashes.add(request.content_hash)
        if unaskable(bench.base.encoder, request) is not None:
            continue
        part.append(request)
        if len(part) == _ASKED_AT_ONCE:
            yield part
            part = []
    if part:
        yield part
