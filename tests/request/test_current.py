"""Current values: what each policy makes of several truthy values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.facts import KnownFact
from kbsync.request.catalogue import Current
from kbsync.request.current import Choice, choose, newest
from tests.request.facts_of import NOW, known, year


def fact(value: str, **marks: object) -> KnownFact:
    return known("Q1", "P6", value, **marks)  # type: ignore[arg-type]


def values(facts: tuple[KnownFact, ...]) -> list[str]:
    return [one.fact.value.text for one in facts]


@pytest.mark.parametrize("policy", list(Current))
def test_one_value_is_current_under_any_policy(policy: Current) -> None:
    """A single live value needs no decision, with or without dates."""
    assert values(choose([fact("Q2")], policy, NOW).current) == ["Q2"]
    assert values(choose([fact("Q2", start=1990)], policy, NOW).current) == ["Q2"]
    assert choose([], policy, NOW) == Choice()


@pytest.mark.parametrize("policy", list(Current))
def test_the_past_and_the_future_are_not_current(policy: Current) -> None:
    """A value that has ended or not begun leaves the decision, even with preferred rank."""
    choice = choose(
        [fact("Q2", end=2020, preferred=True), fact("Q3", start=2030, preferred=True), fact("Q4")], policy, NOW
    )
    assert values(choice.current) == ["Q4"]
    assert values(choice.ended) == ["Q2"]
    assert values(choice.not_begun) == ["Q3"]
    assert choice.superseded == choice.undecided == ()


def test_an_end_in_the_future_has_not_ended() -> None:
    """A term that is known to end next year still runs."""
    assert values(choose([fact("Q2", end=2025)], Current.SINGLE, NOW).current) == ["Q2"]
    later = choose([fact("Q2", end=2025)], Current.SINGLE, datetime(2026, 1, 1, tzinfo=UTC))
    assert values(later.ended) == ["Q2"]


TWO_DATED = [fact("Q2", start=2010), fact("Q3", start=2020)]
ONE_DATED = [fact("Q2"), fact("Q3", start=2020)]
NONE_DATED = [fact("Q2"), fact("Q3")]
SAME_START = [fact("Q2", start=2020), fact("Q3", start=2020)]
RANKED = [fact("Q2", preferred=True), fact("Q3", start=2020)]
RANKED_OLD = [fact("Q2", start=2010, preferred=True), fact("Q3", start=2020)]
RANKED_TIE = [fact("Q2", start=2020, preferred=True), fact("Q3", start=2020)]
BOTH_RANKED = [fact("Q2", start=2010, preferred=True), fact("Q3", start=2020, preferred=True)]


@pytest.mark.parametrize(
    ("facts", "preferred", "latest"),
    [
        (TWO_DATED, "Q3", "Q3"),
        (ONE_DATED, None, "Q3"),
        (NONE_DATED, None, None),
        (SAME_START, None, None),
        (RANKED, "Q2", "Q3"),
        (RANKED_OLD, "Q2", "Q3"),
        (RANKED_TIE, "Q2", "Q2"),
        (BOTH_RANKED, "Q3", "Q3"),
    ],
)
def test_preferred_and_latest(facts: list[KnownFact], preferred: str | None, latest: str | None) -> None:
    """`preferred` trusts rank before dates, `latest` dates before rank; neither guesses without them."""
    for policy, expected in ((Current.PREFERRED, preferred), (Current.LATEST, latest)):
        choice = choose(facts, policy, NOW)
        if expected is None:
            assert values(choice.undecided) == ["Q2", "Q3"]
            assert choice.current == choice.superseded == ()
        else:
            assert values(choice.current) == [expected]
            assert values(choice.superseded) == [one for one in ("Q2", "Q3") if one != expected]


def test_single_never_decides() -> None:
    """Under `single` two live values are undecided, whatever their rank and dates."""
    for facts in (TWO_DATED, RANKED, RANKED_OLD):
        assert values(choose(facts, Current.SINGLE, NOW).undecided) == ["Q2", "Q3"]


def test_many_keeps_all() -> None:
    """Under `many` every live value is current at the same time."""
    assert values(choose(TWO_DATED, Current.MANY, NOW).current) == ["Q2", "Q3"]


def test_two_statements_of_one_value() -> None:
    """A second term of office speaks for its value; the first one is a duplicate, not an end."""
    first = fact("Q2", start=2000, end=2008, baseline=True)
    second = fact("Q2", start=2020)
    choice = choose([first, second, fact("Q3", start=2010)], Current.LATEST, NOW)
    assert choice.current == (second,)
    assert choice.duplicate == (first,)
    assert values(choice.superseded) == ["Q3"]


def test_which_of_two_like_statements_speaks() -> None:
    """Of two statements alike in value and dates the baseline's speaks, so a copy of it is not news."""
    old, copy = fact("Q2", baseline=True), fact("Q2")
    for order in ([old, copy], [copy, old]):
        choice = choose(order, Current.SINGLE, NOW)
        assert (choice.current, choice.duplicate) == ((old,), (copy,))


def test_duplicates_come_in_the_order_of_their_values() -> None:
    """Further statements of two values are sorted, whatever order they came in."""
    facts = [fact("Q2"), fact("Q2", end=2000), fact("Q3"), fact("Q3", end=2000, preferred=True)]
    for order in (facts, facts[::-1]):
        assert values(choose(order, Current.SINGLE, NOW).duplicate) == ["Q2", "Q3"]


def test_newest_needs_every_start() -> None:
    """The newest of several is only known when all have a start and no two share the last one."""
    assert newest(TWO_DATED) is TWO_DATED[1]
    assert newest(ONE_DATED) is None
    assert newest(SAME_START) is None


some_facts = st.lists(
    st.builds(
        lambda value, preferred, baseline, start, end, day: replace(
            fact(f"Q{value}", preferred=preferred, baseline=baseline, start=start, end=end),
            seen=year(2023).replace(day=day),
        ),
        st.integers(2, 5),
        st.booleans(),
        st.booleans(),
        st.none() | st.integers(2000, 2030),
        st.none() | st.integers(2000, 2030),
        st.integers(1, 3),
    ),
    max_size=8,
)


@given(some_facts, st.sampled_from(Current), st.randoms())
def test_every_fact_is_somewhere_and_order_is_nowhere(
    facts: list[KnownFact], policy: Current, random: object
) -> None:
    """Each fact ends in exactly one part of the choice, which a shuffled input does not change."""
    choice = choose(facts, policy, NOW)
    parts = (
        choice.current, choice.undecided, choice.superseded, choice.ended, choice.not_begun, choice.duplicate
    )  # fmt: skip
    everything = sorted(repr(one) for part in parts for one in part)
    assert everything == sorted(repr(one) for one in facts)
    assert len(choice.current) <= 1 or policy is Current.MANY
    assert not (choice.current and choice.undecided)
    shuffled = list(facts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, policy, NOW) == choice
