"""The ledger of changes: each ends in a named outcome."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from kbsync.store import changes, mirror
from kbsync.store.engine import Store
from tests.store.examples import fact, later, new_run, page, statement


@pytest.fixture
def moved(store: Store) -> Store:
    """Q30 had Q7 at first, then Q8, then nothing; Q31 has Q7."""
    with store.begin() as tx:
        mirror.apply(tx, new_run(tx), later(0), page([statement(1, "Q7"), statement(1, "Q7", "Q31")]), True)
        mirror.apply(tx, new_run(tx, 1), later(1), page([statement(1, "Q8")]), False)
        mirror.apply(tx, new_run(tx, 2), later(2), page(gone=[("Q30-1", "deleted")]), False)
    return store


def outcomes(tx: Session) -> list[tuple[str, str, str]]:
    """Kind, object and outcome of all changes, oldest first."""
    return [
        (str(c.change.kind), (c.change.new or c.change.old or fact().value).text, c.outcome)
        for c in reversed(changes.changes_of(tx))
    ]


def test_outcome_lands_on_the_change_that_brought_the_fact_or_took_it(moved: Store) -> None:
    """A retired fact's outcome goes to its retirement, a live one's to its arrival, and no other row moves."""
    with moved.begin() as tx:
        before = outcomes(tx)
        assert changes.settle(tx, {fact(value="Q8"): "retired", fact("Q31", "Q7"): "edited"}) == 2
        after = outcomes(tx)
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        (("added", "Q7", "baseline"), ("added", "Q7", "edited")),
        (("retired", "Q8", "pending"), ("retired", "Q8", "retired")),
    ]


def test_settling_again_moves_nothing(moved: Store) -> None:
    """An outcome that is there already, and a fact that nobody knows, are no work."""
    with moved.begin() as tx:
        changes.settle(tx, {fact("Q31", "Q7"): "known"})
        assert changes.settle(tx, {fact("Q31", "Q7"): "known", fact("Q99"): "edited"}) == 0
        assert changes.settle(tx, {}) == 0


def test_outcomes_stay_with_the_run_that_found_the_change(moved: Store) -> None:
    """The changes of a run are those it found, whoever settled them."""
    with moved.read() as tx:
        assert [one.outcome for one in changes.changes_of(tx, run_id=1)] == ["baseline", "baseline"]
        assert sorted(one.outcome for one in changes.changes_of(tx, run_id=2)) == ["pending", "superseded"]
        assert len(changes.changes_of(tx, run_id=2)) == 2
        assert len(changes.changes_of(tx, limit=1)) == 1


def test_the_rest_is_named_too(moved: Store) -> None:
    """After a plan no change is pending but those of facts that it wants or holds."""
    with moved.begin() as tx:
        mirror.apply(tx, new_run(tx, 3), later(3), page([statement(2, "Q9"), statement(2, "Q6", "Q31")]), False)
        assert changes.settle_the_rest(tx, {fact(value="Q9")}) == {fact(value="Q9")}
        told = outcomes(tx)
        assert [row for row in told if row[0] == "retired"] == [
            ("retired", "Q7", "retired"),
            ("retired", "Q8", "retired"),
        ]
        assert ("added", "Q9", "pending") in told
        assert ("added", "Q6", "not current") in told
        assert changes.settle_the_rest(tx, {fact(value="Q9")}) == {fact(value="Q9")}
        assert outcomes(tx) == told
