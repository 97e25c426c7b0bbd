"""Facts that the plan holds back."""

from __future__ import annotations

from sqlalchemy import select

from kbsync.facts import Held
from kbsync.store import holds
from kbsync.store.engine import Store
from kbsync.store.tables import HoldRow
from tests.store.examples import fact, later, new_run


def test_holds_are_those_of_the_last_plan(store: Store) -> None:
    """A hold lasts while plans agree on it; one with another reason, or none, is released and kept."""
    plans = [
        [Held(fact("Q1"), "no label"), Held(fact("Q2"), "no label"), Held(fact("Q3"), "no label")],
        [Held(fact("Q1"), "no label"), Held(fact("Q2"), "beyond max_live")],
    ]
    with store.begin() as tx:
        for minute, plan in enumerate(plans):
            counts = holds.save_held(tx, new_run(tx, minute), later(minute), plan)
        assert counts == {"beyond max_live": 1, "no label": 1}
        assert holds.held_now(tx) == plans[1]
        rows = tx.scalars(select(HoldRow).order_by(HoldRow.id)).all()
        assert [(r.subject, r.reason, r.first_run, r.released_run) for r in rows] == [
            ("Q1", "no label", 1, None),
            ("Q2", "no label", 1, 2),
            ("Q3", "no label", 1, 2),
            ("Q2", "beyond max_live", 2, None),
        ]


def test_no_holds_release_all(store: Store) -> None:
    """A plan that holds nothing leaves nothing held."""
    with store.begin() as tx:
        holds.save_held(tx, new_run(tx), later(0), [Held(fact(), "no label")])
        assert holds.save_held(tx, new_run(tx, 1), later(1), []) == {}
        assert holds.held_now(tx) == []
