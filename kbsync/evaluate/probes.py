"""Asking a model every prompt of every request, and keeping each answer as an outcome.

Success is P(the object that should win) > P(the other one), by mean log-probability per token, as the reference
evaluation of CounterFact does; accuracy is that greedy decoding says the object that should win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from kbsync.errors import ModelError
from kbsync.evaluate.answers import answer_of
from kbsync.facts import EditRequest, Outcome, Phase, Prompt, PromptKind
from kbsync.lm.rows import Encoder, Row
from kbsync.lm.score import Score, say, score_and_say, score_rows

_ROOM = 64  # tokens that may stand before a prompt, or be said after it


@dataclass(frozen=True, slots=True)
class Probe:
    """One prompt of one request: `wins` should be the answer, `loses` is what it is compared with."""

    request: EditRequest
    kind: PromptKind
    index: int
    prompt: Prompt
    wins: str
    loses: str | None


def probes_of(request: EditRequest, contrast: str | None) -> list[Probe]:
    """Every probe of a request. `contrast` is compared with the new object: the old object, or what the base
    model says where there is none."""
    new = request.target_new
    probes = [Probe(request, PromptKind.REWRITE, 0, request.rewrite, new, contrast)]
    probes += [
        Probe(request, PromptKind.PARAPHRASE, i, prompt, new, contrast)
        for i, prompt in enumerate(request.paraphrases)
    ]
    probes.append(Probe(request, PromptKind.QUESTION, 0, request.question, new, contrast))
    probes += [
        Probe(request, PromptKind.NEIGHBORHOOD, i, neighbor.prompt, neighbor.target, new)
        for i, neighbor in enumerate(request.neighborhood)
    ]
    return probes


def row_of(encoder: Encoder, probe: Probe, target: str) -> Row:
    """The probe's prompt and one of its objects, as the model is really asked: a question in the chat template,
    where there is one."""
    if probe.kind is PromptKind.QUESTION:
        chat = encoder.chat(probe.prompt, target)
        if chat is not None and chat.target_len:
            return chat
    return encoder.plain(probe.prompt, target)


def ask(
    model: Any,
    encoder: Encoder,
    requests: Sequence[EditRequest],
    contrasts: Mapping[str, str | None],
    phase: Phase,
    on_prompts: Callable[[int], None] | None = None,
    say: Mapping[PromptKind, int] = MappingProxyType({}),
) -> list[Outcome]:
    """Outcomes of all probes of `requests` on `model`, in order. `contrasts` is by content hash.

    At prompts of the kinds in `say` the outcome has what greedy decoding says in up to so many tokens (`said`).
    """
    probes = [p for request in requests for p in probes_of(request, contrasts.get(request.content_hash))]
    pairs = [_rows_of(encoder, probe) for probe in probes]
    asked = [(pair[0], say[p.kind]) for p, pair in zip(probes, pairs, strict=True) if p.kind in say]
    found, said = score_and_say(
        model, encoder.tokenizer, [row for pair in pairs for row in pair], asked, on_prompts
    )
    scores, texts = iter(found), iter(said)
    return [
        replace(
            _outcome(p, phase, next(scores), next(scores) if len(pair) > 1 else None),
            said=next(texts) if p.kind in say else None,
        )
        for p, pair in zip(probes, pairs, strict=True)
    ]


def _rows_of(encoder: Encoder, probe: Probe) -> list[Row]:
    """The probe with the object that should win, and with the other one, where there is one that can be scored."""
    rows = [row_of(encoder, probe, probe.wins)]
    if probe.loses:
        with suppress(ModelError):
            rows += [row for row in [row_of(encoder, probe, probe.loses)] if row.target_len]
    return rows


def _outcome(probe: Probe, phase: Phase, wins: Score, loses: Score | None) -> Outcome:
    neighbor = probe.kind is PromptKind.NEIGHBORHOOD
    new, old = (loses, wins) if neighbor else (wins, loses)
    return Outcome(
        content_hash=probe.request.content_hash,
        phase=phase,
        kind=probe.kind,
        index=probe.index,
        prompt=probe.prompt.text,
        target_new=probe.request.target_new,
        target_old=probe.wins if neighbor else probe.loses,
        logp_new=new.logp if new is not None else 0.0,
        logp_old=old.logp if old is not None else None,
        success=wins.logp > loses.logp if loses is not None else wins.greedy,
        accuracy=wins.greedy,
    )


def prompt_count(requests: Sequence[EditRequest]) -> int:
    """How many rows `ask` scores at most, for progress bars."""
    return sum(2 * (2 + len(r.paraphrases) + len(r.neighborhood)) for r in requests)


def greedy_answers(model: Any, encoder: Encoder, requests: Sequence[EditRequest], tokens: int) -> list[str]:
    """What greedy decoding says after each request's rewrite prompt."""
    return say(model, encoder.tokenizer, [encoder.plain(request.rewrite) for request in requests], tokens)


def contrast_of(request: EditRequest, base_says: str) -> str | None:
    """What the new object is compared with: the old object; else the base model's own answer up to the first
    punctuation mark; None when that is empty or the new object itself."""
    if request.target_old is not None:
        return request.target_old
    words = " ".join(answer_of(base_says).split()[:6])
    return words if words and words != request.target_new else None


def known_already(model: Any, encoder: Encoder, requests: Sequence[EditRequest]) -> list[bool]:
    """Whether greedy decoding says the new object already: nothing to edit then."""
    rows = [encoder.plain(request.rewrite, request.target_new) for request in requests]
    return [score.greedy for score in score_rows(model, rows)]


def unaskable(encoder: Encoder, request: EditRequest) -> str | None:
    """Why a request can't be put to this tokenizer, or None when it can."""
    texts = [request.rewrite.text, request.target_new, request.question.text]
    if any(encoder.holds_special(text) for text in texts):
        return "label holds a special token of the model"
    try:
        rows = [row_of(encoder, probe, probe.wins) for probe in probes_of(request, None)]
        sentence = encoder.chat_sentence(request.question, request.rewrite, request.target_new)
    except ModelError as error:
        return str(error)
    length = max(len(row.ids) for row in (*rows, *([sentence] if sentence is not None else [])))
    if encoder.longest is not None and length + _ROOM > encoder.longest:
        return f"its prompts have more than the {encoder.longest} tokens that the model can read"
    return None if all(row.target_len for row in rows) else "the object has no tokens"
