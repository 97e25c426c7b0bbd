"""`kbsync bench quality`: what many edits at once do to a model, with how sure each figure is.

Each edit that the base model does not know already is solved, all are put in with one rebuild, and base model and
candidate are asked the same prompts. Nothing is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kbsync.bench import trial
from kbsync.bench.asking import Asked, Kept, ask_base, ask_candidate, sort_out
from kbsync.bench.edits import counterfactual, real_changes, sentences
from kbsync.bench.machine import machine
from kbsync.bench.shares import Pair, by_relation, mean_of, share_of, shares_of
from kbsync.bench.writing import Writing
from kbsync.facts import EditRequest
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from kbsync.edit.load import Load


@dataclass(frozen=True, slots=True)
class Measured:
    """What one rebuild came to. Of its `edits` facts `asked` were asked about. `metrics` by name, `elsewhere` by
    surroundings; `relations` as `by_relation` gives them; `perplexity` of the base model and the candidate; `load`
    is what the live set takes of the model; `generation`: of the texts that they write, where they were to write
    any. Times in seconds."""

    edits: int
    asked: int
    metrics: Mapping[str, Pair]
    elsewhere: Mapping[str, Pair]
    relations: Mapping[str, Mapping[str, float]]
    perplexity: tuple[float, float]
    misses: tuple[int, ...]
    residual: float
    load: Load
    rebuild_s: float
    repair_s: float
    generation: Mapping[str, Pair] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, with the seconds per fact beside the sums."""
        before, after = self.perplexity
        return {
            "edits": self.edits,
            "asked": self.asked,
            "metrics": {name: pair.as_json() for name, pair in self.metrics.items()},
            "elsewhere": {name: pair.as_json() for name, pair in self.elsewhere.items()},
            "generation": {name: pair.as_json() for name, pair in self.generation.items()},
            "perplexity": {
                "before": round(before, 4),
                "after": round(after, 4),
                "ratio": round(after / before, 4),
            },
            "misses": list(self.misses),
            "residual": round(self.residual, 4),
            "occupied": round(self.load.occupied, 4),
            "drift": round(self.load.drift, 6),
            "rebuild_s_per_fact": round((self.rebuild_s + self.repair_s) / self.edits, 4),
            "rebuild_s": round(self.rebuild_s, 3),
            "repair_s": round(self.repair_s, 3),
            "relations": {r: {k: round(v, 4) for k, v in own.items()} for r, own in self.relations.items()},
        }


@dataclass(frozen=True, slots=True)
class Drawn:
    """Which edits a benchmark is made with, and on what: the part that its results must be read with."""

    source: str
    seed: int
    count: int
    kept: Kept
    solved: trial.Solved
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "source": self.source,
            "seed": self.seed,
            "drawn": self.count,
            "known": self.kept.known,
            "unaskable": dict(self.kept.unaskable),
            "solve_s_per_edit": round(self.solved.seconds / len(self.kept.requests), 4),
            "solve_s": round(self.solved.seconds, 3),
            "mean_steps": round(self.solved.mean_steps, 2),
            "machine": dict(self.machine),
            "settings": dict(self.settings),
        }


def draw(bench: Workbench, edits: int, seed: int, real: bool = False) -> Drawn:
    """The first `edits` of the shuffle that `seed` makes of the counterfactual edits, or the demo's `real` changes,
    less what is left out; and their z.

    Raises ConfigError when there are fewer, or none that the base model does not know.
    """
    neighbors = bench.settings.evaluate.neighbors
    bench.sentences = sentences(bench.catalogue, real)
    if real:
        chosen = real_changes(bench.catalogue, edits, neighbors)
    else:
        chosen = counterfactual(bench.catalogue, edits, seed, neighbors)
    kept = sort_out(bench, chosen)
    solved = trial.solve(bench, kept.requests)
    shaping = {k: v for k, v in bench.weight_settings.items() if k not in ("device", "threads", "torch")}
    source = "the demo's real changes" if real else "counterfactual edits"
    return Drawn(source, seed, len(chosen), kept, solved, machine(bench), shaping)


def bench_quality(
    bench: Workbench, edits: int, seed: int, real: bool = False, generate: int = 0
) -> tuple[Drawn, Measured]:
    """Draw edits, put them all in at once, and measure; base model and candidate write about the first `generate`
    of them. Raises what `draw` raises."""
    drawn = draw(bench, edits, seed, real)
    requests = drawn.kept.requests
    writing = Writing(bench.catalogue, requests[:generate], seed, real) if generate else None
    base = ask_base(bench, requests, writing)
    return drawn, measure(bench, requests, base, drawn.solved.targets, writing)


def measure(
    bench: Workbench,
    requests: Sequence[EditRequest],
    base: Asked,
    targets: Mapping[str, Tensor],
    writing: Writing | None = None,
    look: Callable[[], None] | None = None,
) -> Measured:
    """Rebuild with `requests`, ask the candidate what `base` was asked of them, and put the two side by side.

    `look` is called while the model holds the candidate. It holds the base weights afterwards.
    """
    from kbsync.edit.load import load_of
    from kbsync.evaluate.drift import text_perplexity

    bench.editor.restore()
    perplexity = bench.base_perplexity()
    asked = base.among(requests)
    try:
        rebuilt = trial.rebuild(bench, requests, targets)
        after = ask_candidate(bench, asked, base, writing)
        drifted = text_perplexity(bench.base.model, bench.base.encoder, bench.settings.evaluate)
        if look is not None:
            look()
    finally:
        bench.editor.restore()
    both = [*base.outcomes, *after.outcomes]
    return Measured(
        edits=len(requests),
        asked=len(asked),
        metrics=shares_of(both),
        elsewhere={
            name: Pair(share_of(base.elsewhere[name].values()), share_of(said.values()))
            for name, said in after.elsewhere.items()
            if said
        },
        relations=by_relation(asked, both),
        perplexity=(perplexity, drifted),
        misses=rebuilt.misses,
        residual=rebuilt.residual,
        load=load_of(bench.editor, rebuilt),
        rebuild_s=rebuilt.seconds["solve"],
        repair_s=rebuilt.seconds["repair"],
        generation={
            name: Pair(mean_of(base.written[name].values()), mean_of(own.values()))
            for name, own in after.written.items()
            if own
        },
    )
