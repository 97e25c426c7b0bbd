"""Who is suspect, and who is to blame."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kbsync.evaluate.blame import Judged, missed, suspects, to_blame
from kbsync.evaluate.gate import Verdict
from kbsync.facts import Outcome, Phase, PromptKind


def judged(facts: int, metric: str, value: float | None, comparison: str, threshold: float) -> Judged:
    """A live set under one rule."""
    ok = value is None or (value >= threshold if comparison == "≥" else value <= threshold)
    return Judged(facts, (Verdict(metric, value, comparison, threshold, ok, "a reason"),))


def ratio(facts: int, value: float | None) -> Judged:
    """By perplexity."""
    return judged(facts, "perplexity_ratio", value, "≤", 1.05)


@pytest.mark.parametrize(
    ("facts", "without", "with_it", "blamed"),
    [
        (0, None, 1.06, True),  # alone on the base model, it breaks the rule
        (100, 1.02, 1.06, True),  # a hundred facts cost 2 %, this one 4 %
        (100, 1.049, 1.0505, False),  # what any other would cost
        (100, 1.049, 1.052, False),  # somewhat more
        (2, 1.03, 1.06, False),  # of two facts little is known
        (2, 1.01, 1.5, True),  # but this is no matter of room
        (10, 1.02, math.nan, True),
        (10, 1.02, math.inf, True),
    ],
)
def test_blamed_for_more_than_its_share(facts: int, without: float | None, with_it: float, blamed: bool) -> None:
    """The last drop is not to blame; a bucketful is."""
    rule = to_blame(ratio(facts + 1, with_it), ratio(facts, without))
    assert (rule is not None) == blamed
    if rule is not None:
        assert rule.metric == "perplexity_ratio"


@pytest.mark.parametrize(
    ("metric", "facts", "without", "with_it", "threshold", "blamed"),
    [
        ("efficacy_success", 99, 98 / 99, 0.94, 0.95, True),
        ("efficacy_success", 19, 1.0, 0.94, 0.95, True),
        ("efficacy_accuracy", 100, 0.80, 80 / 101, 0.80, False),  # one in five is missed anyway
        ("paraphrase_success", 100, 0.801, 0.7995, 0.80, False),
    ],
)
def test_shares_are_counted_in_facts(
    metric: str, facts: int, without: float, with_it: float, threshold: float, blamed: bool
) -> None:
    """One missed edit among many that are right stands out; one more miss where misses are usual does not."""
    one = judged(facts + 1, metric, with_it, "≥", threshold)
    assert (to_blame(one, judged(facts, metric, without, "≥", threshold)) is not None) == blamed


def test_a_neighborhood_that_falls_at_once() -> None:
    """A drop of a hundredth over fifty facts is a drop of half a fact's prompts; one fact that doubles it ten times
    over is to blame."""
    before = judged(50, "neighborhood_drop", 0.01, "≤", 0.05)
    assert to_blame(judged(51, "neighborhood_drop", 0.06, "≤", 0.05), before) is not None
    full = judged(50, "neighborhood_drop", 0.05, "≤", 0.05)
    assert to_blame(judged(51, "neighborhood_drop", 0.0504, "≤", 0.05), full) is None


def test_only_broken_rules_are_blamed() -> None:
    """However much a fact costs by a rule that is kept."""
    assert to_blame(ratio(2, 1.049), ratio(1, 1.0)) is None


def outcome(
    fact: str, phase: Phase, kind: PromptKind, success: bool, accuracy: bool = True, index: int = 0
) -> Outcome:
    return Outcome(fact, phase, kind, index, "p", "new", "old", -1.0, -2.0, success, accuracy)


def test_suspects_come_last() -> None:
    """First those whose own prompts are all right, then by missed paraphrases; at the end who breaks neighbors and
    whose edit is missed. What the base model got wrong too is nobody's fault."""
    after, before = Phase.AFTER, Phase.BEFORE
    said = [
        outcome("missed", after, PromptKind.REWRITE, False, False),
        outcome("unsaid", after, PromptKind.REWRITE, True, False),
        *(outcome("breaks", before, PromptKind.NEIGHBORHOOD, True, index=i) for i in range(2)),
        *(outcome("breaks", after, PromptKind.NEIGHBORHOOD, False, index=i) for i in range(2)),
        outcome("innocent", before, PromptKind.NEIGHBORHOOD, False),
        outcome("innocent", after, PromptKind.NEIGHBORHOOD, False),
        outcome("weak", after, PromptKind.PARAPHRASE, False),
        outcome("live", after, PromptKind.REWRITE, False, False),
    ]
    everyone = ["breaks", "innocent", "missed", "plain", "unsaid", "weak"]
    assert suspects(said, everyone) == [["innocent", "plain", "weak"], ["breaks", "unsaid", "missed"]]
    assert suspects(said[::-1], everyone[::-1]) == suspects(said, everyone)
    assert suspects([], ["b", "a"]) == [["a", "b"], []]


class TestMissed:
    """Who misses by itself, where a rule over what the edits say is broken and nobody is to blame."""

    said = (
        outcome("unsaid", Phase.AFTER, PromptKind.REWRITE, True, False),
        outcome("missed", Phase.AFTER, PromptKind.REWRITE, False, False),
        replace(outcome("says", Phase.AFTER, PromptKind.REWRITE, False, False), said=" Old King"),
        outcome("right", Phase.BEFORE, PromptKind.REWRITE, False, False),
        outcome("right", Phase.AFTER, PromptKind.REWRITE, True),
        *(outcome("right", Phase.AFTER, PromptKind.PARAPHRASE, False, index=i) for i in range(2)),
        outcome("kept", Phase.AFTER, PromptKind.REWRITE, False, False),
    )
    surplus = ("right", "says", "unsaid", "missed")

    def named(self, metric: str, threshold: float = 0.8, new: int = 100, **other: float) -> dict[str, str]:
        """Who is named, and the words; `other` has the perplexity, where that rule is broken too."""
        crowd = judged(100, metric, threshold - 0.01, "≥", threshold)
        if other:
            crowd = Judged(100, (*crowd.verdicts, *ratio(100, other["perplexity"]).verdicts))
        found = missed(crowd, self.said, self.surplus, new)
        assert all(rule.metric == metric for rule, _ in found.values())
        return {one: words for one, (_, words) in found.items()}

    def test_by_the_rule_that_is_broken(self) -> None:
        """By accuracy, by success, by paraphrases: each has its own, with what the model says instead. Who is kept
        is not named, nor what the base model missed."""
        assert self.named("efficacy_accuracy") == {
            "unsaid": "its own edit is missed",
            "missed": "its own edit is missed",
            "says": "its own edit is missed: the model says 'Old King', not 'new'",
        }
        assert set(self.named("efficacy_success")) == {"missed", "says"}
        assert self.named("paraphrase_success") == {"right": "its edit does not carry over to 2 of its paraphrases"}

    @pytest.mark.parametrize(
        ("new", "threshold", "named"), [(15, 0.8, 3), (14, 0.8, 0), (30, 0.9, 3), (29, 0.9, 0)]
    )
    def test_no_more_than_the_rule_lets_fail(self, new: int, threshold: float, named: int) -> None:
        """Among the new ones: where more miss, that is nobody's fault."""
        assert len(self.named("efficacy_accuracy", threshold, new)) == named

    def test_one_may_always_be(self) -> None:
        """A single new fact that misses does not keep itself and the others out for good."""
        assert set(self.named("paraphrase_success", 0.99, 1)) == {"right"}

    def test_not_where_the_damage_is_to_others(self) -> None:
        """A rule over text or neighbors that is broken as well says that there is more to it."""
        assert len(self.named("efficacy_accuracy", perplexity=1.04)) == 3
        assert self.named("efficacy_accuracy", perplexity=1.06) == {}
