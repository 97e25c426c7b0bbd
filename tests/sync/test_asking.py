"""A run that finds its endpoint's breaker open, and what a run leaves for the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from kbsync.errors import CircuitOpen, Throttled
from kbsync.facts import EndpointState
from kbsync.source.transport import place_of
from kbsync.store import endpoints
from kbsync.store.tables import RunStatus
from kbsync.sync.asking import asking
from kbsync.sync.clock import now
from tests.source.faults import Answer, serve
from tests.sync.rig import Rig

CURSORS = "SELECT relation, modified, item FROM cursors ORDER BY relation"
BAN = Answer(status=403, body=b"You have been banned until 2999-01-01T00:00:00Z", headers={"Retry-After": "86400"})


def test_a_ban_is_not_forgotten_by_the_next_run(rig: Rig) -> None:
    """The first run meets the ban, the next one ends as `paused` without a request; no cursor moves."""
    before = rig.rows(CURSORS)
    with serve(BAN) as faults:
        source = {"endpoint": faults.url, "attempts": 2}
        with pytest.raises(Throttled, match="banned this client until 2999"):
            rig.sync(source=source)
        assert rig.run_status()[0] == RunStatus.FAILED
        for _ in range(2):
            with pytest.raises(CircuitOpen, match="the next try is at 2") as raised:
                rig.sync(source=source)
            assert rig.run_status() == (RunStatus.PAUSED, str(raised.value))
        assert len(faults.methods) == 1
    assert rig.rows(CURSORS) == before
    ((host, refused, asked),) = rig.rows("SELECT host, refused, requests FROM endpoints WHERE refused > 0")
    assert (host, refused, asked) == (place_of(faults.url), 1, 1)


def test_another_endpoint_is_asked_all_the_same(rig: Rig) -> None:
    """A breaker belongs to its host; the run against the real server goes on."""
    with serve(BAN) as faults, pytest.raises(Throttled):
        rig.sync(source={"endpoint": faults.url})
    assert rig.sync().status is RunStatus.UNCHANGED


def test_when_the_time_is_over_the_run_asks_again_and_closes_it(rig: Rig) -> None:
    """One good answer, and nothing is held against the endpoint any more."""
    host = place_of(rig.world.endpoint)
    with rig.bench() as bench:
        past = EndpointState(host, 4, 2, now() - timedelta(seconds=1), "HTTP 429", refused=4)
        with bench.store.begin() as tx:
            endpoints.save_endpoint(tx, past, now())
    assert rig.sync().status is RunStatus.UNCHANGED
    with rig.bench() as bench, bench.store.read() as tx:
        state = endpoints.endpoint(tx, host)
    assert replace(state, requests=0, seconds_left=None, errors_left=None, budget_at=None) == EndpointState(
        host, refused=4
    )


def test_the_budget_goes_on_where_the_last_run_left_it(rig: Rig) -> None:
    """Query seconds are spent once, whichever process spent them."""
    with rig.bench() as bench:
        with asking(bench) as client:
            client.guard.admit()
            client.guard.answered(70.0)
        with asking(bench) as client:
            assert client.guard.state.seconds_left == pytest.approx(30.0, abs=5.0)
