"""The doctor's checks of the source: the endpoint, and its clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kbsync.cli.checks import Check, reading
from kbsync.cli.show import words

if TYPE_CHECKING:
    from kbsync.facts import EndpointState
    from kbsync.settings import Settings

OLD_S = 3600.0  # seconds that the endpoint's data may lag before a warning
ENDPOINT_WAIT_S = 20.0
PUBLIC_SERVICE = "wikidata.org"
SKEW_S = 60.0  # a Date has whole seconds, and proxies their own clocks


def check_endpoint(settings: Settings) -> Iterator[Check]:
    """The endpoint answers SPARQL, and its data is fresh."""
    from kbsync.source import breaker
    from kbsync.source.client import SparqlClient
    from kbsync.source.pull import window_end
    from kbsync.sync.clock import now

    source = settings.source
    state = _remembered(settings)
    if state is not None and state.open_until is not None and breaker.is_open(state, now()):
        text = f"{state.host} asked to be left alone until {words(state.open_until)} UTC: {state.reason}"
        yield Check(
            "endpoint", "fail", text, "wait until then; docs/operations.md, When the source does not answer"
        )
        return
    if PUBLIC_SERVICE in source.endpoint and not source.contact:
        text = "the public service wants to know whom to write to, and blocks clients that don't say"
        yield Check("contact", "warn", text, "set source.contact to an e-mail address or a page")
    quick = source.model_copy(update={"attempts": 1, "timeout_s": min(source.timeout_s, ENDPOINT_WAIT_S)})
    relation = next(iter(settings.watch.relations), "P36")
    newest = window_end(SparqlClient(quick), relation)
    if newest is None:
        text = f"{source.endpoint} answers, but has no item with {relation}"
        yield Check("endpoint", "warn", text, "check source.endpoint: is it a Wikidata endpoint?")
        return
    lag = (now() - newest).total_seconds()
    text = f"{source.endpoint} answers; its data is as of {words(newest)} UTC"
    if lag > OLD_S:
        yield Check(
            "endpoint", "warn", f"{text}, {lag / 3600:.1f} h behind", "newer changes come when it catches up"
        )
    else:
        yield Check("endpoint", "ok", text)


def _remembered(settings: Settings) -> EndpointState | None:
    """What the store remembers of the endpoint; asking one that wants to be left alone is how bans begin."""
    from kbsync.source.transport import place_of
    from kbsync.store import endpoints

    with reading(settings) as tx:
        return None if tx is None else endpoints.endpoint(tx, place_of(settings.source.endpoint))


def check_clock(settings: Settings) -> Iterator[Check]:
    """This machine's clock agrees with the endpoint's: windows of changes, settling times and leases go by it."""
    from kbsync.source import breaker
    from kbsync.source.clock import ahead_s
    from kbsync.sync.clock import now

    state = _remembered(settings)
    if state is not None and breaker.is_open(state, now()):
        return
    ahead = ahead_s(settings.source, min(settings.source.timeout_s, ENDPOINT_WAIT_S), now)
    if ahead is not None and abs(ahead) > SKEW_S:
        way = "ahead of" if ahead > 0 else "behind"
        text = f"the endpoint's clock is {abs(ahead):.0f} s {way} this machine's"
        yield Check("clock", "warn", text, "timedatectl set-ntp true")
    elif ahead is not None:
        yield Check("clock", "ok", "within a minute of the endpoint's")
