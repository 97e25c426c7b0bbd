"""What is remembered of endpoints."""

from __future__ import annotations

from dataclasses import replace

from kbsync.facts import EndpointState
from kbsync.store import endpoints
from kbsync.store.engine import Store
from tests.store.examples import NOON, later

BANNED = EndpointState(
    "query.example.org", 5, 2, later(60), "HTTP 429", -3.25, 12.5, NOON, 125, 2**33, 7
)  # fmt: skip


def test_an_endpoint_that_was_never_asked_is_new(store: Store) -> None:
    """A full budget, a closed breaker, whole pages."""
    with store.read() as tx:
        assert endpoints.endpoint(tx, "query.example.org") == EndpointState("query.example.org")
        assert endpoints.endpoints(tx) == []


def test_a_state_comes_back_as_it_went(store: Store) -> None:
    """Every field, in both databases, also when it is written a second time and set back."""
    with store.begin() as tx:
        endpoints.save_endpoint(tx, BANNED, NOON)
    with store.read() as tx:
        assert endpoints.endpoint(tx, "query.example.org") == BANNED
    healed = replace(BANNED, refusals=0, trips=0, open_until=None, reason=None, page_size=None, seconds_left=None)
    with store.begin() as tx:
        endpoints.save_endpoint(tx, healed, later(1))
        endpoints.save_endpoint(tx, EndpointState("another.example.org"), later(1))
    with store.read() as tx:
        assert endpoints.endpoints(tx) == [EndpointState("another.example.org"), healed]
