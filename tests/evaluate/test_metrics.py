"""Means over outcomes, by prompt kind and phase."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.evaluate.metrics import (
    NAMES,
    SCORE,
    SHARES,
    UNCHANGED,
    Metric,
    harmonic_mean,
    hits_of,
    summarise,
    value_of,
)
from kbsync.facts import Outcome, Phase, PromptKind


def outcome(kind: PromptKind, phase: Phase, success: bool, accuracy: bool) -> Outcome:
    """An outcome that counts."""
    return Outcome("h", phase, kind, 0, "p", "new", "old", -1.0, -2.0, success, accuracy)


def neighbor(phase: Phase, said: str | None, fact: str = "h", index: int = 0) -> Outcome:
    """A neighbor's answer."""
    one = outcome(PromptKind.NEIGHBORHOOD, phase, True, False)
    return replace(one, content_hash=fact, index=index, said=said)


OUTCOMES = st.lists(
    st.builds(outcome, st.sampled_from(list(NAMES)), st.sampled_from(list(Phase)), st.booleans(), st.booleans())
)


@settings(deadline=None)
@given(OUTCOMES)
def test_each_metric_is_the_mean_of_its_own_outcomes(outcomes: list[Outcome]) -> None:
    """Every prompt weighs the same, and nothing is counted twice or left out."""
    metrics = [m for m in summarise(outcomes) if m.name != SCORE]
    groups = {(o.kind, o.phase) for o in outcomes}
    assert len(metrics) == 2 * len(groups)
    for kind, phase in groups:
        own = [o for o in outcomes if (o.kind, o.phase) == (kind, phase)]
        success = value_of(metrics, f"{NAMES[kind]}_success", phase)
        assert success == pytest.approx(sum(o.success for o in own) / len(own))
        accuracy = value_of(metrics, f"{NAMES[kind]}_accuracy", phase)
        assert accuracy == pytest.approx(sum(o.accuracy for o in own) / len(own))
    assert sum(m.count for m in metrics) == 2 * len(outcomes)


@settings(deadline=None)
@given(OUTCOMES)
def test_hits_are_what_the_metrics_are_made_of(outcomes: list[Outcome]) -> None:
    """Each outcome has a part in its success and in its accuracy."""
    hits = hits_of(outcomes)
    assert {hit.metric for hit in hits} <= set(SHARES)
    for metric in summarise(outcomes):
        own = [hit.hit for hit in hits if (hit.metric, hit.phase) == (metric.name, metric.phase)]
        assert metric.name == SCORE or metric.value == pytest.approx(sum(own) / len(own))


def test_the_order_of_the_metrics_is_fixed() -> None:
    """Whatever order the outcomes came in."""
    outcomes = [outcome(kind, phase, True, False) for kind in NAMES for phase in Phase]
    assert summarise(outcomes) == summarise(outcomes[::-1])


def test_the_score_is_the_harmonic_mean_of_three_successes() -> None:
    """1, 0.5 and 0.25 have 3 / (1 + 2 + 4); accuracy and questions play no part."""
    outcomes = [outcome(PromptKind.REWRITE, Phase.AFTER, True, False)]
    outcomes += [outcome(PromptKind.PARAPHRASE, Phase.AFTER, hit, True) for hit in (True, False)]
    outcomes += [outcome(PromptKind.NEIGHBORHOOD, Phase.AFTER, i == 0, True) for i in range(4)]
    outcomes += [outcome(PromptKind.QUESTION, Phase.AFTER, False, False)]
    (score,) = [m for m in summarise(outcomes) if m.name == SCORE]
    assert score == Metric(SCORE, Phase.AFTER, pytest.approx(3 / 7), 7)


@pytest.mark.parametrize("missing", [PromptKind.REWRITE, PromptKind.PARAPHRASE, PromptKind.NEIGHBORHOOD])
def test_no_score_without_all_three(missing: PromptKind) -> None:
    """Two of them are not comparable with three."""
    outcomes = [outcome(kind, Phase.AFTER, True, True) for kind in NAMES if kind is not missing]
    assert value_of(summarise(outcomes), SCORE) is None


def test_the_harmonic_mean_of_published_figures() -> None:
    """GPT-J with 10,000 edits: 98.9, 88.6 and 73.7 have a score of 85.8 (MEMIT, table 2); a zero gives zero."""
    assert harmonic_mean([98.9, 88.6, 73.7]) == pytest.approx(85.8, abs=0.05)
    assert harmonic_mean([1.0, 0.0, 1.0]) == 0


def test_unchanged_answers_are_counted_per_neighbor() -> None:
    """The candidate's answer beside the base model's at the same prompt, whether right or wrong."""
    before = [neighbor(Phase.BEFORE, "Paris, the city"), neighbor(Phase.BEFORE, "a city", index=1)]
    before += [neighbor(Phase.BEFORE, "Rome", fact="i")]
    after = [neighbor(Phase.AFTER, "Paris. It is"), neighbor(Phase.AFTER, "a town", index=1)]
    after += [neighbor(Phase.AFTER, "Rome", fact="i")]
    metrics = summarise([*before, *after])
    assert [m for m in metrics if m.name == UNCHANGED] == [Metric(UNCHANGED, Phase.AFTER, pytest.approx(2 / 3), 3)]


@pytest.mark.parametrize(
    "outcomes",
    [
        [neighbor(Phase.AFTER, "Paris")],
        [neighbor(Phase.BEFORE, None), neighbor(Phase.AFTER, "Paris")],
        [neighbor(Phase.BEFORE, "Paris"), neighbor(Phase.AFTER, None)],
        [neighbor(Phase.BEFORE, "Paris", index=1), neighbor(Phase.AFTER, "Paris")],
    ],
)
def test_an_answer_that_is_not_known_is_not_counted(outcomes: list[Outcome]) -> None:
    """Neither as changed nor as unchanged."""
    assert value_of(summarise(outcomes), UNCHANGED) is None


def test_retired_facts_are_no_edits() -> None:
    """They have their own count and are in none of these means."""
    assert PromptKind.RETIRED not in NAMES
    assert summarise([outcome(PromptKind.RETIRED, Phase.AFTER, False, False)]) == []


def test_every_kind_of_edit_prompt_has_a_name() -> None:
    """A kind that is added must be named or left out on purpose."""
    assert set(NAMES) | {PromptKind.RETIRED} == set(PromptKind)


def test_a_metric_that_was_not_measured_is_none() -> None:
    """Not zero; and the phase matters."""
    metrics = [Metric("perplexity", Phase.BEFORE, 7.0, 1)]
    assert value_of(metrics, "perplexity", Phase.BEFORE) == 7.0
    assert value_of(metrics, "perplexity") is None
