"""Applying pages: all or nothing, as often as you like, with facts that follow from the statements."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbsync.facts import Change, ChangeKind, Cursor, Fact, Pulled, Rank, Statement, Value, ValueKind
from kbsync.store import changes, entities, known, mirror
from kbsync.store.engine import Store, open_store
from kbsync.store.tables import EntityRow, FactRow
from tests.store.examples import NOON, all_rows, fact, item, later, named, new_run, page, pages, statement


def apply(store: Store, pulled: Pulled, minutes: float = 0, baseline: bool = False) -> dict[str, int]:
    """Apply a page in a transaction and run of its own."""
    with store.begin() as tx:
        return mirror.apply(tx, new_run(tx, minutes), later(minutes), pulled, baseline)


def replaced(old: str, new: str, reason: str = "ended") -> Change:
    return Change(ChangeKind.REPLACED, "Q30", "P6", item(old), item(new), "Q30-2", reason)


def live(store: Store) -> set[Fact]:
    with store.read() as tx:
        return {one.fact for one in known.known_facts(tx, ["P6"])}


def ledger(store: Store) -> list[tuple[str, Value | None, Value | None, str, str]]:
    """Kind, old, new, reason and outcome of all changes, oldest first."""
    with store.read() as tx:
        found = reversed(changes.changes_of(tx))
        return [(c.change.kind, c.change.old, c.change.new, c.change.reason, c.outcome) for c in found]


def test_facts_are_the_best_statements_with_an_object(store: Store) -> None:
    """Neither a statement below the best rank nor one with an unknown value becomes a fact."""
    unknown = replace(statement(3, "Q1"), value=Value(ValueKind.UNKNOWN, ""))
    counts = apply(store, page([statement(1, "Q7"), statement(2, "Q8", best=False), unknown]))
    assert live(store) == {fact(value="Q7")}
    assert counts["statements new"] == 3
    assert counts["facts added"] == 1


def test_replacement_is_one_change_with_its_reason(store: Store) -> None:
    """A new best statement and the old one's end make one row in the ledger, and the old fact retires."""
    apply(store, page([statement(1, "Q7")]), baseline=True)
    old = statement(1, "Q7", best=False, end=NOON)
    new = statement(2, "Q8", rank=Rank.PREFERRED)
    apply(store, page([old, new], changes=[replaced("Q7", "Q8")]), 1)
    assert live(store) == {fact(value="Q8")}
    assert ledger(store) == [
        ("added", None, item("Q7"), "first pull", "baseline"),
        ("replaced", item("Q7"), item("Q8"), "ended", "pending"),
    ]
    with store.read() as tx:
        rows = tx.query(FactRow).order_by(FactRow.id).all()
    assert [(r.value, r.baseline, r.retired_reason) for r in rows] == [
        ("Q7", True, "ended"),
        ("Q8", False, None),
    ]


def test_deleted_statement_retires_its_fact(store: Store) -> None:
    """A statement that is gone keeps its row with time and reason; its fact retires as a change."""
    apply(store, page([statement(1, "Q7")]))
    gone = Change(ChangeKind.RETIRED, "Q30", "P6", item("Q7"), None, "Q30-1", "deleted")
    counts = apply(store, page(gone=[("Q30-1", "deleted"), ("Q30-99", "deleted")], changes=[gone]), 1)
    assert live(store) == set()
    assert (counts["statements retired"], counts["gone: never stored"]) == (1, 1)
    assert ledger(store)[-1] == ("retired", item("Q7"), None, "deleted", "pending")
    with store.read() as tx:
        assert known.statements_of(tx, "P6", ["Q30"]) == {}


def test_fact_with_two_statements_lives_until_both_are_gone(store: Store) -> None:
    """Two best statements that say the same are one fact, and one of them is enough to keep it."""
    apply(store, page([statement(1, "Q7"), statement(2, "Q7")]))
    apply(store, page(gone=[("Q30-1", "deleted")]), 1)
    assert live(store) == {fact(value="Q7")}
    apply(store, page(gone=[("Q30-2", "deleted")]), 2)
    assert live(store) == set()


def test_fact_that_comes_back_is_a_new_row(store: Store) -> None:
    """A fact that was retired and returns is seen anew, no longer baseline, and its history stays."""
    apply(store, page([statement(1, "Q7")]), baseline=True)
    apply(store, page(gone=[("Q30-1", "deleted")]), 1)
    apply(store, page([statement(1, "Q7")]), 2)
    with store.read() as tx:
        rows = tx.query(FactRow).order_by(FactRow.id).all()
        assert [(r.baseline, r.retired_at is None) for r in rows] == [(True, False), (False, True)]
        assert known.known_facts(tx, ["P6"])[0].seen == later(2)


def test_difference_that_no_change_names_is_in_the_ledger(store: Store) -> None:
    """Facts that come or go without a change in the page get one of the store's own."""
    apply(store, page([statement(1, "Q7")]))
    apply(store, page([statement(1, "Q8")]), 1)
    assert [row[3] for row in ledger(store)] == ["found by the store"] * 3


def test_change_that_moved_no_fact_is_counted_not_stored(store: Store) -> None:
    """A change that is in the store already is a duplicate by name, and writes nothing."""
    first = page([statement(1, "Q7")])
    apply(store, first)
    again = Change(ChangeKind.ADDED, "Q30", "P6", None, item("Q7"), "Q30-1", "new statement")
    assert apply(store, page([statement(1, "Q7")], changes=[again]), 1)["changes duplicate"] == 1
    assert len(ledger(store)) == 1


def test_change_that_never_got_its_turn_is_superseded(store: Store) -> None:
    """When a pending change's object is replaced before any plan, its outcome says so."""
    for minute, value in enumerate(["Q7", "Q8", "Q9"]):
        apply(store, page([statement(1, value)]), minute)
    outcomes = [(kind, new and new.text, outcome) for kind, _, new, _, outcome in ledger(store)]
    assert outcomes == [
        ("added", "Q7", "superseded"),
        ("added", "Q8", "superseded"),
        ("retired", None, "pending"),
        ("added", "Q9", "pending"),
        ("retired", None, "pending"),
    ]


def test_cursor_and_rows_commit_together_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that fails at its last step leaves neither rows nor cursor; applied again, it leaves both."""
    pulled = page([statement(1, "Q7")], items=[named("Q30", "United States")], cursor=Cursor(NOON, "Q30"))
    with store.begin() as tx:
        run_id = new_run(tx)
        before = all_rows(tx)

    def work() -> None:
        with store.begin() as tx:
            mirror.apply(tx, run_id, NOON, pulled, False)

    def fail(*_args: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_advance", fail)
        with pytest.raises(RuntimeError, match="killed"):
            work()
    with store.read() as tx:
        assert all_rows(tx) == before
    work()
    with store.read() as tx:
        assert known.cursor(tx, "P6") == Cursor(NOON, "Q30")
        assert {one.fact for one in known.known_facts(tx, ["P6"])} == {fact(value="Q7")}


def test_cursor_never_moves_back(store: Store) -> None:
    """A page that was read again in the overlap leaves the cursor where it was; ties go by item."""
    for cursor in (Cursor(later(1), "Q5"), Cursor(NOON, "Q9"), Cursor(later(1), "Q1"), None):
        apply(store, page(cursor=cursor))
        with store.read() as tx:
            assert known.cursor(tx, "P6") == Cursor(later(1), "Q5")
    apply(store, page(cursor=Cursor(later(1), "Q7")))
    with store.read() as tx:
        assert known.cursor(tx, "P6") == Cursor(later(1), "Q7")


@pytest.mark.parametrize(
    ("told", "label", "revision"),
    [
        (named("Q1", "newer", 6), "newer", 6),
        (named("Q1", "older", 4), "first", 5),
        (named("Q1", "only a label", None), "only a label", 5),
        (named("Q1", None, 6), None, 6),
        (named("Q1", None, None), "first", 5),
    ],
)
def test_labels_follow_revisions(store: Store, told: object, label: str | None, revision: int) -> None:
    """A newer revision wins, an older one is ignored, and a deleted item keeps its last label."""
    with store.begin() as tx:
        entities.save(tx, NOON, [named("Q1", "first", 5)])
        entities.save(tx, later(1), [told])  # type: ignore[list-item]
    with store.read() as tx:
        row = tx.get_one(EntityRow, "Q1")
        assert (row.label, row.revision, row.seen_at) == (label, revision, NOON)


def test_big_page_needs_no_big_statement(store: Store) -> None:
    """A page of more rows than one SQL statement may name is stored whole."""
    many = [statement(1, "Q7", subject=f"Q{n}") for n in range(1, 1202)]
    apply(store, page(many, items=[named(f"Q{n}", f"item {n}") for n in range(1, 1202)]), baseline=True)
    with store.read() as tx:
        assert len(known.known_facts(tx, ["P6"])) == 1201
        assert len(known.versions(tx, "P6")) == 1201


@contextmanager
def one_store(template: Path) -> Iterator[Store]:
    """A store of its own for one example of hypothesis."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(template, f"{folder}/kbsync.db")
        with open_store(f"sqlite:///{folder}/kbsync.db") as store:
            yield store


def wanted(history: Iterable[Pulled]) -> set[Fact]:
    """The reference: the truthy facts after these pages, from a dict of statements, less what is older."""
    statements: dict[str, Statement] = {}
    revisions: dict[str, int] = {}
    for one in history:
        told = {item.id: item.revision or 0 for item in one.items}
        older = {item for item, revision in told.items() if revision < revisions.get(item, 0)}
        revisions |= {item: revision for item, revision in told.items() if item not in older}
        for gone, _ in one.gone:
            if gone in statements and statements[gone].subject not in older:
                del statements[gone]
        statements |= {s.id: s for s in one.statements if s.subject not in older}
    return {
        Fact(s.subject, s.relation, s.value)
        for s in statements.values()
        if s.best and s.value.kind is not ValueKind.UNKNOWN
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(pages(), min_size=1, max_size=4))
def test_applying_a_page_twice_changes_no_row(sqlite_template: Path, history: list[Pulled]) -> None:
    """Whatever came before, a page that is applied again leaves every table as it was, but for its run."""
    with one_store(sqlite_template) as store:
        with store.begin() as tx:
            run_id = new_run(tx)
        for minute, one in enumerate(history):
            with store.begin() as tx:
                mirror.apply(tx, run_id, later(minute), one, minute == 0)
                once = all_rows(tx)
            with store.begin() as tx:
                mirror.apply(tx, run_id, later(minute + 0.5), one, False)
                assert all_rows(tx) == once
        assert live(store) == wanted(history)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(pages(), min_size=1, max_size=4))
def test_ledger_of_changes_adds_up_to_the_facts(sqlite_template: Path, history: list[Pulled]) -> None:
    """Played from the start, the changes give exactly the facts that are live: nothing moves unrecorded."""
    with one_store(sqlite_template) as store:
        for minute, one in enumerate(history):
            apply(store, one, minute)
        played: set[Fact] = set()
        with store.read() as tx:
            for stored in reversed(changes.changes_of(tx)):
                change = stored.change
                if change.old is not None:
                    played.remove(Fact(change.subject, change.relation, change.old))
                if change.new is not None:
                    played.add(Fact(change.subject, change.relation, change.new))
        assert played == live(store)


def test_a_detail_stays_while_the_value_does(store: Store) -> None:
    """A source that tells no precision takes none away, in one page or over two; another value has its own."""
    year = replace(statement(1, "Q1"), value=Value(ValueKind.TIME, "1879-01-01T00:00:00Z", "9"))
    untold = replace(year, value=replace(year.value, detail=""), rank=Rank.PREFERRED)
    other = replace(year, value=Value(ValueKind.TIME, "1880-01-01T00:00:00Z"))

    def details() -> list[str]:
        with store.read() as tx:
            (told,) = known.statements_of(tx, "P6", ["Q30"])["Q30"]
            (one,) = known.known_facts(tx, ["P6"])
        return [told.value.detail, one.fact.value.detail]

    apply(store, page([year, untold]))
    assert details() == ["9", "9"]
    apply(store, page([replace(untold, rank=Rank.NORMAL)]), 1)
    assert details() == ["9", "9"]
    apply(store, page([other]), 2)
    assert details() == ["", ""]
