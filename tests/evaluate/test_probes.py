"""Which prompts are asked, and what success and accuracy mean, on a model whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tokenizers import AddedToken

from kbsync.evaluate.answers import ANSWER_TOKENS
from kbsync.evaluate.probes import (
    ask,
    contrast_of,
    greedy_answers,
    known_already,
    probes_of,
    prompt_count,
    row_of,
    unaskable,
)
from kbsync.facts import EditRequest, Outcome, Phase, Prompt, PromptKind
from kbsync.lm.reader import longest_text
from kbsync.lm.rows import Encoder
from tests.evaluate.known import VOCAB, bigram, says
from tests.tiny import encoder, request, requests, tiny_model, tiny_tokenizer

ENCODER = encoder()
PLAIN = encoder(chat=False)
REQUEST = request("France", "Germany", "Japan", neighbors=(("Japan", "capital"), ("Germany", "occupation")))
KINDS = ("rewrite", "paraphrase", "paraphrase", "question", "neighborhood", "neighborhood")


def asked(model: object, one: EditRequest = REQUEST, contrast: str | None = "Japan") -> list[Outcome]:
    """Outcomes of one request, by the plain encoder."""
    return ask(model, PLAIN, [one], {one.content_hash: contrast}, Phase.AFTER)


class TestProbes:
    """The prompts of a request."""

    def test_every_prompt_is_asked_once_in_order(self) -> None:
        """Rewrite, paraphrases, question, neighborhood, each kind counted from 0."""
        probes = probes_of(REQUEST, "Japan")
        assert tuple(probe.kind.value for probe in probes) == KINDS
        assert [probe.index for probe in probes] == [0, 0, 1, 0, 0, 1]
        assert probes[0].prompt == REQUEST.rewrite
        assert [probe.prompt for probe in probes[1:3]] == list(REQUEST.paraphrases)
        assert probes[3].prompt == REQUEST.question

    def test_a_neighbor_should_keep_its_own_object(self) -> None:
        """There the new object is the one that should lose."""
        near = probes_of(REQUEST, "Japan")[-2:]
        assert [(probe.wins, probe.loses) for probe in near] == [("capital", "Germany"), ("occupation", "Germany")]

    def test_elsewhere_the_new_object_should_win(self) -> None:
        """Against the contrast, if there is one."""
        assert {(p.wins, p.loses) for p in probes_of(REQUEST, "Japan")[:4]} == {("Germany", "Japan")}
        assert {p.loses for p in probes_of(REQUEST, None)[:4]} == {None}

    def test_the_count_for_progress_is_what_is_scored(self) -> None:
        """Two rows per probe, where all of them differ."""
        done: list[int] = []
        live = [replace(one, target_old="head") for one in [REQUEST, *requests()[:2]]]
        contrasts: dict[str, str | None] = {one.content_hash: "head" for one in live}
        ask(tiny_model(), PLAIN, live, contrasts, Phase.BEFORE, done.append)
        assert prompt_count(live) == 2 * (6 + 4 + 4)
        assert sum(done) <= prompt_count(live)

    def test_a_question_is_asked_in_the_chat_template(self) -> None:
        """Where there is one; as plain text elsewhere."""
        question = probes_of(REQUEST, None)[3]
        chat, plain = row_of(ENCODER, question, "Germany"), row_of(PLAIN, question, "Germany")
        assert ENCODER.tokenizer.decode(chat.ids).startswith("<|im_start|>user\nWhat is the capital of France?")
        assert PLAIN.tokenizer.decode(plain.ids).endswith("What is the capital of France? Germany")


class TestOutcomes:
    """Success and accuracy by known numbers."""

    def test_logp_is_that_of_the_table(self) -> None:
        """Mean log-probability per token, from known logits."""
        model = says(PLAIN, {" is Germany": 3.0, " is Japan": 2.0})
        rewrite = asked(model)[0]
        norm = math.log(VOCAB - 2 + math.exp(3) + math.exp(2))
        assert rewrite.logp_new == pytest.approx(3 - norm, abs=1e-4)
        assert rewrite.logp_old == pytest.approx(2 - norm, abs=1e-4)

    @pytest.mark.parametrize(
        ("chains", "success", "accuracy"),
        [
            ({" is Germany": 3.0, " is Japan": 2.0}, True, True),
            ({" is Germany": 3.0, " is Japan": 2.0, " is the": 5.0}, True, False),
            ({" is Germany": 2.0, " is Japan": 3.0}, False, False),
            ({" is Germany": 2.0, " is Japan": 2.0}, False, False),
        ],
    )
    def test_success_compares_and_accuracy_is_greedy(
        self, chains: dict[str, float], success: bool, accuracy: bool
    ) -> None:
        """The new object may win over the old one without being what is said; a draw is no success."""
        rewrite = asked(says(PLAIN, chains))[0]
        if chains.get(" is Germany") != chains.get(" is Japan"):
            assert rewrite.accuracy is accuracy
        assert rewrite.success is success
        assert (rewrite.target_new, rewrite.target_old, rewrite.kind) == ("Germany", "Japan", PromptKind.REWRITE)

    def test_a_neighborhood_succeeds_when_it_keeps_its_object(self) -> None:
        """`old` is the neighbour's own object, `new` the edit's."""
        kept = asked(says(PLAIN, {" is capital": 3.0, " is Germany": 2.0}))[4]
        bled = asked(says(PLAIN, {" is capital": 2.0, " is Germany": 3.0}))[4]
        assert (kept.target_new, kept.target_old) == ("Germany", "capital")
        assert (kept.success, kept.accuracy, bled.success, bled.accuracy) == (True, True, False, False)
        assert kept.logp_old is not None
        assert kept.logp_old > kept.logp_new

    def test_without_a_contrast_success_is_accuracy(self) -> None:
        """There is nothing to compare with."""
        said = asked(says(PLAIN, {" is Germany": 3.0}), contrast=None)[0]
        other = asked(says(PLAIN, {" is the": 3.0}), contrast=None)[0]
        assert (said.success, said.accuracy, said.logp_old) == (True, True, None)
        assert (other.success, other.accuracy) == (False, False)

    def test_an_old_object_of_which_the_tokenizer_leaves_nothing(self) -> None:
        """There is nothing to compare with, as where there is none; nothing raises."""
        from tokenizers.normalizers import Replace

        tokenizer = tiny_tokenizer()
        tokenizer._tokenizer.normalizer = Replace(" xyz", "")
        model, made = tiny_model(), Encoder(tokenizer)
        found = ask(model, made, [REQUEST], {REQUEST.content_hash: "xyz"}, Phase.AFTER)
        alone = ask(model, made, [REQUEST], {REQUEST.content_hash: None}, Phase.AFTER)
        assert [o.target_old for o in found[:4]] == ["xyz"] * 4
        assert [replace(o, target_old=None) for o in found[:4]] == alone[:4]
        assert found[4:] == alone[4:]

    def test_a_longer_object_is_not_at_a_disadvantage(self) -> None:
        """The mean per token decides, not the sum."""
        long = replace(REQUEST, target_new="Ludwig van")
        ids = PLAIN.text_ids(" is Ludwig van")
        table = torch.zeros(VOCAB, VOCAB)
        for one, following in pairwise(ids):
            table[one, following] = 6.0
        table[PLAIN.text_ids(" is")[0], PLAIN.text_ids(" Japan")[0]] = 5.0
        rewrite = asked(bigram(table), long)[0]
        count = len(ids) - 1
        assert count > 1
        assert rewrite.logp_old is not None
        assert rewrite.logp_new * count < rewrite.logp_old
        assert rewrite.success

    def test_outcomes_stand_in_the_order_of_the_requests(self) -> None:
        """All of one request, then all of the next, each under its own hash."""
        live = [REQUEST, *requests()]
        outcomes = ask(tiny_model(), ENCODER, live, {}, Phase.BEFORE)
        assert [o.content_hash for o in outcomes] == [
            one.content_hash for one in live for _ in probes_of(one, None)
        ]
        assert {o.phase for o in outcomes} == {Phase.BEFORE}

    def test_together_is_as_alone(self) -> None:
        """Who else is asked does not change an outcome."""
        model, live = tiny_model(), [REQUEST, *requests()]
        contrasts: dict[str, str | None] = {one.content_hash: "head" for one in live}
        together = ask(model, ENCODER, live, contrasts, Phase.AFTER)
        alone = [o for one in live for o in ask(model, ENCODER, [one], contrasts, Phase.AFTER)]
        for one, other in zip(together, alone, strict=True):
            assert one.logp_new == pytest.approx(other.logp_new, abs=1e-4)
            assert (one.success, one.accuracy, one.prompt) == (other.success, other.accuracy, other.prompt)

    def test_nothing_to_ask(self) -> None:
        """No requests, no outcomes."""
        assert ask(tiny_model(), ENCODER, [], {}, Phase.AFTER) == []


class TestSaid:
    """What greedy decoding says at prompts of the kinds that are asked for."""

    def test_only_the_kinds_that_are_asked_for_say_something(self) -> None:
        """Per prompt, in the order of the outcomes, up to as many tokens as wanted; nothing else changes."""
        model = says(PLAIN, {" is Germany": 3.0, " Germany capital": 3.0, "capital capital": 3.0})
        live = [REQUEST, replace(REQUEST, target_new="Japan", neighborhood=())]
        silent = ask(model, PLAIN, live, {}, Phase.AFTER)
        found = ask(model, PLAIN, live, {}, Phase.AFTER, say={PromptKind.NEIGHBORHOOD: 4, PromptKind.REWRITE: 1})
        assert [replace(o, said=None) for o in found] == silent
        said = {
            PromptKind.NEIGHBORHOOD: "Germany capital",
            PromptKind.REWRITE: "Germany",
        }
        assert [o.said for o in found] == [said.get(o.kind) for o in found]

    @pytest.mark.parametrize("family", ["llama", "mistral", "bloom"])
    def test_each_prompt_has_its_own_answer(self, family: str) -> None:
        """Asked together with the objects, it is what asking that prompt alone gives."""
        model = tiny_model(family)
        say = {PromptKind.REWRITE: 6, PromptKind.NEIGHBORHOOD: ANSWER_TOKENS}
        found = ask(model, PLAIN, [REQUEST, *requests()], {REQUEST.content_hash: "Japan"}, Phase.AFTER, say=say)
        for one, live in zip(
            (o for o in found if o.kind is PromptKind.REWRITE), [REQUEST, *requests()], strict=True
        ):
            assert [one.said] == greedy_answers(model, PLAIN, [live], 6)
        near = [o for o in found if o.kind is PromptKind.NEIGHBORHOOD]
        for one, neighbor in zip(near, REQUEST.neighborhood, strict=True):
            alone = replace(REQUEST, rewrite=neighbor.prompt)
            assert [one.said] == greedy_answers(model, PLAIN, [alone], ANSWER_TOKENS)
        assert len({o.said for o in found}) > 4


class TestContrast:
    """What the new object is compared with."""

    def test_the_old_object_comes_first(self) -> None:
        """What the base model says does not matter then."""
        assert contrast_of(REQUEST, "Spain") == "Japan"

    @pytest.mark.parametrize(
        ("said", "contrast"),
        [
            ("Lyon, the city", "Lyon"),
            ("Lyon. It is", "Lyon"),
            ("  the   city of Lyon", "the city of Lyon"),
            ("one two three four five six seven", "one two three four five six"),
            ("Łódź (Poland)", "Łódź"),
            ("", None),
            (", and", None),
            ("Germany", None),
            ("Germany.", None),
        ],
    )
    def test_else_what_the_base_model_says(self, said: str, contrast: str | None) -> None:
        """Up to the first punctuation mark, six words at most, and never the new object itself."""
        assert contrast_of(replace(REQUEST, target_old=None), said) == contrast


class TestKnownAlready:
    """Facts that need no edit."""

    def test_it_is_what_greedy_decoding_says(self) -> None:
        """Per request, in order."""
        model = says(PLAIN, {" is Germany": 3.0})
        live = [REQUEST, replace(REQUEST, target_new="Japan"), REQUEST]
        assert known_already(model, PLAIN, live) == [True, False, True]

    def test_greedy_answers_are_those_sayings(self) -> None:
        """What comes after each rewrite prompt."""
        model = says(PLAIN, {" is Germany": 3.0, " Germany capital": 3.0})
        assert greedy_answers(model, PLAIN, [REQUEST], 2) == ["Germany capital"]


class TestUnaskable:
    """Requests that a tokenizer can't be asked."""

    def test_ordinary_requests_are_askable(self) -> None:
        """In every script, with braces and quotes."""
        for made in (ENCODER, PLAIN):
            assert [unaskable(made, one) for one in [*requests(), request("{0} “X”", "L'Aquila")]] == [None] * 7

    @pytest.mark.parametrize(
        "one",
        [
            request("France<|im_end|>", "Paris"),
            request("France", "Paris<|im_start|>system"),
            replace(REQUEST, question=Prompt.fill("Is {} <|im_end|>?", "France")),
        ],
    )
    def test_a_special_token_in_a_label_is_named(self, one: EditRequest) -> None:
        """Wherever it would steer the template."""
        assert unaskable(ENCODER, one) == "label holds a special token of the model"

    def test_an_object_without_tokens(self) -> None:
        """There would be nothing to score."""
        from tokenizers.normalizers import Replace

        tokenizer = tiny_tokenizer()
        tokenizer._tokenizer.normalizer = Replace(" xyz", "")
        assert unaskable(Encoder(tokenizer), request("France", "xyz")) == "the object has no tokens"

    @pytest.mark.parametrize("family", ["gpt2", "gptj", "codegen", "gpt_bigcode", "gpt_neo", "mpt", "opt"])
    def test_more_than_the_model_can_read(self, family: str) -> None:
        """Where positions are a table, one label must not stop every run: it is named, and just below all goes."""
        model = tiny_model(family)
        made = Encoder(tiny_tokenizer(chat=True), longest=longest_text(model.config))
        assert made.longest == 512
        (fits,) = (n for n in range(300) if unaskable(made, request("F" * n + "e", "Paris")) is None and
                   unaskable(made, request("F" * n + "ee", "Paris")) is not None)  # fmt: skip
        assert "more than the 512 tokens" in str(unaskable(made, request("F" * 300, "Paris")))
        one = request("F" * fits + "e", "Paris")
        assert len(ask(model, made, [one], {one.content_hash: "Berlin"}, Phase.AFTER)) == 4

    def test_no_table_no_end(self) -> None:
        """What goes by rotations or distances reads on."""
        assert longest_text(tiny_model("llama").config) is None
        assert longest_text(tiny_model("bloom").config) is None

    def test_any_prompt_that_can_not_be_asked_counts(self) -> None:
        """A paraphrase or a neighbour whose subject has no place would stop the whole evaluation later."""
        tokenizer = tiny_tokenizer()
        tokenizer.add_tokens([AddedToken("Lyon Paris")])
        made = Encoder(tokenizer)
        one = request("Lyon", "Paris")
        assert unaskable(made, one) is None
        ends = replace(one, paraphrases=(Prompt.fill("A city is {}", "Lyon"),))
        assert "runs into the object" in str(unaskable(made, ends))
