"""`kbsync bench covariance`: the same edits with C of more and more tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from kbsync.bench.covariance import Point, bench_covariance, drift_of, judged, moved_by
from kbsync.bench.quality import Drawn, Measured, bench_quality
from kbsync.bench.shares import Pair, Share
from kbsync.edit.load import Load
from kbsync.errors import ConfigError, EditError
from kbsync.settings import CovarianceSettings
from kbsync.sync.workbench import Workbench

COUNTS = (250, 500, 1000)


@pytest.fixture(scope="module")
def found(taking: Workbench) -> tuple[Drawn, Sequence[Point]]:
    """Six edits with three counts, of text and with samples."""
    return bench_covariance(taking, 6, 0, COUNTS, [{}, {"samples_share": 0.5}])


def test_there_is_a_point_for_each_count_and_mix(found: tuple[Drawn, Sequence[Point]]) -> None:
    """Made of what was asked for, BOS beside it, all with the same edits, each with what computing it took."""
    drawn, points = found
    assert [(p.mix[1], p.wanted.tokens) for p in points] == [(share, n) for share in (0, 0.5) for n in COUNTS]
    for point in points:
        sources = {"text"} if not point.mix[1] else {"text", "samples"}
        assert set(point.sources) == sources
        assert point.tokens == sum(point.sources.values())
        assert point.wanted.tokens < point.tokens <= point.wanted.tokens * 33 / 32 + 2
        assert point.measured.edits == len(drawn.kept.requests) == 6
        assert 1 <= point.effective_rank <= 192
    # The settings' own C (1,000 tokens of text) was on disk by then.
    assert [point.seconds is None for point in points] == [False, False, True, False, False, False]


def test_a_point_is_what_bench_quality_measures(found: tuple[Drawn, Sequence[Point]], taking: Workbench) -> None:
    """With the same C the same figures, and the perplexity ratio is the same though it was read in pieces."""
    point = found[1][2]
    _, alone = bench_quality(taking, 6, 0)
    assert point.measured.metrics == alone.metrics
    assert point.measured.elsewhere == alone.elsewhere
    assert point.drift.value == pytest.approx(alone.perplexity[1] / alone.perplexity[0], rel=1e-5)


def test_tokens_matter(found: tuple[Drawn, Sequence[Point]]) -> None:
    """Each C gives another candidate."""
    ratios = {round(point.drift.value, 9) for point in found[1]}
    assert len(ratios) == 6


def test_a_count_without_its_half_has_no_verdict(found: tuple[Drawn, Sequence[Point]]) -> None:
    """The smallest of each mix; the others have one, over their own mix."""
    assert [point.moved is None for point in found[1]] == [True, False, False] * 2
    for half, whole in zip(found[1], found[1][1:], strict=False):
        if whole.moved is not None:
            assert whole.moved == moved_by(half, whole)


def test_the_json_is_whole(found: tuple[Drawn, Sequence[Point]]) -> None:
    """What `bench quality` gives a rebuild, with what C was made of."""
    shown = json.loads(json.dumps([point.as_json() for point in found[1]], allow_nan=False))
    assert shown[0]["covariance"]["tokens"] == 250
    assert shown[4]["covariance"]["samples_share"] == 0.5
    assert shown[2]["covariance"]["seconds"] is None
    assert shown[0]["moved_by_halving"] is None
    assert isinstance(shown[1]["moved_by_halving"], list)
    assert shown[1]["perplexity_ratio"]["value"] == shown[1]["perplexity"]["ratio"]


def test_the_base_weights_are_back(found: tuple[Drawn, Sequence[Point]], taking: Workbench) -> None:
    """And the editor has the C of its settings."""
    assert taking.editor.covariance.tokens == found[1][2].tokens
    for layer in taking.editor.layers:
        assert taking.editor.adapter.read_weight(layer).equal(taking.editor._base[layer])


def test_too_little_text_shows_at_once(bench: Workbench) -> None:
    """Before anything is solved: the largest count comes first."""
    bench.editor.solver.solve = None  # type: ignore[method-assign, assignment]
    with pytest.raises(EditError, match="asks for 9000000 tokens"):
        bench_covariance(bench, 4, 0, (1000, 9_000_000))


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (
            {"facts_share": 0.7, "samples_share": 0.4},
            "--mix: facts_share, samples_share and dataset_share are more",
        ),
        ({"dataset_share": 0.5}, "--mix: dataset and dataset_share go together"),
        ({"facts_share": -1.0}, "--mix: Input should be greater than or equal to 0"),
    ],
)
def test_a_mix_that_can_not_be(mix: dict[str, float], message: str, bench: Workbench) -> None:
    """The reason in one line."""
    with pytest.raises(ConfigError, match=message):
        bench_covariance(bench, 4, 0, (1000,), [mix])


def point(tokens: int, ratio: Share, after: Share | None, facts: float = 0.0) -> Point:
    """A point with one metric."""
    measured = Measured(
        1, 1, {"score": Pair(None, after)}, {}, {}, (1.0, ratio.value), (), 0.0, Load(0.0, 0.0), 0.0, 0.0
    )
    wanted = CovarianceSettings(tokens=tokens, facts_share=facts)
    return Point(wanted, tokens, {"text": tokens}, None, 1.0, measured, ratio)


class TestMoved:
    """Half the tokens against the interval of all of them."""

    wide = Share(0.5, 0.4, 0.6, 10)
    drift = Share(1.02, 1.01, 1.03, 16)

    def test_inside_the_interval_nothing_moved(self) -> None:
        """Its bounds are inside."""
        for value in (0.4, 0.5, 0.6):
            half = point(100, replace(self.drift, value=1.01), replace(self.wide, value=value))
            assert moved_by(half, point(200, self.drift, self.wide)) == ()

    def test_outside_it_is_named(self) -> None:
        """Above and below, and the perplexity ratio too."""
        whole = point(200, self.drift, self.wide)
        assert moved_by(point(100, self.drift, replace(self.wide, value=0.39)), whole) == ("score",)
        far = point(100, replace(self.drift, value=1.04), replace(self.wide, value=0.61))
        assert moved_by(far, whole) == ("score", "perplexity_ratio")

    def test_what_one_has_not_is_not_asked(self) -> None:
        """There is nothing to compare."""
        assert moved_by(point(100, self.drift, None), point(200, self.drift, self.wide)) == ()

    def test_halves_are_found_in_their_mix(self) -> None:
        """Also where counts are not in order; an odd count has no half."""
        points = [point(n, self.drift, self.wide) for n in (200, 100, 201)]
        other = point(400, self.drift, self.wide, facts=0.1)
        assert [one.moved for one in judged([*points, other])] == [(), None, None, None]


class TestDrift:
    """The perplexity ratio's interval."""

    def test_it_is_the_ratio_of_the_whole_text(self) -> None:
        """Pieces count by their tokens."""
        before = [(2.0, 256), (3.0, 128)]
        after = [(2.1, 256), (3.4, 128)]
        found = drift_of(before, after)  # type: ignore[arg-type]
        whole = [sum(loss * n for loss, n in text) / 384 for text in (before, after)]
        assert found.value == pytest.approx(math.exp(whole[1] - whole[0]))
        assert found.low <= found.value <= found.high
        assert found.count == 2

    def test_pieces_that_agree_leave_no_doubt(self) -> None:
        """And those that differ do, the more the fewer there are."""
        same = drift_of([(2.0, 256)] * 8, [(2.1, 256)] * 8)  # type: ignore[arg-type]
        assert same.low == pytest.approx(same.high) == pytest.approx(math.exp(0.1))
        widths = []
        for times in (4, 64):
            found = drift_of([(2.0, 256)] * 2 * times, [(2.1, 256), (2.3, 256)] * times)  # type: ignore[arg-type]
            assert found.value == pytest.approx(math.exp(0.2))
            widths.append(found.high - found.low)
        assert widths[1] < widths[0] / 3
        assert widths[1] > 0
