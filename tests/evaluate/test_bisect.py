"""Group testing against models in which it is known who does the damage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.evaluate.bisect import Found, bisect

SIZES = st.integers(1, 80)


def search(
    damage: Callable[[frozenset[int]], float],
    groups: Sequence[Sequence[int]],
    limit: float = 0.0,
    most: int = 10_000,
    blamed: float = 0.0,
) -> tuple[Found[int, float], list[frozenset[int]]]:
    """Bisect where a set passes when its damage is within the limit, and who adds more than `blamed` is to blame.
    Also the sets that were tested, in their order."""
    tested: list[frozenset[int]] = []

    def test(some: frozenset[int]) -> float:
        tested.append(some)
        return damage(some)

    everyone = frozenset(one for group in groups for one in group)
    found = bisect(
        groups,
        damage(everyone),
        test,
        lambda value: value <= limit,
        lambda with_it, without: with_it - without > blamed,
        most,
    )
    return found, tested


@st.composite
def populations(draw: st.DrawFn) -> tuple[list[list[int]], set[int]]:
    """Requests in two groups, in some order, and which of them are bad: one at least."""
    size = draw(SIZES)
    order = draw(st.permutations(range(size)))
    cut = draw(st.integers(0, size))
    bad = draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=5))
    return [order[:cut], order[cut:]], bad


@given(populations())
def test_exactly_the_culprits_are_found(population: tuple[list[list[int]], set[int]]) -> None:
    """Where each bad one does damage by itself, whatever it is with, the bad ones are found and the others kept."""
    groups, bad = population
    found, _ = search(lambda some: float(len(some & bad)), groups)
    assert {culprit.one for culprit in found.culprits} == bad
    assert set(found.kept) == {one for group in groups for one in group} - bad
    assert (found.crowded, found.untested, found.crowd) == ((), (), None)


@given(populations())
def test_the_number_of_tests_is_logarithmic(population: tuple[list[list[int]], set[int]]) -> None:
    """No more than what the docstring promises, and no set is tested twice, nor the refused one again."""
    groups, bad = population
    found, tested = search(lambda some: float(len(some & bad)), groups)
    size = sum(map(len, groups))
    assert found.tests == len(tested) == len(set(tested))
    assert found.tests <= 1 + 2 + 2 * len(bad) * (math.ceil(math.log2(size)) + 1)
    assert frozenset(range(size)) not in tested


@given(SIZES)
def test_a_culprit_that_is_suspected_is_cheap(size: int) -> None:
    """The one suspect is told from all others by two tests: of what is live, and of all but the suspect."""
    found, tested = search(lambda some: float(0 in some), [range(1, size + 1), [0]])
    assert [culprit.one for culprit in found.culprits] == [0]
    assert tested == [frozenset(), frozenset(range(1, size + 1))]
    assert len(found.kept) == size


@settings(max_examples=200)
@given(populations(), st.randoms(use_true_random=False), st.integers(0, 30))
def test_what_is_kept_has_passed(population: tuple[list[list[int]], set[int]], random: object, most: int) -> None:
    """However the damage of a set follows from who is in it, and whenever the tests run out: what is kept was
    tested as a whole and passed, and each request is in one list."""
    groups, _ = population
    judged: dict[frozenset[int], float] = {frozenset(one for group in groups for one in group): 1.0}

    def damage(some: frozenset[int]) -> float:
        return judged.setdefault(some, float(random.random() < 0.5))  # type: ignore[attr-defined]

    found, tested = search(damage, groups, most=most)
    assert found.tests == len(tested) <= most
    everyone = sorted(one for group in groups for one in group)
    culprits = [culprit.one for culprit in found.culprits]
    assert sorted([*found.kept, *culprits, *found.crowded, *found.untested]) == everyone
    if found.kept:
        assert frozenset(found.kept) in tested
        assert judged[frozenset(found.kept)] == 0.0
    for culprit in found.culprits:
        assert (culprit.with_it, culprit.without) == (1.0, 0.0)


@given(populations(), st.integers(0, 20))
def test_the_same_tests_find_the_same(population: tuple[list[list[int]], set[int]], most: int) -> None:
    """Twice the same, test by test; and fewer tests allowed are the first of those that more would make."""
    groups, bad = population

    def damage(some: frozenset[int]) -> float:
        return float(len(some & bad))

    found, tested = search(damage, groups, most=most)
    assert search(damage, groups, most=most) == (found, tested)
    assert search(damage, groups)[1][: len(tested)] == tested


@given(st.integers(2, 60), st.integers(0, 59))
def test_damage_that_is_spread_evenly_is_nobody_s(size: int, fit: int) -> None:
    """Of equal facts as many are kept as fit; the next one is not blamed for being the next, and there it ends."""
    fit = min(fit, size - 1)
    found, _ = search(lambda some: float(len(some)), [range(size)], limit=float(fit), blamed=5.0)
    assert found.culprits == ()
    assert len(found.kept) == fit
    assert len(found.crowded) == 1
    assert (found.passed, found.crowd) == (fit, fit + 1)
    assert len(found.untested) == size - fit - 1


def test_what_does_not_pass_by_itself_is_not_the_new_ones_fault() -> None:
    """One test, and nobody is named."""
    found, tested = search(lambda _: 1.0, [[1, 2], [3]])
    assert (found.base, found.kept, found.culprits, found.untested) == (1.0, (), (), (1, 2, 3))
    assert tested == [frozenset()]


@pytest.mark.parametrize("most", range(8))
def test_each_further_test_tells_more(most: int) -> None:
    """With few tests all that was not come to is untested, and nothing wrong is said."""
    found, _ = search(lambda some: float(5 in some), [range(16)], most=most)
    assert [culprit.one for culprit in found.culprits] in ([], [5])
    assert 5 not in found.kept
    assert len(found.kept) + len(found.culprits) + len(found.untested) == 16
    assert (found.base is None) == (most == 0)
