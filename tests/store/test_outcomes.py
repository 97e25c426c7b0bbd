"""What each edit did, as rows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sqlalchemy import text

from kbsync.facts import Outcome, Phase, PromptKind
from kbsync.store import outcomes, requests
from kbsync.store.engine import Store
from kbsync.store.outcomes import Metric, Verdict
from tests.store.examples import NOON, edit_request, new_run

REQUEST = edit_request()


def outcome(phase: Phase = Phase.AFTER, index: int = 0, logp: float = -0.5, **more: object) -> Outcome:
    """An outcome at the rewrite prompt of the one request."""
    one = Outcome(
        REQUEST.content_hash, phase, PromptKind.REWRITE, index, "p", "new", "old", logp, -2.0, True, False, "s"
    )
    return replace(one, **more)  # type: ignore[arg-type]


@pytest.fixture
def request_id(store: Store) -> int:
    """The one request of these tests, in run 1."""
    with store.begin() as tx:
        return requests.save_requests(tx, new_run(tx), NOON, [REQUEST])[0]


def save(store: Store, run_id: int, request_id: int, *many: Outcome) -> None:
    with store.begin() as tx:
        outcomes.save_outcomes(tx, run_id, many, {REQUEST.content_hash: request_id})


def test_outcomes_come_back_as_they_were_measured(store: Store, request_id: int) -> None:
    """All fields survive, absent ones and NaN too."""
    bare = outcome(index=1, target_old=None, logp_old=None, said=None)
    save(store, 1, request_id, outcome(), bare, outcome(Phase.BEFORE), outcome(index=2, logp=math.nan))
    with store.read() as tx:
        found = outcomes.outcomes_of(tx, 1, Phase.AFTER)
        assert found[:2] == [outcome(), bare]
        assert math.isnan(found[2].logp_new)
        assert len(outcomes.outcomes_of(tx, 1)) == 4


def test_probabilities_stand_beside_their_logarithms(store: Store, request_id: int) -> None:
    """SQL that has no exp() can read the probability per token."""
    save(store, 1, request_id, outcome(logp=math.log(0.25)))
    with store.read() as tx:
        p_new, p_old = tx.execute(text("SELECT p_new, p_old FROM outcomes")).one()
    assert (p_new, p_old) == pytest.approx((0.25, math.exp(-2)))


def test_last_evaluation_of_a_run_counts(store: Store, request_id: int) -> None:
    """An evaluation that is repeated replaces its phase's rows, and leaves the other phase's alone."""
    save(store, 1, request_id, outcome(), outcome(index=1), outcome(Phase.BEFORE))
    save(store, 1, request_id, outcome(logp=-0.1))
    with store.read() as tx:
        assert outcomes.outcomes_of(tx, 1) == [outcome(logp=-0.1), outcome(Phase.BEFORE)]


def test_outcome_of_an_unknown_request_is_an_error(store: Store, request_id: int) -> None:
    """An outcome that belongs to no request is not dropped in silence."""
    stray = outcome(content_hash="0" * 64)
    with pytest.raises(KeyError):
        save(store, 1, request_id, stray)


def test_latest_outcomes_are_of_the_same_base_model(store: Store, request_id: int) -> None:
    """The last run that measured them on this base model answers; other models' and phases' don't."""
    with store.begin() as tx:
        second = new_run(tx, 1)
    save(store, 1, request_id, outcome(Phase.BEFORE, logp=-9), outcome(Phase.BEFORE, 1))
    save(store, second, request_id, outcome(Phase.BEFORE, logp=-1), outcome(Phase.AFTER))
    with store.read() as tx:
        found = outcomes.latest_outcomes(tx, [request_id, 99], Phase.BEFORE, "base")
        assert found == {request_id: [outcome(Phase.BEFORE, logp=-1)]}
        assert outcomes.latest_outcomes(tx, [request_id], Phase.BEFORE, "another") == {}


def test_latest_outcomes_are_told_apart_by_kind(store: Store, request_id: int) -> None:
    """A later run that asked only whether a retired fact lingers does not hide what was measured before."""
    with store.begin() as tx:
        second = new_run(tx, 1)
    lingering = outcome(Phase.BEFORE, kind=PromptKind.RETIRED)
    save(store, 1, request_id, outcome(Phase.BEFORE))
    save(store, second, request_id, lingering)
    with store.read() as tx:
        found = outcomes.latest_outcomes(tx, [request_id], Phase.BEFORE, "base")
        assert found == {request_id: [lingering, outcome(Phase.BEFORE)]}


def test_metrics_and_verdicts_are_those_saved_last(store: Store, request_id: int) -> None:
    """A run's metrics and verdicts come back, and saving again replaces them."""
    metrics = [Metric("efficacy_success", "after", 0.9, 10), Metric("efficacy_success", "before", 0.1, 10)]
    verdicts = [
        Verdict("perplexity_ratio", 1.2, 1.05, "≤", False, "too much drift"),
        Verdict("efficacy_success", None, 0.95, "≥", True, None),
    ]
    with store.begin() as tx:
        outcomes.save_metrics(tx, 1, [Metric("perplexity", "after", 1.0, 1)])
        outcomes.save_metrics(tx, 1, metrics)
        outcomes.save_verdicts(tx, 1, verdicts[:1])
        outcomes.save_verdicts(tx, 1, verdicts)
        assert outcomes.metrics_of(tx, 1) == metrics
        assert outcomes.verdicts_of(tx, 1) == verdicts


def test_metrics_are_added_to_those_that_are_there(store: Store) -> None:
    """Another name is another row; the same name and phase takes the new value."""
    with store.begin() as tx:
        run_id = new_run(tx)
        outcomes.save_metrics(tx, run_id, [Metric("score", "after", 0.5, 3)])
        outcomes.add_metrics(tx, run_id, [Metric("capacity", "after", 120.0, 80)])
        outcomes.add_metrics(tx, run_id, [Metric("capacity", "after", 110.0, 90)])
    with store.read() as tx:
        assert outcomes.metrics_of(tx, run_id) == [
            Metric("capacity", "after", 110.0, 90),
            Metric("score", "after", 0.5, 3),
        ]
