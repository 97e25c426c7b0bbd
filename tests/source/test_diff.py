"""The difference between known and seen statements, as properties and by example."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.facts import Change, ChangeKind, Rank, Statement, Value, ValueKind
from kbsync.source.diff import Diff, diff, first_seen, truthy

NOW = datetime(2024, 1, 1, tzinfo=UTC)
YESTERDAY, TOMORROW = NOW - timedelta(days=1), NOW + timedelta(days=1)


def statement(key: str, value: str, *, best: bool = True, rank: Rank = Rank.NORMAL, **times: datetime) -> Statement:
    return Statement(f"Q1-{key}", "Q1", "P6", Value(ValueKind.ITEM, value), rank, best, **times)


def between(known: list[Statement], seen: list[Statement]) -> Diff:
    return diff("P6", "Q1", known, seen, NOW)


def only(found: Diff) -> tuple[ChangeKind, str | None, str | None, str, str]:
    (change,) = found.changes
    old = change.old.text if change.old else None
    new = change.new.text if change.new else None
    return change.kind, old, new, change.statement_id.removeprefix("Q1-"), change.reason


values = st.one_of(
    st.sampled_from(["Q2", "Q3", "Q4", "Q5"]).map(lambda q: Value(ValueKind.ITEM, q)),
    st.just(Value(ValueKind.UNKNOWN, "")),
    st.just(Value(ValueKind.STRING, "Q2")),
)
times = st.sampled_from([None, YESTERDAY, NOW, TOMORROW])


def some(key: str, value: Value, rank: Rank, best: bool, start: datetime | None, end: datetime | None) -> Statement:
    return Statement(key, "Q1", "P6", value, rank, best and rank is not Rank.DEPRECATED, start, end)


statements = st.lists(
    st.builds(some, st.sampled_from("abcdef"), values, st.sampled_from(list(Rank)), st.booleans(), times, times),
    max_size=6,
    unique_by=lambda s: s.id,
)


@given(statements, statements)
def test_the_changes_are_the_difference_of_the_truthy_values(known: list[Statement], seen: list[Statement]) -> None:
    """Each value that went is named once as old, each that came once as new, and no other is named."""
    changes = between(known, seen).changes
    old = [change.old for change in changes if change.old is not None]
    new = [change.new for change in changes if change.new is not None]
    assert sorted(old) == sorted(truthy(known).keys() - truthy(seen).keys())
    assert sorted(new) == sorted(truthy(seen).keys() - truthy(known).keys())
    for change in changes:
        kind = {
            (True, True): ChangeKind.REPLACED,
            (False, True): ChangeKind.ADDED,
            (True, False): ChangeKind.RETIRED,
        }
        assert change.kind is kind[change.old is not None, change.new is not None]


@given(statements, st.randoms(use_true_random=False))
def test_what_is_seen_first_is_the_difference_from_nothing(seen: list[Statement], order: random.Random) -> None:
    """The short way of a first pull stores what the long way would, in the same order, and names no change."""
    shuffled = order.sample(seen, len(seen))
    assert first_seen(shuffled) == replace(between([], seen), changes=())


@given(statements, statements)
def test_no_value_is_retired_while_another_is_added(known: list[Statement], seen: list[Statement]) -> None:
    """What goes is paired with what comes as far as it goes: one diff never both adds and retires."""
    kinds = {change.kind for change in between(known, seen).changes}
    assert not {ChangeKind.ADDED, ChangeKind.RETIRED} <= kinds


@given(statements, statements)
def test_applying_the_difference_gives_what_was_seen(known: list[Statement], seen: list[Statement]) -> None:
    """The store after upserts and removals is exactly the source, and a second look finds nothing."""
    found = between(known, seen)
    store = {s.id: s for s in known}
    for key, _ in found.gone:
        del store[key]
    store |= {s.id: s for s in found.statements}
    assert store == {s.id: s for s in seen}
    assert found.unchanged == len(seen) - len(found.statements)
    again = between(list(store.values()), seen)
    assert again == Diff((), (), (), len(seen))


@given(statements, statements, st.randoms(use_true_random=False))
def test_the_order_of_statements_is_irrelevant(
    known: list[Statement], seen: list[Statement], chance: random.Random
) -> None:
    """Shuffled input gives the same difference in the same order."""
    first = between(known, seen)
    shuffled = [list(known), list(seen)]
    for one in shuffled:
        chance.shuffle(one)
    assert between(*shuffled) == first


@given(statements, statements)
def test_a_change_names_a_statement_that_says_it(known: list[Statement], seen: list[Statement]) -> None:
    """The statement of a change holds the new value at the source, or held the retired one in the store."""
    for change in between(known, seen).changes:
        side = known if change.new is None else seen
        wanted = change.old if change.new is None else change.new
        (named,) = (s for s in side if s.id == change.statement_id)
        assert named.value == wanted
        assert named.best


@given(statements)
def test_a_touched_item_has_no_changes(known: list[Statement]) -> None:
    """The same statements again are unchanged, all of them, and nothing else."""
    assert between(known, known) == Diff((), (), (), len(known))


A, B = statement("a", "Q2"), statement("b", "Q3")
NEVER = Rank.DEPRECATED


@pytest.mark.parametrize(
    ("known", "seen", "change"),
    [
        ([], [A], (ChangeKind.ADDED, None, "Q2", "a", "new statement")),
        ([replace(A, best=False)], [A], (ChangeKind.ADDED, None, "Q2", "a", "rank")),
        ([A], [], (ChangeKind.RETIRED, "Q2", None, "a", "deleted")),
        ([A], [replace(A, best=False, rank=NEVER)], (ChangeKind.RETIRED, "Q2", None, "a", "deprecated")),
        ([A, B], [replace(A, best=False), B], (ChangeKind.RETIRED, "Q2", None, "a", "rank")),
        ([A, B], [replace(A, best=False, end=YESTERDAY), B], (ChangeKind.RETIRED, "Q2", None, "a", "ended")),
        ([A, B], [replace(A, best=False, end=TOMORROW), B], (ChangeKind.RETIRED, "Q2", None, "a", "rank")),
        ([A], [replace(A, value=B.value)], (ChangeKind.REPLACED, "Q2", "Q3", "a", "replaced in place")),
        ([A], [B], (ChangeKind.REPLACED, "Q2", "Q3", "b", "deleted")),
        ([A], [replace(A, best=False, end=YESTERDAY), B], (ChangeKind.REPLACED, "Q2", "Q3", "b", "ended")),
        ([A], [replace(A, best=False), B], (ChangeKind.REPLACED, "Q2", "Q3", "b", "rank")),
        ([A], [replace(A, best=False, rank=NEVER), B], (ChangeKind.REPLACED, "Q2", "Q3", "b", "deprecated")),
        (
            [A],
            [replace(A, value=Value(ValueKind.UNKNOWN, ""))],
            (ChangeKind.RETIRED, "Q2", None, "a", "replaced in place"),
        ),
        (
            [replace(A, value=Value(ValueKind.UNKNOWN, ""))],
            [A],
            (ChangeKind.ADDED, None, "Q2", "a", "replaced in place"),
        ),
        (
            [A],
            [replace(A, best=False), statement("b", "Q3", end=NOW)],
            (ChangeKind.REPLACED, "Q2", "Q3", "b", "rank"),
        ),
        ([A], [replace(A, best=False, end=NOW), B], (ChangeKind.REPLACED, "Q2", "Q3", "b", "ended")),
    ],
)
def test_each_way_of_changing_a_fact_has_its_reason(
    known: list[Statement], seen: list[Statement], change: tuple[ChangeKind, str | None, str | None, str, str]
) -> None:
    """How editors change facts is told apart by kind, values, statement and reason."""
    assert only(between(known, seen)) == change


@pytest.mark.parametrize(
    "after",
    [
        replace(A, end=YESTERDAY),
        replace(A, start=YESTERDAY),
        replace(A, rank=Rank.PREFERRED),
    ],
)
def test_a_statement_that_stays_truthy_is_only_updated(after: Statement) -> None:
    """A new qualifier or rank on a statement that stays truthy is a row to write and no change of fact."""
    assert between([A], [after]) == Diff((after,), (), (), 0)


def test_a_second_statement_of_one_value_is_no_change() -> None:
    """The facts are a set: a value said twice came once and stays while one statement says it."""
    twin = statement("c", "Q2")
    assert between([A], [A, twin]).changes == ()
    assert between([A, twin], [twin]) == Diff((), (("Q1-a", "deleted"),), (), 1)


def test_values_are_paired_in_place_first_and_then_in_time() -> None:
    """A statement edited in place keeps its pair; the rest are paired oldest with oldest."""
    year = [datetime(2000 + n, 1, 1, tzinfo=UTC) for n in range(9)]
    known = [
        statement("a", "Q10", start=year[5]),
        statement("b", "Q11", start=year[1]),
        statement("c", "Q12", start=year[0]),
    ]
    seen = [
        statement("c", "Q20", start=year[8]),
        statement("x", "Q21", start=year[6]),
        statement("y", "Q22", start=year[5]),
        statement("z", "Q23", start=year[7]),
    ]
    pairs = [(c.old and c.old.text, c.new and c.new.text) for c in between(known, seen).changes]
    assert pairs == [("Q12", "Q20"), ("Q11", "Q22"), ("Q10", "Q21"), (None, "Q23")]


def test_values_that_swap_statements_are_no_change() -> None:
    """Two statements that exchange their values leave the facts as they are, but both rows are written."""
    found = between([A, B], [replace(A, value=B.value), replace(B, value=A.value)])
    assert found.changes == ()
    assert len(found.statements) == 2


def test_the_reason_of_the_gone_is_the_callers() -> None:
    """What became of a deleted item is recorded with each of its statements, and with the changes."""
    found = diff("P6", "Q1", [A], [], NOW, "redirected to Q7")
    assert found.gone == (("Q1-a", "redirected to Q7"),)
    assert [change.reason for change in found.changes] == ["redirected to Q7"]


def test_a_change_names_subject_and_relation() -> None:
    """The subject and relation of a change are those that were asked for."""
    (change,) = between([], [A]).changes
    assert change == Change(ChangeKind.ADDED, "Q1", "P6", None, A.value, A.id, "new statement")
