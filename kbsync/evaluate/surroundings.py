"""Whether an edit is also met elsewhere: the same prompt without BOS, in a chat, as a plain question.

A model reads a subject with other keys in other surroundings, so an edit that holds after BOS need not hold there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kbsync.evaluate.answers import CHAT_TOKENS, names
from kbsync.facts import EditRequest
from kbsync.lm.rows import Encoder, Row
from kbsync.lm.score import score_and_say


def rows_elsewhere(encoder: Encoder, request: EditRequest) -> dict[str, Row]:
    """The request's new object in each of the surroundings that this tokenizer has."""
    new = request.target_new
    rows = {"question_in_plain_text": encoder.plain(request.question, new)}
    if encoder.bos_id is not None:
        rows["without_bos"] = encoder.plain(request.rewrite, new, bos=False)
    chat = encoder.chat(request.rewrite, new)
    if chat is not None and chat.target_len:
        rows["in_a_chat_turn"] = chat
    sentence = encoder.chat_sentence(request.question, request.rewrite, new)
    if sentence is not None and sentence.target_len:
        rows["chat_sentence"] = sentence
    return rows


def said_elsewhere(model: Any, encoder: Encoder, requests: Sequence[EditRequest]) -> dict[str, dict[str, bool]]:
    """By surroundings and content hash, whether greedy decoding says the request's new object there.

    Two more are about the answer to the question in the chat template, whatever words it takes: whether it names
    the new object (`chat_answer_new`), and the old one, where there is one (`chat_answer_old`).
    """
    asked = [
        (name, request.content_hash, row)
        for request in requests
        for name, row in rows_elsewhere(encoder, request).items()
    ]
    questions = [(request, encoder.chat(request.question)) for request in requests]
    chats = [(request, row) for request, row in questions if row is not None]
    scores, answers = score_and_say(
        model,
        encoder.tokenizer,
        [row for _, _, row in asked],
        [(row, CHAT_TOKENS) for _, row in chats],
        one_line=False,
    )
    found: dict[str, dict[str, bool]] = {}
    for (name, content_hash, _), score in zip(asked, scores, strict=True):
        found.setdefault(name, {})[content_hash] = score.greedy
    for (request, _), answer in zip(chats, answers, strict=True):
        for name, label in (("chat_answer_new", request.target_new), ("chat_answer_old", request.target_old)):
            if label is not None:
                found.setdefault(name, {})[request.content_hash] = names(answer, label)
    return found
