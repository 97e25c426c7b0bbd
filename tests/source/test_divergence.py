"""Every difference between store and source has one name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given

from kbsync.facts import Divergence, DivergenceKind, Item, Rank, Statement, Value, ValueKind
from kbsync.source.divergence import divergences, label_divergences, loses
from tests.source.test_diff import statements

NOW = datetime(2024, 1, 1, tzinfo=UTC)
A = Statement("Q1-A", "Q1", "P6", Value(ValueKind.ITEM, "Q7"), Rank.NORMAL, True)
B = replace(A, id="Q1-B", value=Value(ValueKind.ITEM, "Q8"))


def kinds(found: list[Divergence]) -> list[str]:
    return [str(one.kind) for one in found]


@pytest.mark.parametrize(
    ("known", "seen", "more", "expected"),
    [
        ([A], [A], {}, []),
        ([A, B], [A], {}, ["deleted statement"]),
        ([A], [], {"fate": "item deleted"}, ["deleted item"]),
        ([], [], {"fate": "item deleted"}, []),
        ([A, B], [], {"fate": "redirected to Q9"}, ["merged subject"]),
        ([], [A, B], {"past": {"Q1-A": "item deleted"}}, ["undeleted item"]),
        ([], [A], {"past": {"Q1-A": "redirected to Q9"}}, ["undeleted item"]),
        ([A], [A, B], {"past": {"Q1-B": "deleted"}}, ["returned statement"]),
        ([], [B], {"past": {"Q1-A": "deleted"}}, ["late statement"]),
        ([A], [A, B], {}, ["late statement"]),
        ([], [A, B], {}, ["late item"]),
        ([A], [replace(A, value=B.value)], {}, ["replaced value"]),
        ([A], [replace(A, value=B.value)], {"moved": {"Q7": "Q8"}}, ["merged object"]),
        ([A], [replace(A, rank=Rank.PREFERRED)], {}, ["rank"]),
        ([A], [replace(A, best=False, end=NOW)], {}, ["rank"]),
        ([A], [replace(A, end=NOW)], {}, ["qualifiers"]),
        ([A], [B], {}, ["deleted statement", "late statement"]),
    ],
)
def test_names(known: list[Statement], seen: list[Statement], more: dict[str, object], expected: list[str]) -> None:
    """Each kind by an example; an item that comes or goes as a whole is named once."""
    assert kinds(divergences("Q1", known, seen, **more)) == expected  # type: ignore[arg-type]


@given(statements, statements)
def test_no_difference_goes_unnamed(known: list[Statement], seen: list[Statement]) -> None:
    """There is a divergence exactly where the statements differ, and one for each that both have."""
    found = divergences("Q1", known, seen)
    before, after = {s.id: s for s in known}, {s.id: s for s in seen}
    assert bool(found) == (before != after)
    changed = {key for key in before.keys() & after.keys() if before[key] != after[key]}
    named = [one.statement_id for one in found if one.statement_id in changed]
    assert sorted(key for key in named if key) == sorted(changed)


@given(statements, statements)
def test_what_loses_something_waits(known: list[Statement], seen: list[Statement]) -> None:
    """Where nothing is lost, all known statements are there and all facts stay."""
    if not loses(known, seen):
        assert {s.id for s in known} <= {s.id for s in seen}
        best = {s.value for s in seen if s.best}
        assert all(s.value in best for s in known if s.best and s.value.kind is not ValueKind.UNKNOWN)
    assert not loses(known, known)


def test_labels() -> None:
    """A label that moved, or went; not one of an item that either side does not have."""
    items = [
        Item("Q1", "new", "en", 2, NOW),
        Item("Q2", None, None, 3, NOW),
        Item("Q3", None, None, None, None),
        Item("Q4", "met first", "en", 1, NOW),
        Item("Q5", "same", "en", 1, NOW),
    ]
    known = {"Q1": "old", "Q2": "named", "Q3": "gone", "Q5": "same"}
    assert label_divergences(items, known) == [
        Divergence(DivergenceKind.LABEL, "Q1", None, "old", "new"),
        Divergence(DivergenceKind.LABEL, "Q2", None, "named", None),
    ]
