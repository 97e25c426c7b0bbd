"""What edits do to everything else: the fixed text, and facts that were retired."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kbsync.evaluate.drift import FAVOURED_NATS, ask_retired, favoured_share, text_perplexity
from kbsync.facts import Outcome, Phase, PromptKind
from kbsync.lm.score import perplexity
from kbsync.lm.text import drift_text
from kbsync.settings import EvaluateSettings
from tests.evaluate.known import VOCAB, says
from tests.tiny import encoder, request, requests, tiny_model

PLAIN = encoder(chat=False)
RETIRED = [request("France", "Germany"), request("Japan", "capital", number=2)]


def base_of(*chains: dict[str, float]) -> dict[str, Outcome]:
    """The base model's outcomes by content hash."""
    return {o.content_hash: o for o in ask_retired(says(PLAIN, chains[0] if chains else {}), PLAIN, RETIRED)}


class TestPerplexity:
    """The fixed text."""

    def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large(self) -> None:
        """Equal logits give a perplexity of exactly the vocabulary's size."""
        found = text_perplexity(says(PLAIN, {}), PLAIN, EvaluateSettings(drift_tokens=600))
        assert found == pytest.approx(VOCAB, rel=1e-4)

    def test_only_the_first_tokens_are_read(self) -> None:
        """As many as the settings say."""
        model = tiny_model()
        ids = PLAIN.text_ids(drift_text())[:300]
        found = text_perplexity(model, PLAIN, EvaluateSettings(drift_tokens=300))
        assert found == pytest.approx(perplexity(model, ids, PLAIN.bos_id))

    def test_a_damaged_model_is_more_perplexed(self) -> None:
        """Noise in one layer shows."""
        chains = {" the value of the": 4.0, " is the": 3.0}
        good, bad = says(PLAIN, chains), says(PLAIN, {text: -logit for text, logit in chains.items()})
        settings = EvaluateSettings(drift_tokens=2000)
        assert text_perplexity(good, PLAIN, settings) < text_perplexity(bad, PLAIN, settings)


class TestRetired:
    """Facts that the synced model must no longer favour."""

    def test_the_base_model_is_the_measure_itself(self) -> None:
        """Its outcomes have nothing to be compared with, and count as kept."""
        outcomes = ask_retired(tiny_model(), PLAIN, requests())
        assert all(o.success and o.logp_old is None and o.phase is Phase.BEFORE for o in outcomes)
        assert [o.content_hash for o in outcomes] == [one.content_hash for one in requests()]
        assert {o.kind for o in outcomes} == {PromptKind.RETIRED}

    def test_the_same_model_favours_nothing(self) -> None:
        """A candidate that is the base model again."""
        model = tiny_model()
        base = {o.content_hash: o for o in ask_retired(model, PLAIN, requests())}
        outcomes = ask_retired(model, PLAIN, requests(), base)
        assert all(o.success and o.accuracy and o.phase is Phase.AFTER for o in outcomes)
        assert all(o.logp_old == o.logp_new for o in outcomes)

    @pytest.mark.parametrize(("more", "kept"), [(1.8, True), (2.2, False)])
    def test_a_rise_of_two_nats_per_token_is_favour(self, more: float, kept: bool) -> None:
        """Each side of the threshold, where neither model says the object."""
        assert FAVOURED_NATS == 2.0
        louder = {" is the": 9.0}
        base = base_of({**louder, " is Germany": 0.0})
        after = ask_retired(says(PLAIN, {**louder, " is Germany": more}), PLAIN, RETIRED, base)[0]
        assert not after.accuracy or kept or after.logp_new > base[after.content_hash].logp_new
        assert after.success is kept

    def test_to_be_said_is_favour(self) -> None:
        """A small rise that makes the object the greedy answer."""
        base = base_of({" is the": 0.5, " is Germany": 0.4})
        after = ask_retired(says(PLAIN, {" is the": 0.5, " is Germany": 0.6}), PLAIN, RETIRED, base)[0]
        assert (after.success, after.accuracy) == (False, False)

    def test_an_object_that_the_base_model_says_may_be_said(self) -> None:
        """Retiring a fact brings back the base model, not ignorance."""
        base = base_of({" is Germany": 3.0})
        after = ask_retired(says(PLAIN, {" is Germany": 3.0}), PLAIN, RETIRED, base)[0]
        assert (after.success, after.accuracy) == (True, True)

    def test_the_share_counts_the_candidates_outcomes_only(self) -> None:
        """One of two is a half; the base model's own are not counted."""
        base = base_of()
        after = ask_retired(says(PLAIN, {" is Germany": 3.0}), PLAIN, RETIRED, base)
        metric = favoured_share([*base.values(), *after])
        assert metric is not None
        assert (metric.name, metric.value, metric.count) == ("retired_favoured", 0.5, 2)

    def test_nothing_retired_nothing_measured(self) -> None:
        """None, not zero; and other outcomes are not taken for retired ones."""
        assert favoured_share([]) is None
        edit = replace(next(iter(base_of().values())), kind=PromptKind.REWRITE, phase=Phase.AFTER)
        assert favoured_share([edit]) is None

    def test_a_model_without_numbers_is_not_taken_for_good(self) -> None:
        """NaN is above nothing; the perplexity rule has to stop such a model, and does."""
        model = tiny_model()
        model.lm_head.weight.fill_(math.nan)
        assert math.isnan(text_perplexity(model, PLAIN, EvaluateSettings(drift_tokens=64)))
