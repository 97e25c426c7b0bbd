"""Server-sent events, what they mean, and a stream that is cut, refuses, and has gaps: over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.errors import BadAnswer, CircuitOpen, EndpointDown, Throttled
from kbsync.facts import EndpointState, Touch
from kbsync.settings import SourceSettings
from kbsync.source.guard import Guard
from kbsync.source.mutations import Known, Mutation, decode, is_settled, judge
from kbsync.source.sse import Message, messages
from kbsync.source.stream import Gap, MutationStream
from kbsync.source.transport import place_of
from tests.source.events import event, replay, since_of
from tests.source.faults import Answer, serve

Make = Callable[..., SourceSettings]
T0 = datetime(2024, 1, 1, tzinfo=UTC)
NOTHING = Known({}, {}, {})

BODY = (
    b":ok\n\nevent: message\nid: 1\ndata: one\n\n"
    b"data: two\ndata:lines\r\n\r\nid: 3\n\nid\ndata\n\ndata: \xe2\x98\x83\rid: 5\r\r"
    b"event: odd\ndata: x\n\ndata: half"
)
FOUND = [
    Message("1", "message", "one"),
    Message("1", "message", "two\nlines"),
    Message("", "message", ""),
    Message("5", "message", "☃"),
    Message("5", "odd", "x"),
]


@given(st.lists(st.integers(0, len(BODY)), max_size=20))
def test_events_do_not_depend_on_how_the_bytes_come(cuts: list[int]) -> None:
    """Comments, ids, several data lines and all three line ends, cut anywhere; half an event is none."""
    edges = sorted({0, len(BODY), *cuts})
    blocks = [BODY[a:b] for a, b in pairwise(edges)]
    assert list(messages(blocks)) == FOUND


@pytest.mark.parametrize("block", [b"data: xxxxx\n", b"data: xxxxx"])
def test_an_event_without_an_end_is_refused(block: bytes) -> None:
    """Neither one endless line nor endlessly many fill the memory."""
    with pytest.raises(BadAnswer, match="over 1000 bytes"):
        list(messages([block] * 1000, most=1000))


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (event("Q1", 1, domain="canary"), "filtered: canary"),
        (event("P6", 1), "filtered: not an item"),
        (event("L6", 1), "filtered: not an item"),
        (event("Q1", 1, "explode"), "filtered: unknown operation"),
        (event("Q01", 1), "filtered: malformed event"),
        (event("Q1", -1), "filtered: malformed event"),
        (event("Q1", 1, dt="soon"), "filtered: malformed event"),
        (event("Q1", 1).replace('"rev_id": 1', '"rev_id": "1"'), "filtered: malformed event"),
        (event("Q1", 1).replace('"rev_id": 1', '"rev_id": true'), "filtered: malformed event"),
        (event("Q1", 1).replace('"entity_id"', '"entity"'), "filtered: malformed event"),
        ("{", "filtered: malformed event"),
        ("[]", "filtered: malformed event"),
        ('{"meta": 3}', "filtered: malformed event"),
        ("[" * 100_000, "filtered: malformed event"),
    ],
)
def test_what_is_no_mutation_of_an_item_is_named(data: str, outcome: str) -> None:
    """Canaries, other entities and malformed events end in an outcome, never in a traceback."""
    assert decode(data) == outcome


def test_all_properties_that_an_event_names_are_found() -> None:
    """In any role and in either way of writing an IRI; not inside other words."""
    text = '<http://www.wikidata.org/prop/P6> p:P35 "xP7 P8x QP9 P01" ; pq:P582 wds:Q1-P1-2 ; ps:P1308.'
    found = decode(event("Q1", 7, added=text, deleted="wdt:P169 wd:Q2 ."))
    assert found == Mutation("Q1", 7, "diff", T0, frozenset({"P6", "P35", "P582", "P1", "P1308", "P169"}))


def mutation(revision: int, operation: str = "diff", minute: int = 0, *properties: str) -> Mutation:
    """An event of Q1."""
    return Mutation("Q1", revision, operation, T0 + timedelta(minutes=minute), frozenset(properties))


def touch(revision: int, operation: str = "diff", minute: int = 0) -> Touch:
    """A touch of Q1 by such an event."""
    return Touch("P6", "Q1", revision, operation, T0 + timedelta(minutes=minute), T0)


TRACKED = {"Q1": frozenset({"P6"})}


@pytest.mark.parametrize(
    ("known", "one", "outcome"),
    [
        (NOTHING, mutation(5), "filtered: not watched"),
        (NOTHING, mutation(5, "diff", 0, "P7"), "filtered: not watched"),
        (NOTHING, mutation(5, "diff", 0, "P6"), "touched"),
        (NOTHING, mutation(5, "delete", 0), "filtered: not watched"),
        (Known(TRACKED, {("P6", "Q1"): 4}, {}), mutation(5), "touched"),
        (Known(TRACKED, {("P6", "Q1"): 5}, {}), mutation(5), "duplicate"),
        (Known(TRACKED, {("P6", "Q1"): 6}, {}), mutation(5), "older"),
        (Known(TRACKED, {("P6", "Q1"): 5}, {}), mutation(5, "delete"), "touched"),
        (Known(TRACKED, {("P6", "Q1"): 6}, {}), mutation(5, "delete"), "older"),
        (Known(TRACKED, {("P6", "Q1"): 5}, {}), mutation(5, "reconcile"), "touched"),
        (Known(TRACKED, {("P6", "Q1"): 5}, {}), mutation(5, "import"), "duplicate"),
        (Known({}, {("P6", "Q1"): 5}, {}), mutation(5, "import", 0, "P6"), "touched"),  # restored
        (Known({}, {("P6", "Q1"): 5}, {}), mutation(5, "diff", 0, "P6"), "duplicate"),
        (Known({}, {}, {("P6", "Q1"): touch(5)}), mutation(5), "duplicate"),
        (Known({}, {}, {("P6", "Q1"): touch(5)}), mutation(4), "older"),
        (Known({}, {}, {("P6", "Q1"): touch(5)}), mutation(6), "touched"),
        (Known({}, {}, {("P6", "Q1"): touch(5)}), mutation(5, "delete", 1), "touched"),
        (Known({}, {}, {("P6", "Q1"): touch(5, "delete", 1)}), mutation(5), "older"),
    ],
)
def test_what_becomes_of_an_event(known: Known, one: Mutation, outcome: str) -> None:
    """By what the store has read, what waits, and what the event names."""
    found, kept = judge(one, {"P6"}, known, T0)
    assert found == outcome
    assert [t.revision for t in kept] == ([one.revision] if outcome == "touched" else [])


OPERATIONS = st.sampled_from(["diff", "import", "delete", "reconcile"])
MUTATIONS = st.builds(mutation, st.integers(1, 4), OPERATIONS, st.integers(0, 3), st.just("P6"))


@given(st.lists(MUTATIONS, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(found: list[Mutation], rng: object) -> None:
    """In any order and any number of times, the touch that waits is the newest event's."""

    def waits(order: list[Mutation]) -> tuple[int, datetime] | None:
        pending: dict[tuple[str, str], Touch] = {}
        for one in order:
            for new in judge(one, {"P6"}, Known(TRACKED, {}, pending), T0)[1]:
                pending["P6", "Q1"] = new
        last = pending.get(("P6", "Q1"))
        return None if last is None else (last.revision, last.at)

    mixed = [*found, *found]
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert waits(mixed) == waits(found) == max(((m.revision, m.at) for m in found), default=None)


@pytest.mark.parametrize(
    ("operation", "revision", "fate", "settled"),
    [
        ("diff", 5, None, True),
        ("diff", 6, None, True),
        ("diff", 4, None, False),
        ("import", None, "item deleted", False),
        ("diff", None, "redirected to Q2", True),
        ("delete", None, "item deleted", True),
        ("delete", 5, None, False),
        ("delete", 6, None, True),
    ],
)
def test_when_the_endpoint_has_got_as_far(
    operation: str, revision: int | None, fate: str | None, settled: bool
) -> None:
    """An answer from before the event settles nothing."""
    assert is_settled(touch(5, operation), revision, fate) is settled


# --- over HTTP


def stream_of(settings: SourceSettings, kept: list[EndpointState] | None = None) -> MutationStream:
    """A stream without pauses."""
    guard = Guard(settings, EndpointState(place_of(settings.stream_url)), (kept if kept is not None else []).append)
    return MutationStream(settings, guard, lambda _seconds: None)


def data(found: list[Message | None]) -> list[str]:
    """The data of the messages."""
    return [one.data for one in found if one is not None]


def test_cuts_lose_nothing_and_double_nothing(settings_for: Make) -> None:
    """Each connection goes on behind the last whole event, also when the cut came inside the next."""
    sent = [event(f"Q{n}", n) for n in range(1, 11)]
    with replay(sent, [3, 1, 2]) as server:
        stream, found = stream_of(settings_for("http://127.0.0.1/", stream_url=server.url)), []
        for message in stream.read(None, T0, time.monotonic() + 20, lambda: len(data(found)) < 10):
            found.append(message)
        assert data(found) == sent
        offsets = [None if asked is None else asked.split('"offset": ')[1].rstrip("}]") for asked in server.asked]
        assert offsets == [None, "2", "3", "5"]
        assert since_of(server.paths[0]) == "2024-01-01T00:00:00Z"
        assert since_of(server.paths[1]) is None
        again = stream_of(settings_for("http://127.0.0.1/", stream_url=server.url))
        last = found[-1]
        assert last is not None
        rest = again.read(last.id, T0, time.monotonic() + 0.2)
        assert data(list(rest)) == []


@pytest.mark.parametrize(("status", "error"), [(500, EndpointDown), (429, Throttled), (403, Throttled)])
def test_a_stream_that_refuses(settings_for: Make, status: int, error: type[Exception]) -> None:
    """A server error is tried again, then raised; a refusal is raised at once, and a ban is remembered."""
    with replay([], [status] * 9) as server:
        kept: list[EndpointState] = []
        settings = settings_for("http://127.0.0.1/", stream_url=server.url, attempts=3)
        stream = stream_of(settings, kept)
        with pytest.raises(error):
            list(stream.read("[]", T0, time.monotonic() + 20))
        assert len(server.asked) == (3 if status == 500 else 1)
        if status == 403:
            with pytest.raises(CircuitOpen):
                list(stream.read("[]", T0, time.monotonic() + 20))
            assert kept[-1].open_until is not None
            assert len(server.asked) == 1


def test_a_position_that_is_gone_is_a_gap(settings_for: Make) -> None:
    """The server does not know the id any more: named, so that the caller can begin elsewhere."""
    with replay([], [404]) as server, pytest.raises(Gap):
        list(
            stream_of(settings_for("http://127.0.0.1/", stream_url=server.url)).read("[]", T0, time.monotonic() + 9)
        )


def test_a_page_in_place_of_events_is_a_bad_answer(settings_for: Make) -> None:
    """Content of another type is not read as a stream."""

    with serve(Answer(content_type="text/html")) as faults, pytest.raises(BadAnswer, match="text/html"):
        list(
            stream_of(settings_for("http://127.0.0.1/", stream_url=faults.url)).read(None, T0, time.monotonic() + 9)
        )


def test_reading_ends_in_time(settings_for: Make) -> None:
    """A silent stream does not hold us past the time that we gave it."""
    with replay([event("Q1", 1)], linger_s=30) as server:
        begun = time.monotonic()
        found = stream_of(settings_for("http://127.0.0.1/", stream_url=server.url)).read(None, T0, begun + 0.4)
        assert len(data(list(found))) == 1
        assert time.monotonic() - begun < 5
