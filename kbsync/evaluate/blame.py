"""Whose fault a refusal is: which requests look suspect, which one does more damage than its share, which miss by
themselves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from kbsync.evaluate.gate import Verdict
from kbsync.evaluate.metrics import hits_of
from kbsync.facts import Outcome, Phase, PromptKind

SHARE = 5.0  # so many times its share a fact must cost to be blamed
OWN = ("efficacy_success", "efficacy_accuracy", "paraphrase_success")  # rules over what each edit itself says
_MISSED = 3  # a missed edit looks as bad as so many broken neighbors


@dataclass(frozen=True, slots=True)
class Judged:
    """A live set of `facts` facts as the gate judged it."""

    facts: int
    verdicts: tuple[Verdict, ...]


def to_blame(with_it: Judged, without: Judged) -> Verdict | None:
    """The broken rule that one more fact is to blame for; None where it has done no more than its share.

    A live set that is as large as the gate allows breaks a rule by any fact that comes on top. So a fact is blamed
    when it breaks the rule all alone, or when it costs more than `SHARE` times its share: the mean of what those
    before it cost, with the rule's whole allowance counted as one more of them, since of a few facts little is
    known. `with_it` has one fact more than `without`.
    """
    before = {verdict.metric: verdict for verdict in without.verdicts}
    for verdict in with_it.verdicts:
        if verdict.passed:
            continue
        old = _total(before.get(verdict.metric), without.facts)
        own = _total(verdict, with_it.facts) - old
        allowed = max(_total(replace(verdict, value=verdict.threshold), with_it.facts), 0.0)
        share = (max(old, 0.0) + allowed) / with_it.facts
        if not without.facts or not math.isfinite(own) or own > SHARE * share:
            return verdict
    return None


def _total(verdict: Verdict | None, facts: int) -> float:
    """What all facts together cost by a rule: 0 for a perfect model, infinite where there is no number.

    Shares of the facts' prompts are means, so their cost is multiplied by the number of facts.
    """
    if verdict is None or verdict.value is None:
        return 0.0
    if not math.isfinite(verdict.value):
        return math.inf
    if verdict.comparison == "≥":
        return (1 - verdict.value) * facts
    if verdict.metric.endswith("_ratio"):
        return math.log(verdict.value) if verdict.value > 0 else math.inf
    return verdict.value * facts if verdict.metric.startswith("neighborhood") else verdict.value


def missed(
    crowd: Judged, outcomes: Sequence[Outcome], surplus: Collection[str], new: int
) -> dict[str, tuple[Verdict, str]]:
    """Those of the `surplus` requests (content hashes) that miss by themselves: each with the rule, and in words.

    `crowd` is a live set that does not pass, and in which nobody is to blame. Where that is for rules over what the
    edits themselves say, and for no other, those that don't say it are what keeps it out. But no more of them than
    the rule lets fail among the `new` requests, or one: where more fail, it is the model that is full, or the words
    of a relation that are wrong.
    """
    broken = [verdict for verdict in crowd.verdicts if not verdict.passed]
    if any(verdict.metric not in OWN for verdict in broken):
        return {}
    after = [one for one in outcomes if one.phase is Phase.AFTER and one.content_hash in surplus]
    fails = Counter((hit.metric, hit.fact) for hit in hits_of(after) if not hit.hit)
    found = {one: rule for rule in broken[::-1] for one in sorted(surplus) if fails[rule.metric, one]}
    most = min((1 - rule.threshold for rule in broken), default=0.0) * new
    if len(found) > max(1.0, round(most, 9)):
        return {}
    return {one: (rule, _own_words(after, one, fails[rule.metric, one], rule)) for one, rule in found.items()}


def _own_words(after: Sequence[Outcome], request: str, failed: int, rule: Verdict) -> str:
    """How a request misses a rule over what its edit says."""
    if rule.metric.startswith("paraphrase"):
        return f"its edit does not carry over to {failed} of its paraphrases"
    own = next(one for one in after if one.content_hash == request and one.kind is PromptKind.REWRITE)
    said = f": the model says {own.said.strip()!r}, not {own.target_new!r}" if own.said is not None else ""
    return f"its own edit is missed{said}"


def suspects(outcomes: Iterable[Outcome], requests: Sequence[str]) -> list[list[str]]:
    """The requests (content hashes) by how bad their own outcomes are, the best first, in two groups.

    In the second are those whose edit is missed, or at whose neighbors the candidate is wrong and the base model
    was right. Missed paraphrases decide among equals, then the hash: the order is that of the outcomes alone.
    """
    wanted, bad, weak = set(requests), Counter[str](), Counter[str]()
    held = set()
    both = [one for one in outcomes if one.content_hash in wanted]
    for one in both:
        if one.phase is Phase.BEFORE and one.kind is PromptKind.NEIGHBORHOOD and one.success:
            held.add((one.content_hash, one.index))
    for one in both:
        if one.phase is not Phase.AFTER:
            continue
        if one.kind is PromptKind.REWRITE:
            bad[one.content_hash] += _MISSED * (not one.success) + _MISSED * (not one.accuracy)
        elif one.kind is PromptKind.NEIGHBORHOOD and not one.success and (one.content_hash, one.index) in held:
            bad[one.content_hash] += 1
        elif one.kind is PromptKind.PARAPHRASE and not one.success:
            weak[one.content_hash] += 1
    ordered = sorted(wanted, key=lambda one: (bad[one], weak[one], one))
    return [[one for one in ordered if not bad[one]], [one for one in ordered if bad[one]]]
