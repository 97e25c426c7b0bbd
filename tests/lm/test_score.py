"""Scores against a row by row computation, real greedy generation, and a plain perplexity."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kbsync.facts import Prompt
from kbsync.lm.rows import Row
from kbsync.lm.score import perplexity, say, score_rows
from tests.tiny import FAMILIES, encoder, requests, some_requests, tiny_model

ENCODER = encoder()


def rows(family: str = "llama") -> list[Row]:
    """Rows of many lengths, with and without BOS, plain and chat."""
    made = []
    for request in some_requests(family):
        for target in (request.target_new, "Berlin"):
            made.append(ENCODER.plain(request.rewrite, target))
            made.append(ENCODER.plain(request.rewrite, target, bos=False))
            chat = ENCODER.chat(request.question, target)
            assert chat is not None
            made.append(chat)
    return made


def naive(model: Any, row: Row) -> tuple[float, bool]:
    """Mean log-probability and greedy hit of one row, from the whole model's logits."""
    logp = model(torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
    at = range(len(row.ids) - row.target_len - 1, len(row.ids) - 1)
    values = [float(logp[i, row.ids[i + 1]]) for i in at]
    return sum(values) / len(values), all(int(logp[i].argmax()) == row.ids[i + 1] for i in at)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_each_row_alone(family: str) -> None:
    """Batching and padding change nothing, in every family."""
    model = tiny_model(family)
    asked = rows(family)
    for row, score in zip(asked, score_rows(model, asked), strict=True):
        logp, greedy = naive(model, row)
        assert score.logp == pytest.approx(logp, abs=1e-5, rel=2e-6)
        assert score.greedy is greedy


def test_padding_does_not_change_a_score() -> None:
    """A short row beside a long one scores as it does alone."""
    model = tiny_model()
    short, long = ENCODER.plain(Prompt.fill("{} is", "France"), "Paris"), rows()[-1]
    (alone,) = score_rows(model, [short])
    together = score_rows(model, [long, short])[1]
    assert together.logp == pytest.approx(alone.logp, abs=1e-5)


def test_each_distinct_row_is_scored_once() -> None:
    """Equal rows share one score, and the progress counts distinct rows."""
    model = tiny_model()
    row, other = rows()[:2]
    done: list[int] = []
    scores = score_rows(model, [row, other, row], on_batch=done.append)
    assert scores[0] == scores[2] != scores[1]
    assert sum(done) == 2


def test_nothing_to_score() -> None:
    """No rows, no scores."""
    assert score_rows(tiny_model(), []) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_means_that_generation_says_it(family: str) -> None:
    """An object taken from real greedy generation is greedy; the same object with another end is not."""
    model = tiny_model(family)
    prompt = ENCODER.plain(Prompt.fill("The capital of {} is", "Germany"))
    out = model.generate(torch.tensor([prompt.ids]), max_new_tokens=3, do_sample=False, pad_token_id=0)
    said = tuple(out[0, len(prompt.ids) :].tolist())
    hit = Row(prompt.ids + said, prompt.subject_last, len(said))
    miss = Row((*hit.ids[:-1], (said[-1] + 1) % 400), prompt.subject_last, len(said))
    assert [score.greedy for score in score_rows(model, [hit, miss])] == [True, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_say_is_the_greedy_continuation_of_each_prompt(family: str) -> None:
    """Batched generation with left padding says what each prompt alone does; objects are not read."""
    model = tiny_model(family)
    asked = [ENCODER.plain(request.rewrite, request.target_new) for request in some_requests(family)]
    said = say(model, ENCODER.tokenizer, asked, 6)
    for row, text in zip(asked, said, strict=True):
        ids = list(row.ids[: len(row.ids) - row.target_len])
        start = len(ids)
        for _ in range(6):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == model.generation_config.eos_token_id:
                break
        whole = ENCODER.tokenizer.decode(ids[start:], skip_special_tokens=True)
        assert text == whole.strip().split("\n", 1)[0].strip()


def test_say_is_greedy_whatever_the_models_own_generation_config_asks_for() -> None:
    """A repetition penalty in a model's files must not change what `greedy` means."""
    model = tiny_model()
    asked = [ENCODER.plain(request.rewrite) for request in requests()]
    plain = say(model, ENCODER.tokenizer, asked, 8)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.no_repeat_ngram_size = 1
    assert say(model, ENCODER.tokenizer, asked, 8) == plain


class TestPerplexity:
    """exp of the mean NLL per token."""

    @pytest.mark.parametrize("bos", [0, None])
    @pytest.mark.parametrize("length", [2, 31, 32, 33, 64, 65])
    def test_it_is_the_plain_computation(self, bos: int | None, length: int) -> None:
        """In chunks, each after BOS; the first token of a chunk counts only where BOS stands before it."""
        model = tiny_model()
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(1, 400, (length,), generator=generator).tolist()
        total, count = 0.0, 0
        for at in range(0, length, 32):
            piece = ([bos] if bos is not None else []) + ids[at : at + 32]
            logp = model(torch.tensor([piece])).logits[0].double().log_softmax(-1)
            total -= sum(float(logp[i, piece[i + 1]]) for i in range(len(piece) - 1))
            count += len(piece) - 1
        assert count == (length if bos is not None else length - math.ceil(length / 32))
        assert perplexity(model, ids, bos, chunk=32) == pytest.approx(math.exp(total / count), rel=1e-5)

    def test_a_broken_model_gives_nan(self) -> None:
        """A model whose weights are not finite is not taken for a good one."""
        model = tiny_model()
        model.lm_head.weight.fill_(float("nan"))
        assert math.isnan(perplexity(model, [1, 2, 3], 0))
