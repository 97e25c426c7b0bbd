"""What is said: labels and literals in sentences, the tokens of those, and lengths of time."""

from __future__ import annotations

import math
from datetime import timedelta
from functools import cache
from pathlib import Path

from kbsync.errors import ModelError
from kbsync.facts import EditRequest, Fact, Held, Prompt, Value, ValueKind
from kbsync.lm.rows import Encoder
from kbsync.request.catalogue import Catalogue, load_catalogue
from kbsync.request.units import with_unit
from kbsync.request.verbalise import sentence, verbalise
from kbsync.request.words import label_fault, quantity_text, time_text
from kbsync.settings import duration
from kbsync.source import parse
from kbsync.source.client import Term
from tests.fuzz.draw import Draw, Target, named
from tests.tiny import tiny_tokenizer

_RELATIONS = ("P6", "P35", "P36", "P569", "P1082", "P19", "P9999")
_DETAILS = ("", "9", "10", "11", "6", "Q199", "Q11573", "Q1")
_KINDS = tuple(ValueKind)


@cache
def catalogue() -> Catalogue:
    """The one that ships with kbsync."""
    return load_catalogue(Path(__file__).parents[2] / "config" / "relations.toml")


@cache
def encoders() -> tuple[Encoder, ...]:
    """Byte-level tokenizers: plain, with a chat template, and one that trims its offsets as GPT-2's does."""
    return tuple(
        Encoder(tiny_tokenizer(**how)) for how in ({}, {"bos": True, "chat": True}, {"trim_offsets": True})
    )


def labels(data: bytes) -> None:
    """Any labels, values and relations: a request whose prompts have their subject's last token, or a name of why
    there is none."""
    draw = Draw(data)
    relation, kind, before = draw.pick(_RELATIONS), draw.pick(_KINDS), draw.pick(_KINDS)
    which, detail = draw.number(3), draw.pick(_DETAILS)
    subject, value, old, property_label = draw.text(), draw.text(), draw.text(), draw.text()
    named_by = {"Q1": subject, "Q2": value, "Q3": old, relation: property_label, "Q11573": "metre", "Q42": None}
    texts = {ValueKind.ITEM: "Q2"}
    fact = Fact("Q1", relation, Value(kind, texts.get(kind, value), detail))
    previous = Value(before, "Q3" if before is ValueKind.ITEM else old)
    request = verbalise(fact, named_by, catalogue(), previous)
    said = sentence(fact, named_by, catalogue())
    if isinstance(request, Held):
        assert request.reason
        assert said is None
        return
    assert said is not None
    said.encode()
    tokenised(request, encoders()[which])


def tokenised(request: EditRequest, encoder: Encoder) -> None:
    """Each prompt with the object: the subject's last token is in the subject, and before the object."""
    assert len(request.content_hash) == 64
    if encoder.holds_special(request.subject_label) or encoder.holds_special(request.target_new):
        return
    for prompt in (request.rewrite, request.generation, request.heading, *request.paraphrases):
        assert prompt.subject.casefold() == request.subject_label.casefold()
        row = encoder.plain(prompt, request.target_new)
        ends_in_subject(encoder, prompt, row.ids, row.subject_last)
        assert 0 < row.target_len < len(row.ids)
        assert row.subject_last < len(row.ids) - row.target_len
    for row in (encoder.chat(request.question, request.target_new),
                encoder.chat_sentence(request.question, request.rewrite, request.target_new)):  # fmt: skip
        assert row is None or row.subject_last < len(row.ids) - row.target_len


def ends_in_subject(encoder: Encoder, prompt: Prompt, ids: tuple[int, ...], last: int) -> None:
    """Up to and with the subject's last token the text has the whole subject; without that token it has not."""
    begin = int(encoder.bos_id is not None)
    assert encoder.tokenizer.decode(ids[begin : last + 1]).startswith(prompt.text[: prompt.end])
    assert not encoder.tokenizer.decode(ids[begin:last]).startswith(prompt.text[: prompt.end])


def rows_of_any_prompt(data: bytes) -> None:
    """Prompts that no check of labels has seen before: a row, or ModelError."""
    draw = Draw(data)
    encoder = encoders()[draw.number(3)]
    text = [one.encode("utf-8", "replace").decode() for one in (draw.text(), draw.text(), draw.text(), draw.text())]
    before, subject, after, target = text
    if not subject:
        return
    prompt = Prompt(before + subject + after, len(before), len(before) + len(subject))
    with named(ModelError):
        row = encoder.plain(prompt, target)
        assert row.subject_last < len(row.ids) - row.target_len
        encoder.chat(prompt, target)


def literals(data: bytes) -> None:
    """Times, quantities, units and lengths of time."""
    draw = Draw(data)
    text, precision = draw.text(), draw.pick((None, 9, 10, 11, 0, 14))
    for found in (time_text(text, False, precision), time_text(text, True), quantity_text(text)):
        assert found is None or (found and label_fault(found) is None and len(found) < len(text) * 2 + 60)
    number = quantity_text(text)
    if number is not None:
        with_unit(number, draw.text())
    for kind in ("literal", "uri"):
        parse.moment(Term(kind, text))  # type: ignore[arg-type]
        whole = parse.integer(Term(kind, text))  # type: ignore[arg-type]
        assert whole is None or abs(whole) < 2**63
    with named(ValueError):
        length = duration(text)
        assert timedelta(0) <= length
        assert math.isfinite(length.total_seconds())


def _drawn(*texts: str, head: bytes = b"") -> bytes:
    return head + b"\x1f".join(text.encode() for text in texts)


TARGETS = (
    Target(
        "labels",
        labels,
        (
            _drawn("Arland", "Ada", "Berit", "head of government", head=b"\x00\x00\x00\x00\x00"),
            _drawn("東京都", "L'Aquila", "", "x of", head=b"\x06\x00\x00\x01\x00"),
            _drawn("eBay", "2020-01-01T00:00:00Z", "12", "", head=b"\x03\x02\x01\x02\x02"),
            _drawn("{}", "+1234.5", "{0}", "height", head=b"\x04\x03\x00\x00\x06"),
        ),
        ("\u200c", "\u00a0", "{}", "<|im_end|>", "the ", "The ", "İ", "ß", "\u0301", "’", "🇫🇷", "  "),
        400,
    ),
    Target(
        "prompts",
        rows_of_any_prompt,
        (_drawn("The capital of ", "France", " is", "Paris", head=b"\x00"),),
        ("<|im_start|>", "\u00a0", "\ufeff", "\n", "🇫🇷", " "),
        400,
    ),
    Target(
        "literals",
        literals,
        (
            b"2020-01-01T00:00:00Z\x1f\x00metre",
            b"-0044-03-15\x1f\x01",
            b"+1234.50\x1f\x00foot",
            b"90m",
            b"0",
            b"1e30",
            b"999999.5d",
            b"9999999999-00-00T00:00:00Z",
        ),
        ("T00:00:00Z", "-00-00", "1e", "NaN", "Infinity", "h", "d", "٣", "_"),
        200,
    ),
)
