"""The capacity curve as a picture."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import pytest

from kbsync.cli.curve import draw, figure, measured
from kbsync.cli.png import Colour

DARK, BROWN = (20, 70, 140), (170, 60, 30)


def point(edits: int, ratio: float, drop: float = 0.0, accuracy: float | None = 1.0) -> dict[str, Any]:
    """A size of the curve, as `bench capacity` prints it."""
    metrics: dict[str, Any] = {"neighborhood_success": {"before": {"value": 0.7}, "after": {"value": 0.7 - drop}}}
    if accuracy is not None:
        metrics["efficacy_accuracy"] = {"after": {"value": accuracy}}
    return {"edits": edits, "perplexity": {"ratio": ratio}, "metrics": metrics}


def result(facts: float = 140.0) -> dict[str, Any]:
    """Three sizes, with a law for perplexity."""
    law = {"floor": 0.0, "scale": 0.00035, "power": 1.0}
    rule = {"rule": "perplexity_ratio", "facts": facts, "limit": math.log(1.05), "law": law}
    return {
        "curve": [point(50, 1.01), point(100, 1.03), point(200, 1.08)],
        "capacity": {"rules": [rule]},
    }


def pixels(png: bytes) -> list[list[Colour]]:
    """A picture's rows of colours."""
    width, height = struct.unpack(">II", png[16:24])
    at = png.index(b"IDAT")
    (size,) = struct.unpack(">I", png[at - 4 : at])
    raw = zlib.decompress(png[at + 4 : at + 4 + size])
    rows = [raw[y * (3 * width + 1) + 1 : (y + 1) * (3 * width + 1)] for y in range(height)]
    return [[(row[x], row[x + 1], row[x + 2]) for x in range(0, 3 * width, 3)] for row in rows]


def test_what_was_measured_of_each_rule() -> None:
    """The gate's figure at each size; sizes without one are left out."""
    curve = [point(50, 1.01, 0.1), point(100, math.inf, 0.2, None)]
    assert measured(curve, "perplexity_ratio") == [(50, 1.01)]
    assert measured(curve, "efficacy_accuracy") == [(50, 1.0)]
    assert measured(curve, "neighborhood_drop") == [(50, pytest.approx(0.1)), (100, pytest.approx(0.2))]
    assert measured(curve, "paraphrase_success") == []


def test_a_cost_is_drawn_as_the_gates_figure() -> None:
    """A ratio, a drop, or a share that is left."""
    assert figure("perplexity_ratio", math.log(1.05)) == pytest.approx(1.05)
    assert figure("neighborhood_drop", 0.05) == 0.05
    assert figure("efficacy_success", 0.05) == 0.95


def test_a_panel_for_each_figure_that_there_is() -> None:
    """Perplexity, accuracy and neighborhood: three panels below one another, each with its points."""
    three = pixels(draw(result()))
    one = pixels(draw({**result(), "curve": [{**p, "metrics": {}} for p in result()["curve"]]}))
    assert len(three) == 3 * len(one)
    assert all(DARK in row for row in three[len(one) // 2 : len(one) // 2 + 1])


def test_the_limit_crosses_the_panel_where_the_gate_says() -> None:
    """One brown line across, between the figures of 1.03 and 1.08; an upright one where the law meets it, if that
    is within the curve."""
    rows = pixels(draw(result()))
    across = [y for y, row in enumerate(rows) if row.count(BROWN) > 500]
    assert len(across) == 1
    upright = [x for x in range(len(rows[0])) if sum(row[x] == BROWN for row in rows) > 100]
    assert len(upright) == 1
    beyond = pixels(draw(result(facts=math.inf)))
    assert not [x for x in range(len(rows[0])) if sum(row[x] == BROWN for row in beyond) > 100]


def test_one_size_and_one_figure_can_be_drawn() -> None:
    """Nothing divides by the width of nothing."""
    assert draw({"curve": [point(1, 1.0)], "capacity": {"rules": []}}).startswith(b"\x89PNG")
