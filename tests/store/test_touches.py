"""How far a stream was read, what it touched, and what became of its events."""

from __future__ import annotations

from dataclasses import replace

from kbsync.facts import Touch
from kbsync.store import mirror, touches
from kbsync.store.engine import Store
from tests.store.examples import NOON, later, named, new_run, page, statement

STREAM = "https://stream.example.org/v2/stream/mutation"
ONE = Touch("P6", "Q30", 2**33, "diff", NOON, later(1))
OTHER = Touch("P35", "Q30", 7, "delete", later(2), later(3))


def keyed(*found: Touch) -> dict[tuple[str, str], Touch]:
    """Touches by relation and item."""
    return {(touch.relation, touch.item): touch for touch in found}


def test_position_touches_and_counts_come_back(store: Store) -> None:
    """What was noted is there, counts add up, and a batch without items keeps the time of the one before."""
    with store.read() as tx:
        assert touches.position(tx, STREAM) is None
    with store.begin() as tx:
        touches.note(tx, STREAM, "[1]", NOON, keyed(ONE, OTHER), {"touched": 2, "older": 1}, later(1))
        touches.note(tx, STREAM, "[2]", None, {}, {"touched": 1}, later(2))
        touches.note(tx, "another", "[9]", None, {}, {"touched": 5}, later(2))
    with store.read() as tx:
        assert touches.position(tx, STREAM) == "[2]"
        assert touches.counts(tx, STREAM) == {"older": 1, "touched": 3}
        assert touches.pending(tx) == keyed(ONE, OTHER)
        assert touches.pending(tx, [("P6", "Q30"), ("P6", "Q31")]) == keyed(ONE)
        assert touches.pending_of(tx, ["Q30", "Q31"]) == keyed(ONE, OTHER)


def test_an_older_touch_does_not_replace_a_newer_one(store: Store) -> None:
    """By revision, then by the event's own time."""
    newer = replace(ONE, revision=ONE.revision + 1, seen_at=later(9))
    with store.begin() as tx:
        touches.note(tx, STREAM, "[1]", NOON, keyed(newer), {}, later(1))
        touches.note(tx, STREAM, "[2]", NOON, keyed(ONE), {}, later(1))
        assert touches.pending(tx) == keyed(newer)
        later_event = replace(newer, operation="delete", at=later(5))
        touches.note(tx, STREAM, "[3]", NOON, keyed(later_event), {}, later(1))
        touches.note(tx, STREAM, "[4]", NOON, keyed(newer), {}, later(1))
        assert touches.pending(tx) == keyed(later_event)


def test_what_is_yet_to_be_seen_is_seen_now(store: Store) -> None:
    """After the clock was set back; whatever was seen by now stays as it is."""
    with store.begin() as tx:
        touches.note(tx, STREAM, "[1]", NOON, keyed(ONE, OTHER), {}, later(1))
        touches.seen_by(tx, later(2))
        assert touches.pending(tx) == keyed(ONE, replace(OTHER, seen_at=later(2)))


def test_a_touch_that_came_meanwhile_is_not_settled(store: Store) -> None:
    """What was read is taken away, what another thread has added in the meantime waits on."""
    with store.begin() as tx:
        touches.note(tx, STREAM, "[1]", NOON, keyed(ONE, OTHER), {}, later(1))
        newer = replace(ONE, revision=ONE.revision + 1)
        touches.note(tx, STREAM, "[2]", NOON, keyed(newer), {}, later(1))
        assert touches.settle(tx, [ONE, OTHER]) == 1
        assert touches.pending(tx) == keyed(newer)


def test_touches_of_relations_that_are_not_watched_are_forgotten(store: Store) -> None:
    """Only those of the given relations stay."""
    with store.begin() as tx:
        touches.note(tx, STREAM, "[1]", NOON, keyed(ONE, OTHER), {}, later(1))
        assert touches.forget(tx, ["P6"]) == 1
        assert touches.pending(tx) == keyed(ONE)


def test_what_is_known_of_items(store: Store) -> None:
    """The relations with live statements, and the revisions that were read, also of items without statements."""
    with store.begin() as tx:
        run = new_run(tx)
        told = page([statement(1, "Q6279")], items=[named("Q30", "US", 5), named("Q31", "BE", 6)])
        mirror.apply(tx, run, NOON, told, baseline=True)
        mirror.apply(tx, run, NOON, page([statement(2, "Q1", relation="P35")], relation="P35"), baseline=True)
        assert touches.tracked(tx, ["Q30", "Q31"]) == {"Q30": frozenset({"P6", "P35"})}
        assert touches.read_at(tx, ["Q30", "Q31"]) == {("P6", "Q30"): 5, ("P6", "Q31"): 6}
        mirror.apply(tx, run, NOON, page(gone=[("Q30-1", "deleted")]), baseline=False)
        assert touches.tracked(tx, ["Q30"]) == {"Q30": frozenset({"P35"})}
