"""What the store tells the source and the planner."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.orm import Session

from kbsync.facts import KnownFact, Rank, Statement, Value, ValueKind
from kbsync.store import entities, known, mirror
from kbsync.store.engine import Store
from tests.store.examples import NOON, fact, item, later, named, new_run, page, statement


def apply(tx: Session, *statements: Statement, minutes: float = 0, baseline: bool = False) -> None:
    """Apply statements of one relation as a page."""
    relation = statements[0].relation
    mirror.apply(tx, new_run(tx, minutes), later(minutes), page(statements, relation=relation), baseline)


def test_known_fact_carries_its_statements_qualifiers(store: Store) -> None:
    """Of the best statements that say the same, a preferred one speaks, then the one that began last."""
    with store.begin() as tx:
        apply(
            tx,
            statement(1, "Q7", start=later(5)),
            statement(2, "Q7", rank=Rank.PREFERRED, start=later(1), end=later(2)),
            statement(3, "Q7", rank=Rank.PREFERRED, start=NOON),
            statement(4, "Q7", best=False, rank=Rank.PREFERRED, start=later(9)),
            baseline=True,
        )
        assert known.known_facts(tx, ["P6"]) == [KnownFact(fact(value="Q7"), True, True, later(1), later(2), NOON)]


def test_known_facts_are_those_of_the_relations_asked_for(store: Store) -> None:
    """Other relations' facts are not in the answer, which is in the order of facts."""
    with store.begin() as tx:
        apply(tx, statement(1, "Q7", "Q2"), statement(1, "Q7", "Q1"))
        apply(tx, statement(9, "Q7", relation="P35"))
        assert [one.fact.subject for one in known.known_facts(tx, ["P6"])] == ["Q1", "Q2"]
        assert len(known.known_facts(tx, ["P6", "P35"])) == 3
        assert known.known_facts(tx, []) == []
        assert list(known.counted(tx)) == [("P35", 1), ("P6", 2)]


def test_statements_come_back_as_they_were_told(store: Store) -> None:
    """A live statement equals what the source said, qualifiers, rank and literal included."""
    literal = replace(statement(2, "Q1", start=NOON), value=Value(ValueKind.STRING, "it's {}"), best=False)
    told = [statement(1, "Q7", end=later(1)), literal]
    with store.begin() as tx:
        apply(tx, *told, statement(1, "Q7", "Q9"))
    with store.read() as tx:
        assert known.statements_of(tx, "P6", ["Q30", "Q31"]) == {"Q30": told}
        assert known.statements_of(tx, "P35", ["Q30"]) == {}


def test_versions_are_per_relation(store: Store) -> None:
    """One relation's pull does not make another one's statements look freshly read."""
    with store.begin() as tx:
        run_id = new_run(tx)
        first = page([statement(1, "Q7")], items=[named("Q30", "US", 5)])
        other = page([statement(2, "Q7", relation="P35")], items=[named("Q30", "US", 6)], relation="P35")
        mirror.apply(tx, run_id, NOON, first, False)
        mirror.apply(tx, run_id, NOON, other, False)
        mirror.apply(tx, run_id, NOON, page([statement(3, "Q7", "Q31")]), False)
        assert known.tracked(tx, "P6") == {"Q30", "Q31"}
        assert known.versions(tx, "P6") == {"Q30": 5, "Q31": None}
        assert known.versions(tx, "P35") == {"Q30": 6}


def test_first_pull_is_complete_once(store: Store) -> None:
    """A relation is incomplete until its first pull says otherwise, and keeps that first time."""
    with store.begin() as tx:
        run_id = new_run(tx)
        assert known.first_pull_complete(tx, "P6") is None
        known.complete_first_pull(tx, run_id, "P6", NOON)
        known.complete_first_pull(tx, run_id, "P6", later(1))
        assert known.first_pull_complete(tx, "P6") == NOON
        assert known.cursor(tx, "P6") is None, "complete, but never had a page"


def test_labels_of_those_that_have_one(store: Store) -> None:
    """Items without a label, and unknown ones, are not in the answer."""
    with store.begin() as tx:
        entities.save(tx, NOON, [named("Q1", "one"), named("Q2", None)])
        assert known.labels(tx, ["Q1", "Q2", "Q3", "Q1"]) == {"Q1": "one"}


def test_previous_value_is_the_one_retired_last(store: Store) -> None:
    """After two replacements the old object is the middle one."""
    with store.begin() as tx:
        for minute, value in enumerate(["Q7", "Q8", "Q9"]):
            apply(tx, statement(1, value), minutes=minute)
        assert known.previous_values(tx, ["P6"]) == {("Q30", "P6"): item("Q8")}


def test_previous_value_is_never_one_that_is_true_now(store: Store) -> None:
    """An object that came back is not the old object of itself."""
    with store.begin() as tx:
        for minute, value in enumerate(["Q7", "Q8", "Q7"]):
            apply(tx, statement(1, value), minutes=minute)
        assert known.previous_values(tx, ["P6"]) == {("Q30", "P6"): item("Q8")}


def test_previous_value_of_a_change_before_our_time(store: Store) -> None:
    """Where nothing was retired, the statement that ended last tells the old object; deprecated ones don't."""
    with store.begin() as tx:
        apply(
            tx,
            statement(1, "Q9", rank=Rank.PREFERRED),
            statement(2, "Q7", best=False, end=NOON),
            statement(3, "Q8", best=False, end=later(1)),
            statement(4, "Q5", best=False, end=later(2), rank=Rank.DEPRECATED),
            baseline=True,
        )
        assert known.previous_values(tx, ["P6"]) == {("Q30", "P6"): item("Q8")}


def test_previous_value_beside_a_newer_one_is_the_baseline(store: Store) -> None:
    """Where a fact was added to one that was there at first, that one is the old object."""
    with store.begin() as tx:
        apply(tx, statement(1, "Q7"), baseline=True)
        assert known.previous_values(tx, ["P6"]) == {}
        apply(tx, statement(2, "Q8"), minutes=1)
        assert known.previous_values(tx, ["P6"]) == {("Q30", "P6"): item("Q7")}
