"""The largest live set at which each rule holds: laws fitted to curves whose answer is known."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.evaluate.capacity import Estimate, Measured, Sample, estimate, estimates, fit, limits_of, sample_of
from kbsync.evaluate.gate import judge, passed
from kbsync.evaluate.metrics import Metric
from kbsync.facts import Phase
from kbsync.settings import GateSettings

SIZES = (50, 100, 200, 500, 1000)
PERPLEXITY, PARAPHRASE = "perplexity_ratio", "paraphrase_success"


def curve(
    sizes: Sequence[int], scale: float, power: float, floor: float = 0.0, error: float = 0.001
) -> list[Sample]:
    """Samples that lie on a law."""
    return [Sample(n, floor + scale * n**power, error) for n in sizes]


def found(rule: str, samples: Sequence[Sample], limit: float) -> Estimate:
    one = estimate(rule, samples, limit)
    assert one is not None
    return one


def metrics(success: float = 1.0, drop: float = 0.0, ratio: float = 1.0, facts: int = 100) -> list[Metric]:
    """What a live set came to: all three shares of its own edits alike."""
    after, before = Phase.AFTER, Phase.BEFORE
    return [
        *(Metric(f"{n}_success", after, success, facts) for n in ("efficacy", "paraphrase")),
        Metric("efficacy_accuracy", after, success, facts),
        Metric("neighborhood_success", before, 0.7, 4 * facts),
        Metric("neighborhood_success", after, 0.7 - drop, 4 * facts),
        Metric("perplexity", before, 20.0, 4000),
        Metric("perplexity", after, 20.0 * ratio, 4000),
    ]


class TestLaw:
    """cost(n) = floor + scale · nᵖ."""

    @settings(max_examples=30, deadline=None)
    @given(power=st.sampled_from([0.4, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0]), at_500=st.floats(0.05, 2.0))
    def test_a_law_through_zero_is_found_again(self, power: float, at_500: float) -> None:
        """From the samples that lie on it."""
        scale = at_500 / 500**power
        floor, fitted, p = fit(curve(SIZES, scale, power), floored=False)
        assert floor == 0
        assert p == pytest.approx(power, abs=0.051)
        assert fitted * 300**p == pytest.approx(scale * 300**power, rel=0.02)

    @settings(max_examples=30, deadline=None)
    @given(floor=st.floats(0.02, 0.3), at_500=st.floats(0.1, 0.5))
    def test_so_is_a_floor(self, floor: float, at_500: float) -> None:
        """A share of paraphrases is not followed however few the edits are."""
        found_floor, scale, power = fit(curve(SIZES, at_500 / 500**1.5, 1.5, floor, 1e-4), floored=True)
        assert found_floor == pytest.approx(floor, rel=0.1, abs=0.005)
        assert scale * 500**power == pytest.approx(at_500, rel=0.1)

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(
            st.builds(Sample, st.integers(1, 5000), st.floats(-0.5, 2.0), st.floats(0.001, 0.2)),
            min_size=1,
            max_size=8,
        ),
        st.booleans(),
    )
    def test_no_law_ever_falls(self, samples: list[Sample], floored: bool) -> None:
        """Whatever the samples are, more facts never cost less."""
        floor, scale, power = fit(samples, floored)
        assert floor >= 0
        assert scale >= 0
        assert 0.25 <= power <= 4
        assert all(math.isfinite(number) for number in (floor, scale, power))

    def test_one_live_set_leaves_the_power_open(self) -> None:
        """Then it lies between each edit for itself and each pair of edits, and the interval says so."""
        _, _, power = fit([Sample(100, 0.02, 0.0005)], floored=False)
        assert power == pytest.approx(1.5)
        one = found(PERPLEXITY, [Sample(100, 0.02, 0.0005)], 0.04)
        assert one.facts == pytest.approx(100 * 2 ** (1 / 1.5), rel=0.01)
        assert one.low < 100 * 2 ** (1 / 1.8)
        assert one.high > 100 * 2 ** (1 / 1.2)


class TestEstimate:
    """Where a law meets its limit."""

    @pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.5])
    def test_the_limit_of_a_known_law(self, power: float) -> None:
        """Between the sizes that were measured, and inside its own interval."""
        one = found(PERPLEXITY, curve(SIZES, 0.05 / 300**power, power), 0.05)
        assert one.facts == pytest.approx(300, rel=0.03)
        assert one.low <= one.facts <= one.high
        assert (one.holds_at, one.breaks_at) == (200, 500)
        floor, scale, p = one.law
        assert floor + scale * 300**p == pytest.approx(one.limit, rel=0.1)

    def test_beyond_what_was_measured(self) -> None:
        """The law goes on, with an interval that is wider than inside."""
        inside = found(PERPLEXITY, curve(SIZES, 0.05 / 300**1.5, 1.5), 0.05)
        beyond = found(PERPLEXITY, curve(SIZES[:3], 0.05 / 900**1.5, 1.5), 0.05)
        assert beyond.facts == pytest.approx(900, rel=0.1)
        assert beyond.breaks_at is None
        assert beyond.high / beyond.low > inside.high / inside.low

    def test_a_floor_below_the_limit_and_above(self) -> None:
        """A floor over the limit leaves room for nothing; one under it only counts what grows."""
        below = curve(SIZES, 0.1 / 400, 1.0, 0.05, 0.002)
        assert found(PARAPHRASE, below, 0.15).facts == pytest.approx(400, rel=0.05)
        assert found(PARAPHRASE, curve(SIZES, 0.1 / 400, 1.0, 0.3, 0.002), 0.2).facts < 50

    def test_what_was_measured_has_the_last_word(self) -> None:
        """However the law lies, a size that kept the rule is held and one that broke it is not."""
        odd = [
            Sample(100, 0.001, 0.001),
            Sample(200, 0.049, 0.001),
            Sample(210, 0.2, 0.001),
            Sample(900, 0.3, 0.001),
        ]
        assert 200 <= found(PERPLEXITY, odd, 0.05).facts <= 209
        mixed = [Sample(100, 0.06, 0.001), Sample(300, 0.04, 0.001)]
        assert 99 <= found(PERPLEXITY, mixed, 0.05).facts <= 300

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(1, 2000), st.floats(0.0, 0.5)), min_size=1, max_size=6),
        st.floats(0.01, 0.5),
        st.randoms(use_true_random=False),
    )
    def test_it_is_a_function_of_the_samples(
        self, points: list[tuple[int, float]], limit: float, rng: random.Random
    ) -> None:
        """Their order plays no part, a looser limit never gives less, and the interval holds the estimate."""
        samples = [Sample(n, cost, 0.004) for n, cost in points]
        one = estimate(PERPLEXITY, samples, limit)
        shuffled = list(samples)
        rng.shuffle(shuffled)
        assert estimate(PERPLEXITY, shuffled, limit) == one
        if one is not None:
            assert one.low <= one.facts <= one.high
            looser = estimate(PERPLEXITY, samples, 2 * limit)
            assert looser is not None
            assert looser.facts >= one.facts - 1

    @pytest.mark.parametrize(
        ("rule", "samples"),
        [
            (PERPLEXITY, []),
            (PERPLEXITY, [Sample(50, 0.0005, 0.001)]),
            (PERPLEXITY, [Sample(50, -0.01, 0.001), Sample(100, 0.0, 0.001)]),
            ("efficacy_accuracy", [Sample(10, 0.2, 0.13)]),
            (PARAPHRASE, [Sample(100, 0.1, 0.01)]),
            (PARAPHRASE, [Sample(100, 0.1, 0.01), Sample(190, 0.15, 0.01)]),
        ],
    )
    def test_what_can_not_be_told(self, rule: str, samples: list[Sample]) -> None:
        """Nothing measured, nothing surely above 0, or a floor that sizes alike can't tell from a slope."""
        assert estimate(rule, samples, 0.05) is None

    def test_a_cost_that_does_not_grow(self) -> None:
        """Paraphrases that fail alike at every size leave room without end."""
        flat = [Sample(n, 0.1, 0.005) for n in SIZES]
        one = found(PARAPHRASE, flat, 0.2)
        assert (one.facts, one.high) == (math.inf, math.inf)
        assert one.holds_at == 1000


class TestRules:
    """From metrics and thresholds to costs and limits."""

    def test_each_rule_of_the_gate_that_grows_has_its_cost(self) -> None:
        """A live set whose costs are within all limits passes the gate, and one over any of them does not."""
        gate = GateSettings()
        limits = limits_of(gate)
        assert set(limits) == {
            "efficacy_success", "efficacy_accuracy", "paraphrase_success", "neighborhood_drop", "perplexity_ratio"
        }  # fmt: skip
        for made in (
            metrics(),
            metrics(success=0.94),
            metrics(drop=0.06),
            metrics(ratio=1.06),
            metrics(success=0.7),
        ):
            samples = {rule: sample_of(rule, Measured(100, made)) for rule in limits}
            within = all(one is not None and one.cost <= limits[rule] + 1e-9 for rule, one in samples.items())
            assert within == passed(judge(made, gate))

    def test_a_rule_that_is_off_or_can_not_be_kept_has_none(self) -> None:
        """Off is no limit; a ratio of 1 or less and a share of 1 allow no cost at all."""
        gate = GateSettings(
            min_efficacy_success=1.0, min_efficacy_accuracy=None, min_paraphrase_success=0.8,
            max_neighborhood_drop=0.0, max_perplexity_ratio=0.5,
        )  # fmt: skip
        assert limits_of(gate) == {"paraphrase_success": pytest.approx(0.2)}

    def test_what_was_not_measured_or_is_no_number(self) -> None:
        """It is left out, and so is a live set without facts."""
        assert sample_of(PERPLEXITY, Measured(10, [])) is None
        assert sample_of(PERPLEXITY, Measured(10, metrics(ratio=math.nan))) is None
        assert sample_of(PERPLEXITY, Measured(10, metrics(ratio=math.inf))) is None
        assert sample_of("neighborhood_drop", Measured(10, metrics()[:3])) is None
        assert sample_of("efficacy_accuracy", Measured(0, metrics())) is None

    def test_the_rule_that_binds_comes_first(self) -> None:
        """Of several estimates the smallest is first."""
        sizes = {50: (0.99, 1.01), 200: (0.97, 1.06), 400: (0.93, 1.2)}
        live_sets = [Measured(n, metrics(success=s, ratio=r, facts=n)) for n, (s, r) in sizes.items()]
        rules = estimates(live_sets, GateSettings())
        assert rules[0].rule == PERPLEXITY
        assert 50 <= rules[0].facts < 200
        assert [one.facts for one in rules] == sorted(one.facts for one in rules)
