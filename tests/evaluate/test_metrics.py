"""Means over outcomes, by prompt kind and phase."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.evaluate.metrics import NAMES, Metric, summarise, value_of
from kbsync.facts import Outcome, Phase, PromptKind


def outcome(kind: PromptKind, phase: Phase, success: bool, accuracy: bool) -> Outcome:
    """An outcome that counts."""
    return Outcome("h", phase, kind, 0, "p", "new", "old", -1.0, -2.0, success, accuracy)


OUTCOMES = st.lists(
    st.builds(outcome, st.sampled_from(list(NAMES)), st.sampled_from(list(Phase)), st.booleans(), st.booleans())
)


@given(OUTCOMES)
def test_each_metric_is_the_mean_of_its_own_outcomes(outcomes: list[Outcome]) -> None:
    """Every prompt weighs the same, and nothing is counted twice or left out."""
    metrics = summarise(outcomes)
    groups = {(o.kind, o.phase) for o in outcomes}
    assert len(metrics) == 2 * len(groups)
    for kind, phase in groups:
        own = [o for o in outcomes if (o.kind, o.phase) == (kind, phase)]
        success = value_of(metrics, f"{NAMES[kind]}_success", phase)
        assert success == pytest.approx(sum(o.success for o in own) / len(own))
        accuracy = value_of(metrics, f"{NAMES[kind]}_accuracy", phase)
        assert accuracy == pytest.approx(sum(o.accuracy for o in own) / len(own))
    assert sum(m.count for m in metrics) == 2 * len(outcomes)


def test_the_order_of_the_metrics_is_fixed() -> None:
    """Whatever order the outcomes came in."""
    outcomes = [outcome(kind, phase, True, False) for kind in NAMES for phase in Phase]
    assert summarise(outcomes) == summarise(outcomes[::-1])


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
