"""The client of a run: its request budget and circuit breaker go on where the run before left them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kbsync.facts import EndpointState
from kbsync.source.client import SparqlClient
from kbsync.source.guard import Guard
from kbsync.source.transport import place_of
from kbsync.store import endpoints
from kbsync.sync.clock import now
from kbsync.sync.workbench import Workbench


@contextmanager
def asking(bench: Workbench) -> Iterator[SparqlClient]:
    """A client of `source.endpoint` that must not be used inside a write transaction of the store.

    What its guard learns is written down as it goes, and at the end.
    """
    settings = bench.settings.source
    guard = guard_of(bench, settings.endpoint, bench.alive)
    asked = guard.state.requests
    try:
        yield SparqlClient(settings, guard=guard)
    finally:
        if guard.state.requests > asked:
            guard.close()


def guard_of(bench: Workbench, url: str, then: Callable[[], None] | None = None) -> Guard:
    """The budget and the breaker of an endpoint, kept in the store; `then` is called each time they were kept."""
    with bench.store.read() as tx:
        state = endpoints.endpoint(tx, place_of(url))

    def keep(state: EndpointState) -> None:
        with bench.store.begin() as tx:
            endpoints.save_endpoint(tx, state, now())
        if then is not None:
            then()

    return Guard(bench.settings.source, state, keep)
