"""What a run says of the room that its live set leaves."""

from __future__ import annotations

import math

import pytest

from kbsync.evaluate.capacity import Estimate
from kbsync.evaluate.gate import Verdict
from kbsync.evaluate.room import FEW, Room, look, room_of


def known(
    facts: float, rule: str = "perplexity_ratio", holds: int | None = None, breaks: int | None = None
) -> Estimate:
    return Estimate(rule, facts, 0.8 * facts, 1.3 * facts, holds, breaks, 0.05, (0.0, 1e-3, 1.0))


def broken(*rules: str) -> list[Verdict]:
    """Verdicts of a gate that refuses by these rules, and keeps another one."""
    kept = Verdict("retired_favoured", 0.0, "≤", 0.05, True, "")
    return [kept, *(Verdict(rule, 1.0, "≤", 0.5, False, "") for rule in rules)]


def test_the_rule_that_binds_first_is_the_capacity() -> None:
    """With its interval; a rule whose cost does not grow binds nothing."""
    found = look(80, [known(200, "b"), known(120, "a"), known(math.inf, "c")], broken(), ())
    assert (found.capacity, found.rule, found.headroom) == (120, "a", 40)
    assert (found.low, found.high) == (pytest.approx(96), pytest.approx(156))
    assert found.keeps is None
    assert look(80, [known(math.inf)], broken(), ()).capacity is None
    assert look(80, [], broken(), ()).headroom is None


@pytest.mark.parametrize(("facts", "warned"), [(80, False), (81, True), (130, True)])
def test_a_warning_comes_before_the_limit(facts: int, warned: bool) -> None:
    """From four fifths of the estimate on, in words that have both numbers and the rule."""
    found = look(facts, [known(100)], broken(), ())
    assert found.nearly_full is warned
    assert [str(facts) in one and "about 100" in one and "perplexity_ratio" in one for one in found.warnings()] == (
        [True] if warned else []
    )


@pytest.mark.parametrize(
    ("misses", "warned"),
    [((), False), ((0,), False), ((FEW, FEW), False), ((40, 20), False), ((40, 21), True), ((40,), True),
     ((40, 30, 19), False)],
)  # fmt: skip
def test_repair_that_leaves_more_than_half_is_a_warning(misses: tuple[int, ...], warned: bool) -> None:
    """A round that was not kept has shrunk nothing; a handful of misses says nothing."""
    found = look(100, [], broken(), misses)
    assert found.repair_fails is warned
    assert bool(found.warnings()) is warned


def test_a_refusal_that_fewer_facts_would_undo_is_a_full_model() -> None:
    """It says how many: some under the estimate, but never less than what held, and always fewer than now."""
    assert look(300, [known(200)], broken("perplexity_ratio"), ()).keeps == 190
    assert look(203, [known(201, holds=198)], broken("perplexity_ratio"), ()).keeps == 198
    assert look(200, [known(199, holds=200)], broken("perplexity_ratio"), ()).keeps == 189
    both = [known(200), known(100, "neighborhood_drop")]
    assert look(300, both, broken("perplexity_ratio", "neighborhood_drop"), ()).keeps == 95
    assert look(300, both, broken("perplexity_ratio"), ()).keeps == 190, "the other one holds as it is"


@pytest.mark.parametrize(
    ("estimates", "rules"),
    [
        ([known(200)], ()),
        ([known(200)], ("retired_favoured",)),
        ([known(200)], ("paraphrase_success",)),
        ([known(300)], ("perplexity_ratio",)),
        ([known(0.9)], ("perplexity_ratio",)),
        ([], ("perplexity_ratio",)),
    ],
)
def test_every_other_refusal_is_not(estimates: list[Estimate], rules: tuple[str, ...]) -> None:
    """The gate passes; or the rule has no law, one that fewer facts would not help, or one that allows no fact."""
    found = look(300, estimates, broken(*rules), ())
    assert found.keeps is None
    assert found.advice("hold") is None


def test_the_advice_names_what_comes_next() -> None:
    """What the next sync does, or what to set."""
    full = Room(300, keeps=190)
    assert full.advice("hold") == (
        "the model is full: about 190 of these 300 facts fit, and the next sync holds back the others, those of "
        "least priority (watch.priority)"
    )
    assert "set watch.max_live to 190" in str(full.advice("refuse"))


@pytest.mark.parametrize(
    "room",
    [
        Room(5),
        Room(80, 120.5, 100.0, math.inf, "perplexity_ratio", 12, 7),
        Room(300, 200.0, 150.0, 260.0, "neighborhood_drop", 0, 0, 190),
    ],
)
def test_it_comes_back_from_its_metrics(room: Room) -> None:
    """What is stored is all that there is to say."""
    assert room_of(room.facts, room.metrics()) == room
    assert all(math.isfinite(metric.value) for metric in room.metrics())


def test_words_for_what_is_not_known() -> None:
    """Nothing is made up, and no end is said to be none."""
    assert Room(5).words() == "5 facts; how many fit can't be told yet"
    open_end = Room(80, 120.5, 100.0, math.inf, "perplexity_ratio").words()
    assert open_end == "80 facts of about 120 that fit (100 to any number; perplexity_ratio binds)"
