"""The request budget and the circuit breaker, by an own clock; then the client with them, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.errors import BadAnswer, CircuitOpen, EndpointDown, SourceError, Throttled
from kbsync.facts import EndpointState
from kbsync.settings import SourceSettings
from kbsync.source import breaker
from kbsync.source.budget import Bucket
from kbsync.source.client import SparqlClient
from kbsync.source.guard import Guard
from tests.source.faults import Answer, serve

Make = Callable[..., SourceSettings]
QUERY = "SELECT ?x WHERE { ?x ?y ?z }"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BAN = b"You have been banned until 2026-03-02T12:00:00Z, please respect throttling and retry-after headers."


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = NOON.timestamp()
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def guarded(settings: SourceSettings, clock: Clock, state: EndpointState | None = None) -> Guard:
    """A guard on the clock, which keeps its states in a list of its own."""
    return Guard(settings, state, None, clock.sleep, clock)


# --- the bucket


@given(
    st.lists(st.tuples(st.floats(0, 90), st.floats(0, 120)), max_size=30),
    st.floats(1, 60),
    st.floats(2, 120),
)
def test_no_minute_is_over_the_budget(steps: list[tuple[float, float]], rate: float, burst: float) -> None:
    """Whoever waits for the bucket spends at most burst + rate per minute + one query too much, in any order."""
    bucket, at, spent = Bucket(rate, burst, burst, 0.0), 0.0, 0.0
    for cost, pause in steps:
        at += pause + bucket.wait_s(1.0, at + pause)
        bucket = bucket.take(cost, at)
        spent += cost
        most = max(cost for cost, _ in steps)
        assert spent <= burst + at * rate / 60 + most + 1e-6


def test_a_bucket_fills_up_to_its_burst_and_not_beyond() -> None:
    """Tokens come back by the minute; a clock that goes back changes nothing."""
    bucket = Bucket(60.0, 100.0, 100.0, 0.0).take(130.0, 0.0)
    assert bucket.level == -30.0
    assert bucket.now(20.0).level == -10.0
    assert bucket.now(10_000.0).level == 100.0
    assert bucket.now(-50.0).level == -30.0
    assert bucket.wait_s(1.0, 0.0) == 31.0
    assert bucket.wait_s(1.0, 31.0) == 0.0


# --- the guard


def test_query_seconds_over_the_budget_are_waited_for(settings_for: Make) -> None:
    """After 100 s of queries at once the next one waits until a second is there again, at 50 s a minute."""
    clock = Clock()
    guard = guarded(settings_for("http://127.0.0.1/"), clock)
    for _ in range(2):
        guard.admit()
        guard.answered(60.0)
    assert clock.slept == []
    guard.admit()
    assert clock.slept == [pytest.approx(21 * 60 / 50)]
    assert guard.waited_s == pytest.approx(25.2)


def test_errors_over_the_budget_are_waited_for(settings_for: Make) -> None:
    """Forty errors at once are let through, the next request waits for one of twenty a minute."""
    clock = Clock()
    guard = guarded(settings_for("http://127.0.0.1/"), clock)
    for _ in range(40):
        guard.admit()
        guard.failed(0.0)
    assert clock.slept == []
    guard.admit()
    assert clock.slept == [pytest.approx(3.0)]


def test_a_budget_can_be_switched_off(settings_for: Make) -> None:
    """`off` is for an endpoint of one's own."""
    clock = Clock()
    settings = settings_for("http://127.0.0.1/", seconds_per_minute="off", errors_per_minute="off")
    guard = guarded(settings, clock)
    for _ in range(100):
        guard.admit()
        guard.failed(1000.0)
    assert clock.slept == []


def test_a_budget_outlives_the_program(settings_for: Make) -> None:
    """What was spent is spent, also after a restart; the time in between counts."""
    clock, kept = Clock(), []
    settings = settings_for("http://127.0.0.1/")
    guard = Guard(settings, None, kept.append, clock.sleep, clock)
    guard.admit()
    guard.answered(130.0)
    guard.close()
    clock.now += 12
    again = Guard(settings, kept[-1], None, clock.sleep, clock)
    again.admit()
    assert clock.slept == [pytest.approx(31 * 60 / 50 - 12)]
    assert kept[-1].requests == 1


# --- the breaker


@pytest.mark.parametrize(
    ("wait_s", "banned", "pause"),
    [
        (None, False, None),
        (7.0, False, None),
        (301.0, False, timedelta(seconds=600)),
        (7200.0, False, timedelta(hours=2)),
        (None, True, timedelta(days=1)),
        (86400.0 * 3, True, timedelta(days=3)),
    ],
)
def test_the_first_refusal(settings_for: Make, wait_s: float | None, banned: bool, pause: timedelta | None) -> None:
    """One that a run can sleep through opens nothing; a long wait and a ban do, for as long as they say."""
    state = breaker.refused(EndpointState("x"), settings_for("http://127.0.0.1/"), NOON, "why", wait_s, banned)
    assert state.open_until == (None if pause is None else NOON + pause)
    assert (state.refusals, state.refused) == (1, 1)


def test_refusals_in_a_row_open_it_and_each_try_doubles_the_time(settings_for: Make) -> None:
    """Four in a row, then one refused try after another: 10, 20, 40 … minutes, a day at most."""
    settings, state, at = settings_for("http://127.0.0.1/"), EndpointState("x"), NOON
    for _ in range(3):
        state = breaker.refused(state, settings, at, "why", 1.0, False)
        assert state.open_until is None
    pauses = []
    for _ in range(10):
        state = breaker.refused(state, settings, at, "why", 1.0, False)
        assert state.open_until is not None
        pauses.append((state.open_until - at) / timedelta(minutes=1))
        assert breaker.is_open(state, state.open_until - timedelta(seconds=1))
        assert not breaker.is_open(state, state.open_until)
        at = state.open_until
    assert pauses == [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]
    closed = breaker.answered(state)
    assert (closed.refusals, closed.trips, closed.open_until, closed.reason) == (0, 0, None, None)
    assert closed.refused == 13


def test_a_good_answer_in_between_starts_the_count_again(settings_for: Make) -> None:
    """Three refusals, an answer, three refusals: closed all the time."""
    settings, state = settings_for("http://127.0.0.1/"), EndpointState("x")
    for _ in range(2):
        for _ in range(3):
            state = breaker.refused(state, settings, NOON, "why", 1.0, False)
        state = breaker.answered(state)
    assert state == replace(EndpointState("x"), refused=6)


# --- the client with its guard


def test_a_ban_is_remembered_and_nothing_is_asked(settings_for: Make) -> None:
    """After a ban a new client with the kept state raises CircuitOpen by itself, until the time is over."""
    clock, kept = Clock(), []
    with serve(Answer(status=403, body=BAN, headers={"Retry-After": "86400"}), Answer()) as faults:
        settings = settings_for(faults.url)
        guard = Guard(settings, None, kept.append, clock.sleep, clock)
        with pytest.raises(Throttled, match="banned this client"):
            SparqlClient(settings, clock.sleep, guard).select(QUERY)
        again = SparqlClient(settings, clock.sleep, Guard(settings, kept[-1], None, clock.sleep, clock))
        with pytest.raises(CircuitOpen, match=r"the next try is at 2026-03-02 12:00 UTC") as caught:
            again.select(QUERY)
        assert caught.value.retry_after_s == pytest.approx(86400)
        assert "banned" in str(caught.value)
        assert len(faults.methods) == 1
        clock.now += 86401
        assert again.select(QUERY)
    assert clock.slept == []


def test_refusals_open_the_breaker_within_one_query(settings_for: Make) -> None:
    """The fourth refusal in a row ends the tries; the next query asks nothing."""
    clock = Clock()
    with serve(Answer(status=429, headers={"Retry-After": "1"})) as faults:
        settings = settings_for(faults.url, attempts=10)
        client = SparqlClient(settings, clock.sleep, guarded(settings, clock))
        with pytest.raises(Throttled):
            client.select(QUERY)
        assert len(faults.methods) == 4
        with pytest.raises(CircuitOpen, match="HTTP 429"):
            client.select(QUERY)
        assert len(faults.methods) == 4
    assert clock.slept == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "answer",
    [Answer(status=500), Answer(body=b"{"), Answer(content_type="text/html"), Answer(status=400)],
    ids=["500", "cut", "html", "400"],
)
def test_every_failure_counts_as_an_error(settings_for: Make, answer: Answer) -> None:
    """What the service would count, we count: each try of each failure takes from the bucket of errors."""
    kept: list[EndpointState] = []
    clock = Clock()
    with serve(answer) as faults:
        settings = settings_for(faults.url, attempts=2)
        guard = Guard(settings, None, kept.append, clock.sleep, clock)
        with pytest.raises((SourceError, BadAnswer, EndpointDown)):
            SparqlClient(settings, clock.sleep, guard).select(QUERY)
        guard.close()
        assert kept[-1].errors_left == pytest.approx(40 - len(faults.methods))
        assert kept[-1].requests == len(faults.methods)
