"""Which requests do the damage: greedy group testing, with a candidate's judgement as the test.

No model and no store here: a test is a function that somebody gives, and the same tests find the same culprits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")  # a request
V = TypeVar("V")  # how a set of requests was judged


@dataclass(frozen=True, slots=True)
class Culprit(Generic[T, V]):
    """A request that does not pass, how the set was judged with it, and without it."""

    one: T
    with_it: V
    without: V


@dataclass(frozen=True, slots=True)
class Found(Generic[T, V]):
    """What the tests found of the requests; each is in one of four lists.

    `kept` pass together (with what they were added to). `culprits` are to blame. `crowded` has one at most: it did
    not pass, but does no more damage than those that do, so there is no room for it; the search ends there, and
    `crowd` is how what is kept was judged with it. `passed` is how what is kept was judged.
    `untested` is what the search did not come to. `base` is how what they were added to was judged by itself, None
    where nothing was tested; where that does not pass, all are untested.
    """

    base: V | None
    kept: tuple[T, ...] = ()
    culprits: tuple[Culprit[T, V], ...] = ()
    crowded: tuple[T, ...] = ()
    untested: tuple[T, ...] = ()
    tests: int = 0
    passed: V | None = None
    crowd: V | None = None


def bisect(
    groups: Sequence[Sequence[T]],
    refused: V,
    test: Callable[[frozenset[T]], V],
    passes: Callable[[V], bool],
    to_blame: Callable[[V, V], bool],
    most: int,
) -> Found[T, V]:
    """Find the requests that do not pass, by at most `most` tests.

    `groups` has every request once, the least suspect first; `refused` is how all together were judged, which does
    not pass. `test` judges some of them together with what they are added to. A part that passes with those kept so
    far is kept; one that does not is halved, down to a single request. Of such a request `to_blame(with it,
    without)` says whether it is at fault. What is kept has always been tested as a whole, and passed.

    No set is tested twice. With d requests that do damage each by itself among n, there are at most
    2 + 2·d·(⌈log₂ n⌉ + 1) tests beside that of nothing; the less, the further behind the suspects are.
    """
    search = _Search(test, passes, to_blame, most, {frozenset(one for part in groups for one in part): refused})
    base = search.look(frozenset())
    if base is None or not passes(base):
        return Found(base, untested=tuple(one for part in groups for one in part), tests=search.tests)
    search.without = base
    for part in groups:
        search.settle(tuple(part))
    return Found(
        base,
        tuple(search.kept),
        tuple(search.culprits),
        tuple(search.crowded),
        tuple(search.untested),
        search.tests,
        search.without,
        search.crowd,
    )


class _Search(Generic[T, V]):
    def __init__(
        self,
        test: Callable[[frozenset[T]], V],
        passes: Callable[[V], bool],
        to_blame: Callable[[V, V], bool],
        most: int,
        known: dict[frozenset[T], V],
    ) -> None:
        self._test, self._passes, self._to_blame = test, passes, to_blame
        self._most, self._known = most, known
        self.tests = 0
        self.without: V  # how what is kept was judged
        self.kept: list[T] = []
        self.culprits: list[Culprit[T, V]] = []
        self.crowded: list[T] = []
        self.crowd: V | None = None
        self.untested: list[T] = []

    def settle(self, part: Sequence[T]) -> None:
        """Put each request of a part into one of the lists."""
        if not part:
            return
        tested = None if self.crowded else self.look(frozenset([*self.kept, *part]))
        if tested is None:
            self.untested += part
        elif self._passes(tested):
            self.kept += part
            self.without = tested
        elif len(part) > 1:
            middle = (len(part) + 1) // 2
            self.settle(part[:middle])
            self.settle(part[middle:])
        elif self._to_blame(tested, self.without):
            self.culprits.append(Culprit(part[0], tested, self.without))
        else:
            self.crowded += part
            self.crowd = tested

    def look(self, some: frozenset[T]) -> V | None:
        """How these are judged: as it is known, or by a test; None when there may be no more tests."""
        if some not in self._known:
            if self.tests >= self._most:
                return None
            self.tests += 1
            self._known[some] = self._test(some)
        return self._known[some]
