"""`kbsync tune`: a small search for the editor's settings on one model, over edits that are held out.

The edits are the last of the seeded shuffle, `kbsync bench quality` takes the first. z depend on layers and clamp,
so they are solved once for each of these and serve every λ; a λ costs one rebuild, without repair, and a look at
what came out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kbsync.bench import trial
from kbsync.bench.asking import Kept, ask, sort_out
from kbsync.bench.choice import Limits, Point, choose
from kbsync.bench.edits import counterfactual, sentences
from kbsync.bench.machine import machine
from kbsync.errors import ConfigError, EditError
from kbsync.facts import EditRequest, Phase
from kbsync.lm.limits import MOST_LAYERS
from kbsync.settings import EditSettings
from kbsync.sync.progress import Task
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from kbsync.edit.memit import Editor
    from kbsync.evaluate.metrics import Metric

CLAMPS = (0.75, 1.0, 1.4)
FACTOR = 4.0  # between two λ
EXTENSIONS = 2  # times that the λ go on where the best one is the first or the last


@dataclass(frozen=True, slots=True)
class Space:
    """What is tried. `layers`: each as `edit.layers` takes it; none are the settings' own."""

    clamps: tuple[float, ...] = ()
    layers: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Tuned:
    """Every point that was tried, in order, and the chosen one. `now` has the settings as they are."""

    points: tuple[Point, ...]
    chosen: Point
    now: tuple[tuple[int, ...], float, float]
    limits: Limits
    kept: Kept
    drawn: int
    seed: int
    seconds: float
    layers_tried: bool
    machine: Mapping[str, Any]

    @property
    def allowed(self) -> bool:
        """Whether the chosen point keeps within its limits; none does if it doesn't."""
        return self.chosen.breaks(self.limits) is None

    def is_now(self, point: Point) -> bool:
        """Whether a point has the settings as they are."""
        return (point.layers, point.clamp, point.covariance_weight) == self.now

    @property
    def keys(self) -> dict[str, Any]:
        """What to write into `[edit]`: the layers only where some were tried."""
        layers = {"layers": list(self.chosen.layers)} if self.layers_tried else {}
        return {**layers, "clamp": self.chosen.clamp, "covariance_weight": self.chosen.covariance_weight}

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "edit": self.keys,
            "allowed": self.allowed,
            "chosen": self.points.index(self.chosen),
            "points": [{**p.as_json(self.limits), "now": self.is_now(p)} for p in self.points],
            "limits": {
                "neighborhood_drop": self.limits.neighborhood_drop,
                "perplexity_ratio": self.limits.perplexity_ratio,
            },
            "edits": len(self.kept.requests),
            "drawn": self.drawn,
            "known": self.kept.known,
            "unaskable": dict(self.kept.unaskable),
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "machine": dict(self.machine),
        }


def tune(bench: Workbench, edits: int, seed: int, space: Space) -> Tuned:
    """Try every combination of `space` on the last `edits` of the shuffle that `seed` makes, and choose.

    The model holds the base weights afterwards, whatever happens. Raises ConfigError when there are fewer edits, or
    none that the base model does not know; ModelError when layers don't fit the model; EditError when no candidate
    could be built at all.
    """
    started = time.perf_counter()
    settings = bench.settings
    bench.sentences = sentences(bench.catalogue)
    requests = counterfactual(bench.catalogue, edits, seed, settings.evaluate.neighbors, last=True)
    if not all(math.isfinite(clamp) for clamp in space.clamps):
        raise ConfigError("--clamp: a number is needed that is finite")
    clamps = tuple(sorted(set(space.clamps or (*CLAMPS, settings.edit.clamp))))
    choices = _layers(bench, space)
    limits = Limits.within(settings.gate)
    trials: _Trials | None = None
    points: list[Point] = []
    with bench.progress.stage("tune", unit="points") as task:
        count = _Count(task, len(choices) * len(clamps) * len(_grid(settings.edit)))
        for layers in choices:
            editor = bench.editor_of(settings.edit.model_copy(update={"layers": layers, "repair_rounds": 0}))
            here = bench.with_editor(editor)
            try:
                trials = trials or _Trials.begin(here, requests)
                points += _Search(here, trials, limits, count).run(clamps)
            finally:
                editor.restore()
            measured_on = machine(here)
    assert trials is not None
    if all(point.fault is not None for point in points):
        raise EditError(f"no candidate could be built with any of the settings: {points[0].fault}")
    return Tuned(
        points=tuple(points),
        chosen=choose(points, limits),
        now=(_layers(bench, Space())[0], settings.edit.clamp, settings.edit.covariance_weight),
        limits=limits,
        kept=trials.kept,
        drawn=len(requests),
        seed=seed,
        seconds=time.perf_counter() - started,
        layers_tried=bool(space.layers),
        machine=measured_on,
    )


def _layers(bench: Workbench, space: Space) -> list[tuple[int, ...]]:
    """Each choice of layers once, checked against the model before anything takes long."""
    from kbsync.edit.adapters import Adapter, critical_layers

    adapter = Adapter(bench.base.model)
    wanted = space.layers or (bench.settings.edit.layers,)
    return list(dict.fromkeys(critical_layers(adapter, one) for one in wanted))


def _grid(edit: EditSettings) -> list[float]:
    """λ around the settings' own, ascending."""
    return [edit.covariance_weight * factor for factor in (1 / FACTOR, 1.0, FACTOR, FACTOR**2)]


class _Count:
    """How many points there are to try, which grows while the search goes on."""

    def __init__(self, task: Task, total: int) -> None:
        self.task = task
        self.planned = total
        task.total(total)

    def more(self) -> None:
        """One more than was planned."""
        self.planned += 1
        self.task.total(self.planned)


@dataclass(frozen=True, slots=True)
class _Trials:
    """The edits that every point is measured on, with the base model's metrics on them and its perplexity."""

    kept: Kept
    before: Sequence[Metric]
    perplexity: float

    @classmethod
    def begin(cls, bench: Workbench, requests: Sequence[EditRequest]) -> _Trials:
        """Leave out what the base model knows, and ask it for the rest. Raises ConfigError when none is left."""
        kept = sort_out(bench, requests)
        return cls(kept, _metrics(bench, kept.requests, Phase.BEFORE), bench.base_perplexity())


class _Search:
    """The points of one choice of layers: that of the workbench's editor."""

    def __init__(self, bench: Workbench, trials: _Trials, limits: Limits, count: _Count) -> None:
        self.bench = bench
        self.trials = trials
        self.limits = limits
        self.count = count
        self.targets: dict[float, Mapping[str, Tensor]] = {}  # z by clamp, then by content hash
        self.points: list[Point] = []

    def run(self, clamps: Sequence[float]) -> list[Point]:
        """The grid; then more λ on the side where the best one lies at the edge."""
        grid = _grid(self.bench.settings.edit)
        for clamp in clamps:
            for weight in grid:
                self._try(clamp, weight)
        for _ in range(EXTENSIONS):
            best = choose(self.points, self.limits)
            tried = [p.covariance_weight for p in self.points if p.clamp == best.clamp]
            if best.covariance_weight == min(tried):
                further = best.covariance_weight / FACTOR
            elif best.covariance_weight == max(tried):
                further = best.covariance_weight * FACTOR
            else:
                break
            self.bench.progress.note(f"the best λ is the last that was tried: going on to {further:g}")
            self.count.more()
            self._try(best.clamp, further)
        return self.points

    def _try(self, clamp: float, weight: float) -> None:
        editor = self._editor(clamp, weight)
        here = self.bench.with_editor(editor)
        layers = f"layers {editor.layers[0]} to {editor.layers[-1]}"
        self.count.task.describe(f"{layers}, clamp {clamp:g}, λ {weight:g}")
        if clamp not in self.targets:
            self.targets[clamp] = trial.solve(here, self.trials.kept.requests).targets
        point = self._measure(here, Point(editor.layers, clamp, weight))
        self.points.append(point)
        self.bench.progress.note(_in_words(point))
        self.count.task.advance()

    def _editor(self, clamp: float, weight: float) -> Editor:
        editor = self.bench.editor
        changed = {"clamp": clamp, "covariance_weight": weight}
        return editor.with_settings(editor.settings.model_copy(update=changed))

    def _measure(self, here: Workbench, point: Point) -> Point:
        from kbsync.evaluate.drift import text_perplexity
        from kbsync.evaluate.metrics import value_of

        try:
            trial.rebuild(here, self.trials.kept.requests, self.targets[point.clamp])
        except EditError as error:  # settings far off; the others may do
            return replace(point, fault=str(error))
        try:
            after = _metrics(here, self.trials.kept.requests, Phase.AFTER)
            ratio = (
                text_perplexity(here.base.model, here.base.encoder, here.settings.evaluate) / self.trials.perplexity
            )
        finally:
            here.editor.restore()
        near = (
            value_of(self.trials.before, "neighborhood_success", Phase.BEFORE),
            value_of(after, "neighborhood_success"),
        )
        return replace(
            point,
            efficacy_success=value_of(after, "efficacy_success") or 0.0,
            efficacy_accuracy=value_of(after, "efficacy_accuracy") or 0.0,
            paraphrase_success=value_of(after, "paraphrase_success"),
            neighborhood_drop=near[0] - near[1] if near[0] is not None and near[1] is not None else None,
            perplexity_ratio=ratio if math.isfinite(ratio) else math.inf,
        )


def _in_words(point: Point) -> str:
    """A point as a line, which stays on the screen when the search is stopped."""
    figures = {
        "efficacy success": point.efficacy_success,
        "accuracy": point.efficacy_accuracy,
        "paraphrase success": point.paraphrase_success,
        "neighborhood drop": point.neighborhood_drop,
        "perplexity ratio": point.perplexity_ratio,
    }
    said = [f"{name} {value:.3f}" for name, value in figures.items() if value is not None]
    return f"clamp {point.clamp:g}, λ {point.covariance_weight:g}: {point.fault or ', '.join(said)}"


def _metrics(bench: Workbench, requests: Sequence[EditRequest], phase: Phase) -> list[Metric]:
    """The metrics of the model as it is now."""
    from kbsync.evaluate.metrics import summarise

    return summarise(ask(bench, requests, phase))


def parse_layers(text: str) -> tuple[int, ...]:
    """`4-8` or `4,6,8`, ascending. Raises ConfigError for anything else."""
    try:
        if "-" in text:
            first, last = (int(part) for part in text.split("-"))
            if last >= MOST_LAYERS:
                raise ValueError
            layers = list(range(first, last + 1))
        else:
            layers = sorted({int(part) for part in text.split(",")})
        if not layers or layers[0] < 0:
            raise ValueError
    except ValueError:
        raise ConfigError(f"--layers: {text!r} is neither a range such as 4-8 nor a list such as 4,6,8") from None
    return tuple(layers)
