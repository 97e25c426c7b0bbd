"""`kbsync bench capacity`: a curve over growing live sets."""

from __future__ import annotations

import pytest

from kbsync.bench import capacity
from kbsync.bench.capacity import bench_capacity, metrics_of, sizes
from kbsync.bench.quality import Measured, bench_quality
from kbsync.bench.shares import Pair, Share
from kbsync.edit.load import Load
from kbsync.evaluate.gate import judge, passed
from kbsync.settings import GateSettings
from kbsync.sync.workbench import Workbench


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, [1]),
        (50, [50]),
        (51, [50, 51]),
        (500, [50, 100, 200, 500]),
        (2400, [50, 100, 200, 500, 1000, 2000, 2400]),
    ],
)
def test_sizes_grow_to_the_most(most: int, expected: list[int]) -> None:
    """In steps that are even on a logarithmic scale, and the most itself at the end."""
    assert sizes(most) == expected


def test_each_size_is_measured_with_the_first_edits(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every z is solved once, and a point of the curve is what `bench quality` measures with as many edits."""
    monkeypatch.setattr(capacity, "sizes", lambda most: [2, 4, most])
    solved: list[int] = []
    solve = bench.editor.solver.solve
    monkeypatch.setattr(
        bench.editor.solver,
        "solve",
        lambda part, **more: (solved.append(0 if more else len(part)), solve(part, **more))[1],
    )
    drawn, curve = bench_capacity(bench, 6, 0)
    assert [one.edits for one in curve] == [2, 4, 6]
    assert sum(solved) == 6
    assert drawn.count == 6
    _, alone = bench_quality(bench, 6, 0)
    assert curve[-1].metrics == alone.metrics
    assert curve[-1].elsewhere == alone.elsewhere
    success = curve[0].metrics["efficacy_success"].after
    assert success is not None
    assert success.count == 2
    assert sum(own["edits"] for own in curve[1].relations.values()) == 4


def test_a_part_can_speak_for_all(bench: Workbench) -> None:
    """With `ask`, each size puts all its edits in and asks about the same first ones."""
    _, curve = bench_capacity(bench, 6, 0, at=(2, 6), ask=3)
    assert [(one.edits, one.asked) for one in curve] == [(2, 2), (6, 3)]
    whole = bench_capacity(bench, 6, 0, at=(2, 6))[1]
    assert curve[0].metrics == whole[0].metrics
    assert curve[1].misses == whole[1].misses
    assert curve[1].perplexity == whole[1].perplexity
    counts = [one.metrics["efficacy_success"].after for one in (curve[1], whole[1])]
    assert [share and share.count for share in counts] == [3, 6]


def a_point(edits: int, failed: float = 0.0, drop: float = 0.0, ratio: float = 1.0) -> Measured:
    """A size of the curve with these costs; paraphrases fail at a tenth besides."""

    def pair(before: float, after: float, count: int) -> Pair:
        return Pair(Share(before, before, before, count), Share(after, after, after, count))

    metrics = {
        "efficacy_success": pair(0.2, 1 - failed, edits),
        "efficacy_accuracy": pair(0.0, 1 - failed, edits),
        "paraphrase_success": pair(0.2, 0.9 - failed, 3 * edits),
        "neighborhood_success": pair(0.7, 0.7 - drop, 4 * edits),
    }
    return Measured(edits, edits, metrics, {}, {}, (20.0, 20.0 * ratio), (0,), 0.1, Load(0.1, 0.01), 1.0, 1.0)


def a_curve(ends_at: float) -> list[Measured]:
    """A curve whose perplexity reaches 1.05 at this many edits, with everything else well within."""
    return [a_point(n, drop=0.02 * n / 2000, ratio=1.05 ** ((n / ends_at) ** 1.5)) for n in sizes(2000)]


@pytest.mark.parametrize("ends_at", [150, 320, 900])
def test_the_capacity_is_where_the_curve_reaches_the_gate(ends_at: int) -> None:
    """The fitted number is that of the curve, its rule is named, and the gate agrees on both sides of it."""
    curve = a_curve(ends_at)
    found = capacity.capacity(curve, GateSettings())
    assert found.first is not None
    assert found.first.rule == "perplexity_ratio"
    assert found.first.facts == pytest.approx(ends_at, rel=0.05)
    assert found.max_live == int(found.first.facts)
    for one in curve:
        assert passed(judge(metrics_of(one), GateSettings())) == (one.edits <= found.max_live)
    told = found.as_json()
    assert (told["facts"], told["rule"]) == (int(found.first.facts), "perplexity_ratio")
    assert told["low"] <= told["facts"] <= told["high"]


def test_nothing_beyond_what_was_measured_is_recommended() -> None:
    """A law may reach further than the curve; the setting does not, and is never 0."""
    short = capacity.capacity(a_curve(5000), GateSettings())
    assert short.first is not None
    assert short.first.facts > 2000
    assert short.max_live == 2000
    assert capacity.capacity([a_point(50)], GateSettings()).max_live == 50
    hopeless = capacity.capacity([a_point(50, ratio=90.0), a_point(100, ratio=900.0)], GateSettings())
    assert hopeless.max_live == 1


def test_of_several_rules_the_first_to_break_counts() -> None:
    """Edits that fail before perplexity rises."""
    curve = [a_point(n, failed=0.05 * (n / 300) ** 2, ratio=1.05 ** (n / 1500)) for n in sizes(1000)]
    found = capacity.capacity(curve, GateSettings())
    assert [one.rule for one in found.rules][:1] == ["efficacy_success"]
    assert found.rules[0].facts == pytest.approx(300, rel=0.1)


def test_a_measured_curve_has_its_load(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """More edits take more room; a curve of a real (tiny) model can be fitted, whatever comes out."""
    monkeypatch.setattr(capacity, "sizes", lambda most: [2, most])
    _, curve = bench_capacity(bench, 6, 0)
    assert 0 < curve[0].load.occupied < curve[1].load.occupied
    assert curve[0].load.drift > 0
    found = capacity.capacity(curve, bench.settings.gate)
    assert 1 <= found.max_live <= 6
