"""Intervals against numbers that are known."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.evaluate.intervals import Interval, intervals, mean_interval, wilson
from kbsync.evaluate.metrics import SCORE, UNCHANGED, summarise
from kbsync.facts import Outcome, Phase, PromptKind

AFTER = Phase.AFTER


def outcome(fact: int, success: bool, kind: PromptKind = PromptKind.REWRITE, index: int = 0) -> Outcome:
    """One prompt of one fact on the candidate."""
    return Outcome(f"h{fact}", AFTER, kind, index, "p", "new", "old", -1.0, -2.0, success, accuracy=False)


def binomial(p: float, n: int, at_most: int) -> float:
    """P(X ≤ at_most) for X of n trials with chance p."""
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(at_most + 1))


class TestWilson:
    """The score interval."""

    @pytest.mark.parametrize(
        ("hits", "count", "low", "high"),
        [
            (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0000, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (29, 29, 0.8830, 1.0000),
        ],
    )
    def test_published_intervals(self, hits: int, count: int, low: float, high: float) -> None:
        """Newcombe's examples, and one turned round."""
        found = wilson(hits, count)
        assert found.low == pytest.approx(low, abs=5e-5)
        assert found.high == pytest.approx(high, abs=5e-5)

    @settings(deadline=None)
    @given(st.integers(1, 500), st.data())
    def test_it_holds_the_share_and_mirrors(self, count: int, data: st.DataObject) -> None:
        """Within 0 and 1; misses have the mirrored interval."""
        hits = data.draw(st.integers(0, count))
        found, other = wilson(hits, count), wilson(count - hits, count)
        assert 0 <= found.low <= hits / count + 1e-12
        assert hits / count - 1e-12 <= found.high <= 1
        assert found.low == pytest.approx(1 - other.high, abs=1e-12)

    @pytest.mark.parametrize(("hits", "count"), [(0, 0), (2, 1), (-1, 3)])
    def test_no_share(self, hits: int, count: int) -> None:
        """Nothing to divide is an error, not 0."""
        with pytest.raises(ValueError, match="no share"):
            wilson(hits, count)


class TestBootstrap:
    """Facts drawn anew."""

    def test_one_prompt_a_fact_gives_the_binomial_s_percentiles(self) -> None:
        """With 30 of 100 facts the draws are binomial: its 2.5 % and 97.5 % points are 21 and 39 of 100."""
        outcomes = [outcome(i, i < 30) for i in range(100)]
        found = intervals(outcomes, resamples=20_000)["efficacy_success", AFTER]
        assert binomial(0.3, 100, 20) < 0.025 < binomial(0.3, 100, 21)
        assert binomial(0.3, 100, 38) < 0.975 < binomial(0.3, 100, 39)
        assert found == Interval(pytest.approx(0.21, abs=0.0101), pytest.approx(0.39, abs=0.0101))

    def test_prompts_of_one_fact_count_together(self) -> None:
        """Four prompts that agree say no more than one: the interval is that of the facts alone."""
        alone = [outcome(i, i < 12) for i in range(40)]
        fourfold = [outcome(i, i < 12, index=k) for i in range(40) for k in range(4)]
        assert intervals(fourfold) == intervals(alone)
        apart = [outcome(4 * i + k, i < 12) for i in range(40) for k in range(4)]
        wide, narrow = (intervals(o)["efficacy_success", AFTER] for o in (fourfold, apart))
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)

    def test_the_same_seed_gives_the_same_interval(self) -> None:
        """Whatever the order of the outcomes; another seed differs a little."""
        outcomes = [outcome(i, (i + k) % 3 == 0, index=k) for i in range(60) for k in range(1 + i % 4)]
        shuffled = random.Random(1).sample(outcomes, len(outcomes))
        assert intervals(outcomes) == intervals(shuffled)
        one, other = (intervals(outcomes, seed)["efficacy_success", AFTER] for seed in (0, 1))
        assert one != other
        assert one.low == pytest.approx(other.low, abs=0.05)

    def test_where_all_agree_the_interval_is_not_a_point(self) -> None:
        """29 facts without a miss, three prompts each: Wilson's over 29, not over 87."""
        outcomes = [outcome(i, True, index=k) for i in range(29) for k in range(3)]
        found = intervals(outcomes)
        assert found["efficacy_success", AFTER] == wilson(29, 29)
        assert found["efficacy_accuracy", AFTER] == wilson(0, 29)

    def test_every_metric_of_the_summary_has_one(self) -> None:
        """Each around its value, in both phases; the score too, and the neighbors' unchanged answers."""
        kinds = (PromptKind.REWRITE, PromptKind.PARAPHRASE, PromptKind.QUESTION, PromptKind.NEIGHBORHOOD)
        draw = random.Random(2)
        outcomes = [
            replace(outcome(i, draw.random() < 0.7, kind), phase=phase, said=draw.choice(["Paris", "Lyon"]))
            for i in range(50)
            for kind in kinds
            for phase in Phase
        ]
        found, metrics = intervals(outcomes), summarise(outcomes)
        assert set(found) == {(m.name, m.phase) for m in metrics}
        assert {SCORE, UNCHANGED} <= {m.name for m in metrics}
        for metric in metrics:
            interval = found[metric.name, metric.phase]
            assert interval.low <= metric.value <= interval.high
            assert 0 < interval.high - interval.low < 0.4

    def test_the_score_of_perfect_shares_is_not_sure_either(self) -> None:
        """Between the harmonic means of the shares' bounds."""
        kinds = (PromptKind.REWRITE, PromptKind.PARAPHRASE, PromptKind.NEIGHBORHOOD)
        found = intervals([outcome(i, True, kind) for i in range(20) for kind in kinds])
        assert found[SCORE, AFTER] == Interval(pytest.approx(wilson(20, 20).low), pytest.approx(1.0))

    def test_facts_without_such_a_prompt(self) -> None:
        """Two facts of 20 have neighbors: draws without either are left out, and the rest is a share."""
        outcomes = [outcome(i, True) for i in range(20)]
        outcomes += [outcome(i, i == 0, PromptKind.NEIGHBORHOOD) for i in range(2)]
        found = intervals(outcomes)["neighborhood_success", AFTER]
        assert found == Interval(0.0, 1.0)

    def test_nothing_measured(self) -> None:
        """No outcomes, no intervals; retired facts have none."""
        assert intervals([]) == {}
        assert intervals([outcome(1, True, PromptKind.RETIRED)]) == {}


class TestMeans:
    """The interval of a mean of numbers."""

    def test_it_is_about_two_standard_errors_wide(self) -> None:
        """On either side, where there are many facts."""
        values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        found = mean_interval(values.tolist())
        error = float(values.std()) / 20
        assert found.low == pytest.approx(float(values.mean()) - 1.96 * error, abs=0.3 * error)
        assert found.high == pytest.approx(float(values.mean()) + 1.96 * error, abs=0.3 * error)

    def test_the_same_seed_draws_the_same(self) -> None:
        """And another one others."""
        values = [0.1, 0.5, 0.7, 0.9]
        assert mean_interval(values, 1, 50) == mean_interval(values, 1, 50) != mean_interval(values, 2, 50)

    def test_no_spread_and_no_values(self) -> None:
        """One fact has an interval of no width; none has none."""
        assert mean_interval([0.25]) == mean_interval([0.25, 0.25]) == Interval(0.25, 0.25)
        with pytest.raises(ValueError, match="no mean"):
            mean_interval([])
