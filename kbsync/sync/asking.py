"""The client of a run: its request budget and circuit breaker go on where the run before left them."""

from __future__ import annotations

from collections.abc import Iterator
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
    with bench.store.read() as tx:
        state = endpoints.endpoint(tx, place_of(settings.endpoint))

    def keep(state: EndpointState) -> None:
        with bench.store.begin() as tx:
            endpoints.save_endpoint(tx, state, now())
        if bench.alive is not None:
            bench.alive()

    guard = Guard(settings, state, keep)
    try:
        yield SparqlClient(settings, guard=guard)
    finally:
        if guard.state.requests > state.requests:
            guard.close()
