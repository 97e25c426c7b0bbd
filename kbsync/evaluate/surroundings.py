"""Whether an edit is also met elsewhere: the same prompt without BOS, inside a chat turn, as a plain question.

A model reads a subject with other keys in other surroundings, so an edit that holds after BOS need not hold there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kbsync.facts import EditRequest
from kbsync.lm.rows import Encoder, Row
from kbsync.lm.score import score_rows


def rows_elsewhere(encoder: Encoder, request: EditRequest) -> dict[str, Row]:
    """The request's new object in each of the surroundings that this tokenizer has."""
    new = request.target_new
    rows = {"question_in_plain_text": encoder.plain(request.question, new)}
    if encoder.bos_id is not None:
        rows["without_bos"] = encoder.plain(request.rewrite, new, bos=False)
    chat = encoder.chat(request.rewrite, new)
    if chat is not None and chat.target_len:
        rows["in_a_chat_turn"] = chat
    return rows


def said_elsewhere(model: Any, encoder: Encoder, requests: Sequence[EditRequest]) -> dict[str, dict[str, bool]]:
    """By surroundings and content hash, whether greedy decoding says the request's new object there."""
    asked = [
        (name, request.content_hash, row)
        for request in requests
        for name, row in rows_elsewhere(encoder, request).items()
    ]
    scores = score_rows(model, [row for _, _, row in asked])
    found: dict[str, dict[str, bool]] = {}
    for (name, content_hash, _), score in zip(asked, scores, strict=True):
        found.setdefault(name, {})[content_hash] = score.greedy
    return found
