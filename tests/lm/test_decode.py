"""Continuations of many prompts at once, against each prompt by itself and against the library's own generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from kbsync.facts import Prompt
from kbsync.lm import score
from kbsync.lm.decode import Sampler, Tree, end_ids, go_on
from kbsync.lm.reader import Head, Reader
from kbsync.lm.rows import Row
from kbsync.lm.score import Score, sample, say, score_and_say, score_rows
from tests.tiny import FAMILIES, encoder, requests, tiny_model

ENCODER = encoder()
CPU = torch.device("cpu")
NO_ENDS: frozenset[int] = frozenset()


def rows() -> list[Row]:
    """Prompts of many lengths that begin alike, without and with objects, some of them twice."""
    made = []
    for one in requests():
        made.append(ENCODER.plain(one.rewrite))
        made.append(ENCODER.plain(one.rewrite, one.target_new, bos=False))
        chat = ENCODER.chat(one.question, one.target_new)
        assert chat is not None
        made.append(chat)
    return [*made, made[0], made[1]]


def prompt_of(row: Row) -> list[int]:
    """The row without its object."""
    return list(row.ids[: len(row.ids) - row.target_len])


class Numbers:
    """A tokenizer whose text is the tokens' numbers, so that what is compared is tokens."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Each token by its number."""
        del skip_special_tokens
        return " ".join(map(str, ids))


def generated(model: Any, row: Row, tokens: int) -> list[int]:
    """What the library's own greedy generation says at one prompt alone, up to the token that ends it."""
    ids = torch.tensor([prompt_of(row)])
    out: list[int] = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
    )[0, ids.shape[1] :].tolist()
    return out


def numbers(said: Iterable[Sequence[int]]) -> list[str]:
    """Continuations as `Numbers` writes them."""
    return [" ".join(map(str, ids)) for ids in said]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_what_the_library_s_greedy_generation_says(family: str) -> None:
    """Also with windows shorter than the prompt, linear biases, and prompts that begin alike."""
    model = tiny_model(family)
    asked = rows() if family in ("llama", "mistral", "gemma3_text", "bloom", "gpt_neo") else rows()[-6:]
    said = say(model, Numbers(), asked, 9)
    assert said == numbers(generated(model, row, 9) for row in asked)
    assert len(set(said)) >= 3, "a model that says the same everywhere proves little"


@pytest.mark.parametrize("family", ["llama", "mistral", "bloom"])
def test_it_ends_where_generation_ends(family: str) -> None:
    """At each of several EOS tokens, or at none: what the model's generation config names."""
    model = tiny_model(family)
    asked = rows()
    model.generation_config.eos_token_id = None
    endless = [generated(model, row, 12) for row in asked]
    assert end_ids(model) == set()
    assert say(model, Numbers(), asked, 12) == numbers(endless)
    late = Counter(token for ids in endless for token in {*ids[2:]} - {*ids[:2]})
    (first, _), (second, _) = late.most_common(2)
    for ends in (first, [first, second]):
        model.generation_config.eos_token_id = ends
        assert end_ids(model) == ({first} if ends == first else {first, second})
        cut = [generated(model, row, 12) for row in asked]
        assert {len(ids) for ids in cut} > {12}
        assert say(model, Numbers(), asked, 12) == numbers(cut)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "bloom"])
def test_scoring_and_saying_together_change_neither(family: str) -> None:
    """Objects that are scored are read once, also where they are what the model goes on to say."""
    model = tiny_model(family)
    alone = [generated(model, row, 6) for row in rows()]
    scored = [
        Row((*prompt_of(row), *ids), row.subject_last, len(ids))
        for row, said in zip(rows(), alone, strict=True)
        for ids in (said, said[:2], [said[0], (said[1] + 1) % 400, 9], [7, 8])
    ]
    scores, texts = score_and_say(model, Numbers(), scored, [(row, 6) for row in rows()])
    assert texts == numbers(alone)
    for one, other in zip(scores, score_rows(model, scored), strict=True):
        assert one.logp == pytest.approx(other.logp, abs=1e-5)
        assert one.greedy == other.greedy
    assert {score.greedy for score in scores} == {True, False}


def test_each_prompt_has_its_own_limit() -> None:
    """The same prompt can be asked for more and for less, and for nothing."""
    model = tiny_model()
    row = ENCODER.plain(Prompt.fill("The capital of {} is", "Germany"))
    full = generated(model, row, 8)
    assert len(full) == 8
    _, said = score_and_say(model, Numbers(), [], [(row, n) for n in (8, 0, 3, 8)])
    assert said == numbers([full, [], full[:3], full])


def test_long_texts_get_columns_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They say the same, and no prompt waits behind the words of another one."""
    model = tiny_model()
    model.generation_config.eos_token_id = None
    asked = rows()[:6]
    counted = Counted(monkeypatch)
    assert say(model, Numbers(), asked, 40) == numbers(generated(model, row, 40) for row in asked)
    assert counted.shapes[1:] == [(6, 1)] * 39


def test_nothing_to_say() -> None:
    """No prompts, no texts; and scores alone come without any."""
    row = ENCODER.plain(requests()[0].rewrite, "Paris")
    assert say(tiny_model(), ENCODER.tokenizer, [], 5) == []
    scores, said = score_and_say(tiny_model(), ENCODER.tokenizer, [row], [])
    assert said == []
    assert [type(score) for score in scores] == [Score]


class Counted:
    """A model's reader that counts the tokens it reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shapes: list[tuple[int, ...]] = []
        own = Reader.hidden

        def hidden(reader: Reader, ids: Tensor, columns: Any, cache: Any = None) -> Tensor:
            self.shapes.append(tuple(ids.shape))
            return own(reader, ids, columns, cache)

        monkeypatch.setattr(Reader, "hidden", hidden)


def test_a_known_answer_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the object that is scored is what the model says, one pass is all; else only what deviates is read."""
    model = tiny_model()
    prompt = prompt_of(ENCODER.plain(requests()[0].rewrite))
    said = generated(model, Row(tuple(prompt), 1, 0), 5)
    assert len(said) == 5
    counted = Counted(monkeypatch)
    right = Row((*prompt, *said), 1, 5)
    score_and_say(model, ENCODER.tokenizer, [right], [(right, 5)])
    assert counted.shapes == [(1, len(prompt) + 4)]
    counted.shapes.clear()
    wrong = Row((*prompt, *said[:2], said[2] + 1, 9), 1, 4)
    score_and_say(model, ENCODER.tokenizer, [wrong], [(right, 5)])
    assert counted.shapes == [(1, len(prompt) + 3), (1, 1), (1, 1)], "its third and its fourth token"


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_who_has_ended_is_not_read_on(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts leave when they have said enough, and sequences when all their prompts have left."""
    model = tiny_model(family)
    asked = [(row, tokens) for row, tokens in zip(rows()[:6], (2, 2, 3, 3, 3, 6), strict=True)]
    counted = Counted(monkeypatch)
    model.generation_config.eos_token_id = None
    score_and_say(model, ENCODER.tokenizer, [], asked, one_line=False)
    steps = [a * b for a, b in counted.shapes[1:]]
    assert steps == [6, 4, 1, 1, 1]


def test_a_line_that_is_complete_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a line break behind words nothing more is read; breaks in front of them are passed over."""
    model = tiny_model()
    breaks = ENCODER.text_ids("\n")
    word = ENCODER.text_ids(" capital")
    script = [*breaks, *word, *breaks, *word, *word]
    row = ENCODER.plain(requests()[0].rewrite)
    prompt = prompt_of(row)

    class Scripted(Tree):
        def hidden(self, prompts: Sequence[int]) -> Tensor:
            return torch.tensor([[self._length[i] - len(prompt)] for i in prompts])

    def scripted(_: Head, said: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(script)[said[:, 0]], 400)

    monkeypatch.setattr(score, "Tree", Scripted)
    monkeypatch.setattr(Head, "__call__", scripted)
    counted = Counted(monkeypatch)
    assert say(model, ENCODER.tokenizer, [row], 5) == ["capital"]
    assert len(counted.shapes) == 3
    assert say(model, ENCODER.tokenizer, [row], 5, one_line=False) == ["\n capital\n capital capital"]


def test_a_tree_without_prompts_keeps_nothing() -> None:
    """Where objects are only scored, no keys and values are held."""
    reader = Reader(tiny_model())
    (grove,) = reader.plant([[5, 6, 7]], CPU)
    tree = Tree(reader, grove, [])
    assert tree.read.shape == (3, 32)
    assert go_on(tree, Head(reader.model), [], NO_ENDS) == []


class TestSample:
    """Text that is drawn."""

    @pytest.mark.parametrize("family", ["llama", "mistral", "bloom"])
    def test_who_else_is_asked_does_not_matter(self, family: str) -> None:
        """A prompt's text hangs on the model, its tokens and the seed."""
        model = tiny_model(family)
        together = sample(model, Numbers(), rows(), 8, 5, 1)
        assert together[0] == together[-2]
        assert together == [sample(model, Numbers(), [row], 8, 5, 1)[0] for row in rows()]
        assert together != sample(model, Numbers(), rows(), 8, 5, 2)

    def test_one_candidate_leaves_no_choice(self) -> None:
        """It is greedy decoding then."""
        model = tiny_model()
        assert sample(model, Numbers(), rows(), 8, 1, 3) == say(model, Numbers(), rows(), 8)

    def test_the_likeliest_are_drawn_by_their_probabilities(self) -> None:
        """And nothing but them."""
        logits = torch.tensor([0.0, 3.0, -9.0, 2.0, 1.0]).repeat(4000, 1)
        drawn = Sampler(3, 0)(logits, [((i,), 1) for i in range(4000)])
        shares = drawn.bincount(minlength=5) / 4000
        expected = torch.tensor([0.0, *torch.tensor([3.0, 2.0, 1.0]).softmax(0)])[[0, 1, 0, 2, 3]]
        assert torch.allclose(shares, expected, atol=0.03)  # four standard errors
        assert shares[0] == shares[2] == 0

    def test_a_small_vocabulary(self) -> None:
        """More candidates than tokens are all of them."""
        assert Sampler(9, 0)(torch.zeros(1, 2), [((1,), 1)]).shape == (1,)
