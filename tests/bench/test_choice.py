"""The choice among points: limits first, then what was learned, then perplexity."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kbsync.bench.choice import Limits, Point, choose
from kbsync.settings import GateSettings

LIMITS = Limits(neighborhood_drop=0.025, perplexity_ratio=1.025)
GOOD = Point((4, 5), 1.0, 600.0, 1.0, 0.9, 0.8, 0.01, 1.02)


def test_limits_are_half_of_the_gate_s() -> None:
    """The gate's defaults leave 0.05 and 1.05; a trial gets half of that."""
    limits = Limits.within(GateSettings())
    assert limits.neighborhood_drop == pytest.approx(0.025)
    assert limits.perplexity_ratio == pytest.approx(1.025)


def test_limits_are_never_laxer_than_the_gate() -> None:
    """A gate that wants perplexity to fall is not halved into one that wants less, and `off` stays off."""
    assert Limits.within(GateSettings(max_perplexity_ratio=0.9)).perplexity_ratio == 0.9
    gate = GateSettings(max_perplexity_ratio=None, max_neighborhood_drop=None)
    assert Limits.within(gate) == Limits(None, None)
    assert replace(GOOD, neighborhood_drop=0.9, perplexity_ratio=9.0).breaks(Limits.within(gate)) is None


def test_the_allowed_point_that_learned_most_wins() -> None:
    """The mean of efficacy accuracy and paraphrase success decides, and only among those that are allowed."""
    most = replace(GOOD, efficacy_accuracy=1.0, paraphrase_success=1.0)
    points = [
        replace(most, perplexity_ratio=1.03),
        replace(most, neighborhood_drop=0.03),
        GOOD,
        replace(GOOD, clamp=0.75, efficacy_accuracy=0.8, paraphrase_success=0.95),
        replace(GOOD, clamp=1.4, efficacy_accuracy=1.0, paraphrase_success=0.6),
    ]
    assert choose(points, LIMITS) is points[3]
    assert [point.breaks(LIMITS) for point in points] == ["perplexity", "neighborhood", None, None, None]


def test_the_limit_itself_is_allowed() -> None:
    """Half of the gate's drop is allowed, also when it is a difference of floats; a little more is not."""
    assert replace(GOOD, neighborhood_drop=0.125 - 0.1).breaks(LIMITS) is None
    assert replace(GOOD, neighborhood_drop=0.026).breaks(LIMITS) == "neighborhood"


def test_ties_go_to_the_lower_perplexity() -> None:
    """Of two that learned the same, the one that keeps text better, in whichever order they were tried."""
    worse, better = GOOD, replace(GOOD, clamp=0.75, perplexity_ratio=1.01)
    assert choose([worse, better], LIMITS) is better
    assert choose([better, worse], LIMITS) is better
    same = replace(GOOD, efficacy_accuracy=0.8, paraphrase_success=0.9, perplexity_ratio=1.011)
    assert choose([same, better], LIMITS) is better


def test_if_none_is_allowed_the_one_that_breaks_least() -> None:
    """What it exceeds both limits by is summed; what was learned plays no part."""
    points = [
        replace(GOOD, neighborhood_drop=0.035, perplexity_ratio=1.045, efficacy_accuracy=1.0),
        replace(GOOD, neighborhood_drop=0.05, efficacy_accuracy=0.1),
        replace(GOOD, perplexity_ratio=1.2),
    ]
    assert choose(points, LIMITS) is points[1]
    assert points[0].breaks(LIMITS) == "neighborhood and perplexity"
    assert points[0].excess(LIMITS) == pytest.approx(0.03)


def test_what_can_not_be_built_is_never_chosen() -> None:
    """A point with a fault, or with a perplexity that is no number, loses against any that was measured."""
    broken = Point((4, 5), 1.0, 1.0, fault="singular")
    wild = replace(GOOD, perplexity_ratio=math.nan)
    bad = replace(GOOD, perplexity_ratio=99.0)
    assert choose([broken, wild, bad], LIMITS) is bad
    assert broken.breaks(LIMITS) == "singular"
    assert Point((4, 5), 1.0, 1.0, fault="singular").breaks(Limits(None, None)) == "singular"
    assert choose([broken, GOOD], Limits(None, None)) is GOOD


def test_what_was_not_measured_is_not_asked() -> None:
    """Without neighbors only perplexity counts, and without paraphrases only the edits' own prompts."""
    point = replace(GOOD, neighborhood_drop=None, paraphrase_success=None)
    assert point.breaks(LIMITS) is None
    assert point.gain == 0.9
