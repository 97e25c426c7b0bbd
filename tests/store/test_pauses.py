"""Pauses of what starts by itself."""

from __future__ import annotations

from kbsync.store import pauses
from kbsync.store.engine import Store
from kbsync.store.pauses import Pause
from tests.store.examples import NOON, later


def test_a_pause_holds_until_it_is_resumed(store: Store) -> None:
    """Without an end it holds for as long as nobody resumes it; after that there is none to resume."""
    with store.begin() as tx:
        assert pauses.paused(tx, NOON) is None
        assert pauses.resume(tx, "b", NOON) is None
        assert pauses.pause(tx, "a", NOON, None, "moving") is None
    with store.begin() as tx:
        one = Pause(NOON, None, "moving", "a")
        assert pauses.paused(tx, later(100_000)) == one
        assert pauses.resume(tx, "b", later(5)) == one
        assert pauses.paused(tx, later(6)) is None


def test_a_pause_ends_at_its_time(store: Store) -> None:
    """From its end on it no longer holds, though nobody resumed it."""
    with store.begin() as tx:
        pauses.pause(tx, "a", NOON, later(60), "")
        assert pauses.paused(tx, later(59)) is not None
        assert pauses.paused(tx, later(60)) is None
        assert pauses.resume(tx, "a", later(61)) is None


def test_another_pause_takes_its_place(store: Store) -> None:
    """A second pause counts, and one resume ends it; the first does not come back."""
    with store.begin() as tx:
        pauses.pause(tx, "a", NOON, None, "first")
        before = pauses.pause(tx, "b", later(1), later(9), "second")
        assert before == Pause(NOON, None, "first", "a")
        assert pauses.paused(tx, later(2)) == Pause(later(1), later(9), "second", "b")
        pauses.resume(tx, "c", later(3))
        assert pauses.paused(tx, later(4)) is None
