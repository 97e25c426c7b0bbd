"""Who is suspect, and who is to blame."""

from __future__ import annotations

import math

import pytest

from kbsync.evaluate.blame import Judged, suspects, to_blame
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
