"""`kbsync bench covariance`: how many tokens C needs, and of what.

The same edits are put in with C of more and more tokens. z don't depend on C, so they are solved once. A count is
enough when with half of it no metric leaves its 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from kbsync.bench.asking import ask_base
from kbsync.bench.edits import sentences
from kbsync.bench.quality import Drawn, Measured, draw, measure
from kbsync.bench.shares import Share
from kbsync.errors import ConfigError
from kbsync.settings import CovarianceSettings
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    from kbsync.edit.covariance import Covariance

PERPLEXITY = "perplexity_ratio"
_PIECE = 256  # tokens of the drift text that are drawn anew together
_RESAMPLES = 1000


class _Loss(NamedTuple):
    """The mean loss of a piece of text, in nats per token, and how many tokens it was taken over."""

    nats: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Point:
    """One C and what it came to. `wanted`: its settings; `tokens` and `sources`: what it is made of, BOS included;
    `seconds`: what computing it took, None where it was on disk; `effective_rank`: the layers' mean; `drift`: the
    perplexity ratio with its interval; `moved`: the metrics that stand outside their interval with half the tokens,
    None where half was not measured."""

    wanted: CovarianceSettings
    tokens: int
    sources: Mapping[str, int]
    seconds: float | None
    effective_rank: float
    measured: Measured
    drift: Share
    moved: tuple[str, ...] | None = None

    @property
    def mix(self) -> tuple[float, float, float]:
        """The shares of facts, samples and the data set."""
        return self.wanted.facts_share, self.wanted.samples_share, self.wanted.dataset_share

    def shares(self) -> dict[str, Share]:
        """The candidate's metrics by name, those in other surroundings and the perplexity ratio among them."""
        found = {name: pair.after for name, pair in {**self.measured.metrics, **self.measured.elsewhere}.items()}
        return {**{name: share for name, share in found.items() if share is not None}, PERPLEXITY: self.drift}

    def as_json(self) -> dict[str, Any]:
        """Plain JSON: what `bench quality` gives a rebuild, and what C was."""
        return {
            "covariance": {
                "tokens": self.wanted.tokens,
                "facts_share": self.wanted.facts_share,
                "samples_share": self.wanted.samples_share,
                "dataset_share": self.wanted.dataset_share,
                "sources": dict(self.sources),
                "seconds": None if self.seconds is None else round(self.seconds, 2),
                "effective_rank": round(self.effective_rank, 2),
            },
            "moved_by_halving": None if self.moved is None else list(self.moved),
            PERPLEXITY: self.drift.as_json(),
            **self.measured.as_json(),
        }


def bench_covariance(
    bench: Workbench, edits: int, seed: int, counts: Sequence[int], mixes: Sequence[Mapping[str, float]] = ()
) -> tuple[Drawn, Sequence[Point]]:
    """Measure the first `edits` of a seeded shuffle with C of each count of tokens, in each mix.

    A mix names shares (`{"samples_share": 0.1}`); those that it does not name are 0. Without one the settings' own
    is taken. Raises ConfigError for shares that can't be and where there are too few edits, EditError where there
    is less text than the largest count.
    """
    wanted = _wanted(bench.settings.covariance, counts, mixes)
    bench.sentences = sentences(bench.catalogue)
    bench.editor.restore()
    took = {one: _covariance(bench, one).seconds for one in reversed(wanted)}  # too little text shows at once
    drawn = draw(bench, edits, seed)
    requests = drawn.kept.requests
    base = ask_base(bench, requests)
    before = _losses(bench)
    points = []
    for one in wanted:
        found = _covariance(bench, one)  # from disk by now: all at once might not fit into memory
        bench.progress.note(f"{one.tokens} tokens: {', '.join(f'{n} {name}' for name, n in found.sources.items())}")
        after: list[_Loss] = []
        look = partial(_look, bench, after)
        here = bench.with_editor(bench.editor.with_covariance(found))
        measured = measure(here, requests, base, drawn.solved.targets, look=look)
        points.append(
            Point(
                wanted=one,
                tokens=found.tokens,
                sources=found.sources,
                seconds=took[one],
                effective_rank=_effective_rank(found),
                measured=measured,
                drift=drift_of(before, after),
            )
        )
    return drawn, judged(points)


def judged(points: Sequence[Point]) -> list[Point]:
    """The points with what halving the tokens moved, where the half is among them."""
    by_size = {(point.mix, point.wanted.tokens): point for point in points}
    found = []
    for point in points:
        half = by_size.get((point.mix, point.wanted.tokens // 2))
        moved = None if half is None or point.wanted.tokens % 2 else moved_by(half, point)
        found.append(replace(point, moved=moved))
    return found


def moved_by(half: Point, whole: Point) -> tuple[str, ...]:
    """The metrics that `half` has outside the 95 % interval that `whole` has for them."""
    there = half.shares()
    return tuple(
        name
        for name, share in whole.shares().items()
        if name in there and not share.low <= there[name].value <= share.high
    )


def drift_of(before: Sequence[_Loss], after: Sequence[_Loss]) -> Share:
    """The perplexity ratio of a text, read in pieces by the base model and by the candidate, with a 95 % interval.

    Pieces are drawn anew, each with its loss before and after (a percentile bootstrap): the interval is for another
    text of the kind.
    """
    import torch

    weight = torch.tensor([tokens for _, tokens in before], dtype=torch.float64)
    change = torch.tensor([b - a for (a, _), (b, _) in zip(before, after, strict=True)], dtype=torch.float64)
    draws = torch.randint(len(change), (_RESAMPLES, len(change)), generator=torch.Generator().manual_seed(0))
    drawn = (weight * change)[draws].sum(1) / weight[draws].sum(1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).exp().tolist()
    ratio = math.exp(float((weight * change).sum() / weight.sum()))
    return Share(ratio, min(low, ratio), max(high, ratio), len(change))


def _wanted(
    own: CovarianceSettings, counts: Sequence[int], mixes: Sequence[Mapping[str, float]]
) -> list[CovarianceSettings]:
    """Settings for each mix, by growing count."""
    none = {"facts_share": 0.0, "samples_share": 0.0, "dataset_share": 0.0}
    found = []
    for mix in [{**none, **mix} for mix in mixes] or [{}]:
        dataset = {} if mix.get("dataset_share", own.dataset_share) else {"dataset": ""}
        for count in sorted(set(counts)):
            try:
                found.append(CovarianceSettings(**{**own.model_dump(), **mix, **dataset, "tokens": count}))
            except ValidationError as error:
                said = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ConfigError(f"--mix: {said}") from None
    return list(dict.fromkeys(found))


def _covariance(bench: Workbench, wanted: CovarianceSettings) -> Covariance:
    editor = bench.editor
    return bench.covariance_of(editor.adapter, editor.layers, wanted)


def _look(bench: Workbench, losses: list[_Loss]) -> None:
    losses += _losses(bench)


def _losses(bench: Workbench) -> list[_Loss]:
    """Of each piece of the drift text, with the model as it is."""
    from kbsync.lm.score import perplexity
    from kbsync.lm.text import drift_text

    model, encoder = bench.base.model, bench.base.encoder
    ids = encoder.text_ids(drift_text())[: bench.settings.evaluate.drift_tokens]
    pieces = [ids[at : at + _PIECE] for at in range(0, len(ids), _PIECE)]
    unread = encoder.bos_id is None  # the first token then has nothing before it
    return [
        _Loss(math.log(perplexity(model, piece, encoder.bos_id)), len(piece) - unread)
        for piece in pieces
        if len(piece) > unread
    ]


def _effective_rank(covariance: Covariance) -> float:
    from kbsync.edit.spectrum import effective_rank

    return sum(effective_rank(matrix) for matrix in covariance.matrices.values()) / len(covariance.matrices)
