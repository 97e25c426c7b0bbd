"""Each rule of the gate, on both sides of its threshold."""

from __future__ import annotations

import math

import pytest

from kbsync.evaluate.gate import Soundness, judge, passed, refusal, verdicts_on
from kbsync.evaluate.metrics import Metric
from kbsync.facts import Phase
from kbsync.settings import GateSettings

LOWER = ["efficacy_success", "efficacy_accuracy", "paraphrase_success"]
OFF = dict.fromkeys(GateSettings.model_fields, "off")


def after(name: str, value: float) -> Metric:
    """A metric of the candidate."""
    return Metric(name, Phase.AFTER, value, 10)


def before(name: str, value: float) -> Metric:
    """A metric of the base model."""
    return Metric(name, Phase.BEFORE, value, 10)


def only(**rule: object) -> GateSettings:
    """A gate with one rule."""
    return GateSettings(**{**OFF, **rule})


@pytest.mark.parametrize("name", LOWER)
class TestLowerBounds:
    """Rules of the form metric ≥ threshold."""

    @pytest.mark.parametrize(("value", "ok"), [(0.81, True), (0.8, True), (0.79, False), (0.0, False)])
    def test_each_side_of_the_threshold(self, name: str, value: float, ok: bool) -> None:
        """The threshold itself passes."""
        (verdict,) = judge([after(name, value)], only(**{f"min_{name}": 0.8}))
        assert verdict.passed is ok
        assert (verdict.metric, verdict.value, verdict.comparison, verdict.threshold) == (name, value, "≥", 0.8)
        assert verdict.reason == f"{name} {value:.3f} {'is' if ok else 'is not'} ≥ 0.8"

    def test_only_the_candidate_counts(self, name: str) -> None:
        """The base model's number is not taken for it."""
        (verdict,) = judge([before(name, 0.1)], only(**{f"min_{name}": 0.8}))
        assert verdict.passed
        assert verdict.value is None


class TestNeighborhood:
    """How far neighborhood success may fall under the base model's."""

    @pytest.mark.parametrize(
        ("base", "candidate", "ok"),
        [(0.75, 0.75, True), (0.75, 0.70, True), (0.75, 0.69, False), (0.5, 0.9, True), (0.3, 0.25, True)],
    )
    def test_each_side(self, base: float, candidate: float, ok: bool) -> None:
        """A drop of exactly the threshold passes, whatever binary fractions make of it."""
        metrics = [before("neighborhood_success", base), after("neighborhood_success", candidate)]
        (verdict,) = judge(metrics, only(max_neighborhood_drop=0.05))
        assert verdict.passed is ok
        assert verdict.value == pytest.approx(base - candidate)

    def test_without_neighbors_it_has_nothing_to_say(self) -> None:
        """No prompts, no verdict against the candidate."""
        (verdict,) = judge([], only(max_neighborhood_drop=0.05))
        assert verdict.passed
        assert verdict.reason == "neighborhood_drop was not measured: no prompts"


class TestPerplexity:
    """The ratio of the fixed text's perplexity."""

    @pytest.mark.parametrize(("candidate", "ok"), [(20.0, True), (21.0, True), (21.1, False), (15.0, True)])
    def test_each_side(self, candidate: float, ok: bool) -> None:
        """Candidate over base."""
        (verdict,) = judge(
            [before("perplexity", 20.0), after("perplexity", candidate)], only(max_perplexity_ratio=1.05)
        )
        assert verdict.passed is ok
        assert verdict.value == pytest.approx(candidate / 20)


@pytest.mark.parametrize(("value", "ok"), [(0.0, True), (0.05, True), (0.06, False)])
def test_retired_facts_each_side(value: float, ok: bool) -> None:
    """The share of retired objects that are favoured over the base model."""
    (verdict,) = judge([after("retired_favoured", value)], only(max_retired_favoured=0.05))
    assert verdict.passed is ok


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_fails_every_rule(value: float) -> None:
    """NaN compares with nothing, and must not pass for that."""
    names = [*LOWER, "neighborhood_success", "perplexity", "retired_favoured"]
    metrics = [after(name, value) for name in names]
    metrics += [before("neighborhood_success", 0.7), before("perplexity", 20.0)]
    verdicts = judge(metrics, GateSettings())
    assert len(verdicts) == 6
    assert not any(verdict.passed for verdict in verdicts)


def test_a_broken_base_fails_too() -> None:
    """A ratio to NaN is NaN."""
    (verdict,) = judge([before("perplexity", math.nan), after("perplexity", 20.0)], only(max_perplexity_ratio=1.05))
    assert not verdict.passed


def test_a_rule_that_is_off_is_not_checked() -> None:
    """It gives no verdict at all."""
    assert judge([after("efficacy_success", 0.0)], only()) == []
    assert passed([])


def test_no_edits_pass() -> None:
    """With nothing measured, no rule speaks against publishing."""
    verdicts = judge([], GateSettings())
    assert passed(verdicts)
    assert refusal(verdicts) == ""


def test_the_refusal_names_each_broken_rule_and_no_other() -> None:
    """With its number and its threshold, in one line."""
    metrics = [after("efficacy_success", 0.9), after("efficacy_accuracy", 0.9), after("paraphrase_success", 0.5)]
    verdicts = judge(metrics, GateSettings())
    assert not passed(verdicts)
    assert refusal(verdicts) == ("efficacy_success 0.900 is not ≥ 0.95; paraphrase_success 0.500 is not ≥ 0.8")


class TestSoundness:
    """The rules that are always on, of what is known of a candidate so far."""

    @pytest.mark.parametrize(
        ("sound", "asked"),
        [
            (Soundness(2), ["finite"]),
            (Soundness(2, wrong=[], collapsed=[]), ["finite", "read_back", "collapse"]),
            (Soundness(2, wrong=["another answer"]), ["finite", "read_back"]),
        ],
    )
    def test_what_was_not_looked_at_is_not_judged(self, sound: Soundness, asked: list[str]) -> None:
        """A rebuild has no files yet, and files that are not the candidate are asked no more; the rules with a
        threshold come before, where there are metrics."""
        assert [v.metric for v in verdicts_on(None, sound, GateSettings())] == asked
        metrics = [after("efficacy_success", 1.0)]
        verdicts = verdicts_on(metrics, sound, only(min_efficacy_success=0.9))
        assert [v.metric for v in verdicts] == ["efficacy_success", *asked]

    @pytest.mark.parametrize(
        ("sound", "rule"),
        [
            (Soundness(2, ["w holds 1 NaN", "u holds 2 NaN"]), "finite"),
            (Soundness(2, wrong=["w holds 1 NaN", "u holds 2 NaN"]), "read_back"),
            (Soundness(2, wrong=[], collapsed=["w holds 1 NaN", "u holds 2 NaN"]), "collapse"),
        ],
    )
    def test_each_fault_is_counted_and_told(self, sound: Soundness, rule: str) -> None:
        """One rule is broken, by as many as there are, whatever the thresholds say."""
        (broken,) = [v for v in verdicts_on([], sound, GateSettings()) if not v.passed]
        assert (broken.metric, broken.value, broken.comparison, broken.threshold) == (rule, 2, "≤", 0)
        assert broken.reason == "w holds 1 NaN; u holds 2 NaN"

    def test_how_far_was_looked(self) -> None:
        """As built is not as written."""
        reasons = [
            verdicts_on(None, one, GateSettings())[0].reason for one in (Soundness(2), Soundness(2, wrong=[]))
        ]
        assert reasons == [
            "all 2 tensors are finite, as built",
            "all 2 tensors are finite, as built and as written",
        ]
