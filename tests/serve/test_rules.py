"""What a request must be like, decided without a server."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.serve.rules import PAUSE_S, TRIES, Tries, bearer, host_allowed, host_in


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8420", "localhost"),
        ("127.0.0.1:8420", "127.0.0.1"),
        ("[::1]:8420", "::1"),
        ("[::1]", "::1"),
        ("kbsync.example.org", "kbsync.example.org"),
        ("", None),
        (":8420", None),
        ("host:port", None),
        ("host:80:80", None),
    ],
)
def test_the_host_of_a_header(header: str, host: str | None) -> None:
    """Without port and in lower case; what is no host is none."""
    assert host_in(header) == host


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("192.0.2.7", True),
        ("[2001:db8::1]:1", True),
        ("kbsync.example.org", True),
        ("KBSYNC.example.org:443", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("kbsync.example.org.", False),
        ("", False),
    ],
)
def test_names_that_are_ours(header: str, allowed: bool) -> None:
    """Addresses and our names are let through; a stranger's name, which DNS may lead here, is not."""
    assert host_allowed(header, ["kbsync.example.org"]) is allowed


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer", None), ("", None)],
)
def test_the_token_of_a_header(header: str, token: str | None) -> None:
    """Only the bearer scheme carries one."""
    assert bearer(header) == token


class Clock:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tries_run_out_and_come_back() -> None:
    """TRIES wrong tokens, then one in PAUSE_S; other addresses are none the worse for it."""
    clock = Clock()
    tries = Tries(clock)
    for _ in range(TRIES):
        assert tries.wait_s("a") == 0
        tries.failed("a")
    assert tries.wait_s("a") == pytest.approx(PAUSE_S)
    assert tries.wait_s("b") == 0
    clock.now = PAUSE_S
    assert tries.wait_s("a") == 0
    tries.failed("a")
    assert tries.wait_s("a") == pytest.approx(PAUSE_S)
    clock.now += PAUSE_S * TRIES * 2
    for _ in range(TRIES):
        assert tries.wait_s("a") == 0
        tries.failed("a")
    assert tries.wait_s("a") > 0


@settings(max_examples=40, derandomize=True)
@given(st.lists(st.floats(0, 30), max_size=200))
def test_nobody_gets_more_tries_than_time_allows(pauses: list[float]) -> None:
    """Whatever the pauses, no more tokens are looked at than TRIES and one for each PAUSE_S that went by."""
    clock = Clock()
    tries = Tries(clock)
    looked_at = 0
    for pause in pauses:
        clock.now += pause
        if tries.wait_s("a") == 0:
            looked_at += 1
            tries.failed("a")
    assert looked_at <= TRIES + clock.now / PAUSE_S + 1e-6


def test_memory_of_addresses_is_bounded() -> None:
    """A flood from many addresses leaves a bounded table."""
    tries = Tries(Clock())
    for number in range(3000):
        tries.failed(str(number))
    assert len(tries._left) <= 1000
