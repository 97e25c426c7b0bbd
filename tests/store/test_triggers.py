"""Asking for a run."""

from __future__ import annotations

import pytest

from kbsync.errors import StoreError
from kbsync.store import triggers
from kbsync.store.engine import Store
from kbsync.store.tables import Wants
from kbsync.store.triggers import Trigger
from tests.store.examples import NOON, later, new_run


def test_one_run_answers_all_who_asked_before_it(store: Store) -> None:
    """A run takes all waiting triggers; one that comes later waits for the next run."""
    with store.begin() as tx:
        early = [triggers.request(tx, who, NOON) for who in ("a page", "a command")]
        run_id = new_run(tx, 1)
        assert triggers.take(tx, run_id) == early
        late = triggers.request(tx, "a page", later(2))
        triggers.finish(tx, run_id, later(3))
        assert triggers.state(tx, early[0]) == Trigger(early[0], NOON, "a page", run_id, later(3), Wants.SYNC)
        assert triggers.state(tx, late).done_at is None
        assert [one.id for one in triggers.waiting(tx)] == [late]
        assert triggers.take(tx, new_run(tx, 4)) == [late]
        assert triggers.waiting(tx) == []


def test_a_run_takes_what_wants_its_kind(store: Store) -> None:
    """Who asked for a reconcile waits on while a sync answers the others."""
    with store.begin() as tx:
        triggers.request(tx, "a page", NOON)
        asked = triggers.request(tx, "a page", NOON, Wants.RECONCILE)
        triggers.take(tx, new_run(tx, 1))
        assert [(one.id, one.wants) for one in triggers.waiting(tx)] == [(asked, Wants.RECONCILE)]
        assert triggers.take(tx, new_run(tx, 2), Wants.RECONCILE) == [asked]


def test_unknown_trigger_is_named(store: Store) -> None:
    """Following a trigger that does not exist is an error."""
    with store.read() as tx, pytest.raises(StoreError, match="no trigger 7"):
        triggers.state(tx, 7)
