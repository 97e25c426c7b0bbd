"""`kbsync bench capacity`: a curve over growing live sets."""

from __future__ import annotations

import pytest

from kbsync.bench import capacity
from kbsync.bench.capacity import bench_capacity, sizes
from kbsync.bench.quality import bench_quality
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
