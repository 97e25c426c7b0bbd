"""Edits asked without BOS, in a chat turn, and as a plain question."""

from __future__ import annotations

from dataclasses import replace

from kbsync.evaluate.surroundings import rows_elsewhere, said_elsewhere
from kbsync.facts import Prompt
from kbsync.lm.rows import Encoder
from kbsync.lm.score import say
from tests.evaluate.known import says
from tests.tiny import encoder, request, tiny_tokenizer

REQUEST = request("France", "Germany", "Japan")


def texts(own: Encoder) -> dict[str, str]:
    """What the model reads in each of the surroundings."""
    return {name: own.tokenizer.decode(row.ids) for name, row in rows_elsewhere(own, REQUEST).items()}


def test_the_surroundings_that_a_chat_model_has() -> None:
    """The rewrite prompt without BOS, as a user's turn and as the answer's; the question with BOS."""
    found = texts(encoder())
    assert found == {
        "question_in_plain_text": "<|endoftext|>What is the capital of France? Germany",
        "without_bos": "The capital of France is Germany",
        "in_a_chat_turn": ("<|im_start|>user\nThe capital of France is<|im_end|>\n<|im_start|>assistant\nGermany"),
        "chat_sentence": (
            "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
            "<|im_start|>assistant\nThe capital of France is Germany"
        ),
    }


def test_the_surroundings_that_others_have() -> None:
    """No chat turn without a template, and no prompt without BOS where there never is one."""
    assert set(texts(encoder(chat=False))) == {"question_in_plain_text", "without_bos"}
    assert set(texts(Encoder(tiny_tokenizer(), bos="never"))) == {"question_in_plain_text"}


def test_only_the_object_counts() -> None:
    """All its tokens, by greedy decoding."""
    rows = rows_elsewhere(encoder(), REQUEST)
    for row in rows.values():
        assert encoder().tokenizer.decode(row.targets).strip() == "Germany"


def test_an_edit_that_holds_in_one_place_only() -> None:
    """A model that answers prompts and not questions, fact by fact."""
    own = encoder(chat=False)
    model = says(own, {" is Germany": 3.0})
    other = replace(REQUEST, target_new="Japan", rewrite=Prompt("The capital of Japan is", 15, 20))
    found = said_elsewhere(model, own, [REQUEST, other])
    assert found == {
        "question_in_plain_text": {REQUEST.content_hash: False, other.content_hash: False},
        "without_bos": {REQUEST.content_hash: True, other.content_hash: False},
    }


class TestChatAnswers:
    """The question in the chat template, answered in the model's own words."""

    def test_an_answer_names_the_new_object_or_the_old_one(self) -> None:
        """Wherever in the answer it stands; fact by fact, and the old one only where there is one."""
        own = encoder()
        model = says(own, {"assistant\nThe capital of Germany": 3.0})
        other = replace(REQUEST, target_new="Japan", target_old="germany")
        added = replace(REQUEST, target_new="Tokyo", target_old=None)
        found = said_elsewhere(model, own, [REQUEST, other, added])
        hashes = [one.content_hash for one in (REQUEST, other, added)]
        assert found["chat_answer_new"] == dict(zip(hashes, (True, False, False), strict=True))
        assert found["chat_answer_old"] == dict(zip(hashes[:2], (False, True), strict=True))
        assert set(found["chat_sentence"]) == set(hashes)

    def test_the_answer_is_looked_at_beyond_its_first_line(self) -> None:
        """Models like to begin with a line of courtesy."""
        own = encoder()
        own.tokenizer.chat_template = own.tokenizer.chat_template.replace("assistant\\n", "assistant:")
        model = says(own, {":The": 3.0, "The\n Germany": 3.0})
        assert say(model, own.tokenizer, [own.plain(Prompt("France:", 0, 6))], 4) == ["The"]
        found = said_elsewhere(model, own, [REQUEST])
        assert found["chat_answer_new"] == {REQUEST.content_hash: True}


def test_nothing_to_ask() -> None:
    """No requests, no surroundings."""
    assert said_elsewhere(says(encoder(), {}), encoder(), []) == {}
