"""Heartbeats of daemons."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kbsync.errors import StoreError
from kbsync.store import daemons
from kbsync.store.engine import Store
from tests.store.examples import NOON, later

MINUTE = timedelta(minutes=1)


def test_daemon_is_up_while_it_beats(store: Store) -> None:
    """A daemon is up until it stops, or has been silent for longer than we wait."""
    with store.begin() as tx:
        one = daemons.start(tx, "host", 7, NOON)
        daemons.beat(tx, one, later(5), later(60))
        found = daemons.latest(tx)
        assert found is not None
        assert (found.id, found.next_run_at) == (one, later(60))
        assert daemons.up(tx, later(6), MINUTE) == [found]
        assert daemons.up(tx, later(6.1), MINUTE) == []
        daemons.stop(tx, one, later(6))
        assert daemons.up(tx, later(6), MINUTE) == []


def test_latest_daemon_is_one_that_has_not_stopped(store: Store) -> None:
    """A daemon that runs is preferred to one that started later and has stopped."""
    with store.begin() as tx:
        assert daemons.latest(tx) is None
        one, two = daemons.start(tx, "host", 7, NOON), daemons.start(tx, "host", 8, later(1))
        daemons.stop(tx, two, later(2))
        assert (daemons.latest(tx) or pytest.fail("none")).id == one
        daemons.stop(tx, one, later(3))
        assert (daemons.latest(tx) or pytest.fail("none")).id == two
        with pytest.raises(StoreError, match="no daemon 9"):
            daemons.beat(tx, 9, NOON, None)
