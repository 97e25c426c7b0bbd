"""The contexts of z: which rows there are, and that the sampled prefixes are the model's own and repeatable."""

from __future__ import annotations

import pytest
import torch

from kbsync.edit.contexts import PREFIX_TOKENS, Contexts, build_contexts, sample_prefixes
from kbsync.lm.rows import Encoder
from tests.edit.setups import ALL, ENCODER, NO_BOS, edit_settings
from tests.tiny import request, requests, tiny_model, tiny_tokenizer


def test_every_context_has_the_subject_and_the_object() -> None:
    """The prompt first, then prefixed, question, bare and chat rows; each ends with the object."""
    for one in requests():
        rows = ALL.rows(ENCODER, one)
        texts = [ENCODER.tokenizer.decode(row.ids) for row in rows]
        assert len(rows) == 6
        assert texts[0] == f"<|endoftext|>{one.rewrite.text} {one.target_new}"
        assert texts[1].startswith("<|endoftext|>Because I said so. ")
        assert texts[3] == f"<|endoftext|>{one.question.text} {one.target_new}"
        assert texts[4] == f"{one.rewrite.text} {one.target_new}"
        assert texts[5].startswith("<|im_start|>user\n")
        assert all(text.endswith(one.target_new) for text in texts)
        assert all(row.target_len for row in rows)


def test_keys_are_written_in_more_contexts_than_z_is_solved_in() -> None:
    """Those of z come first; a context that is named for both is there once."""
    one = requests()[0]
    rows, keyed = ALL.rows(ENCODER, one), ALL.key_rows(ENCODER, one)
    assert keyed[:-1] == rows
    answer = ENCODER.tokenizer.decode(keyed[-1].ids)
    assert answer.startswith("<|im_start|>user\n")
    assert answer.endswith(f"{one.rewrite.text} {one.target_new}")
    headed = Contexts(solved=("heading",)).rows(ENCODER, one)[1]
    assert ENCODER.tokenizer.decode(headed.ids).endswith(f"{one.heading.text} {one.target_new}")
    twice = Contexts(solved=("question",), keyed=("question", "bare"))
    assert len(twice.key_rows(ENCODER, one)) == 3


def test_an_edit_is_asked_for_at_the_prompt_and_where_the_settings_say() -> None:
    """And z of a repair is solved there: in z's own contexts too, or nowhere else."""
    one = requests()[0]
    asks = Contexts(("Because. ",), solved=("question", "bare"), keyed=("chat",), asked=("bare", "sentence"))
    prompt, bare, sentence = asks.where_asked.rows(ENCODER, one)
    assert prompt == asks.rows(ENCODER, one)[0]
    assert bare == asks.rows(ENCODER, one)[3]
    assert ENCODER.tokenizer.decode(sentence.ids).endswith(f"{one.rewrite.text} {one.target_new}")
    assert asks.everywhere.rows(ENCODER, one) == [*asks.rows(ENCODER, one), sentence]
    assert Contexts(solved=("bare", "sentence")).rows(ENCODER, one) == [prompt, bare, sentence]
    assert Contexts(solved=("question",)).where_asked.rows(ENCODER, one) == [prompt]


@pytest.mark.parametrize(
    ("encoder", "contexts", "count"),
    [
        (ENCODER, Contexts(), 1),
        (ENCODER, Contexts(solved=("bare",)), 2),
        (ENCODER, Contexts(solved=("question",)), 2),
        (NO_BOS, Contexts(solved=("bare",)), 1),
        (Encoder(tiny_tokenizer()), Contexts(solved=("chat", "sentence")), 1),
        (ENCODER, Contexts(("a. ", "b. "), solved=("chat", "sentence")), 5),
    ],
)
def test_contexts_that_do_not_exist_are_left_out(encoder: Encoder, contexts: Contexts, count: int) -> None:
    """No bare context without BOS, no chat without a template."""
    assert len(contexts.rows(encoder, requests()[0])) == count


def test_braces_in_a_label_are_text() -> None:
    """Neither in the prompt nor in the essence prompt are they filled in."""
    one = request("{0} {x}", "Paris")
    assert ENCODER.tokenizer.decode(Contexts.essence(ENCODER, one).ids) == "<|endoftext|>{0} {x} is a"
    assert all("{0} {x}" in ENCODER.tokenizer.decode(row.ids) for row in ALL.rows(ENCODER, one))


def test_the_essence_prompt_ends_after_the_subject() -> None:
    """`<subject> is a`, with the subject's last token known and no object."""
    row = Contexts.essence(ENCODER, requests()[4])
    assert row.target_len == 0
    assert ENCODER.tokenizer.decode(row.ids[row.subject_last + 1 :]) == " is a"


class TestPrefixes:
    """Text sampled from the model."""

    def test_one_seed_gives_one_text(self) -> None:
        """Whatever random numbers were drawn before."""
        model = tiny_model()
        torch.manual_seed(1)
        first = sample_prefixes(model, ENCODER, 3, 20220)
        torch.manual_seed(2)
        torch.rand(9)
        assert sample_prefixes(model, ENCODER, 3, 20220) == first
        assert sample_prefixes(model, ENCODER, 3, 20221) != first

    def test_the_global_generator_is_not_touched(self) -> None:
        """Sampling draws from its own generator."""
        model = tiny_model()
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        sample_prefixes(model, ENCODER, 2, 1)
        assert torch.equal(torch.rand(2), expected)

    def test_they_read_like_sentences_before_the_prompt(self) -> None:
        """One line each, ended by a full stop and a space, and begun by different words."""
        texts = sample_prefixes(tiny_model(), ENCODER, 7, 20220)
        assert len(texts) == 7
        assert all(text.endswith(". ") and "\n" not in text for text in texts)
        assert [text.split()[0][:1] for text in texts[:5]] == ["T", "T", "B", "I", "Y"]
        assert all(len(ENCODER.text_ids(text)) < 4 * PREFIX_TOKENS for text in texts)

    def test_the_settings_decide(self) -> None:
        """How many prefixes, and which contexts, as far as the tokenizer has them."""
        model = tiny_model()
        settings = edit_settings(
            prefixes=2,
            contexts=["question", "chat"],
            key_contexts=["bare", "sentence"],
            repair_contexts=["heading", "sentence"],
        )
        made = build_contexts(model, ENCODER, settings)
        assert (len(made.prefixes), made.solved, made.keyed) == (2, ("question", "chat"), ("bare", "sentence"))
        plain = build_contexts(model, Encoder(tiny_tokenizer()), settings)
        assert made.asked == ("heading", "sentence")
        assert (plain.solved, plain.keyed, plain.asked) == (("question",), ("bare",), ("heading",))
        assert build_contexts(model, NO_BOS, settings).keyed == ("sentence",)
