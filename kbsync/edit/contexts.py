"""The contexts in which z is solved: where an edit holds is decided here.

A model asked with BOS, without BOS, after other text, or in its chat template reads the same subject with
different keys. z and keys are averaged over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kbsync.facts import EditRequest, Prompt
from kbsync.lm.place import main_device
from kbsync.lm.rows import Encoder, Row

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import EditSettings

PREFIX_TOKENS = 8
_SEEDS = ("The", "Therefore", "Because", "I", "You")


@dataclass(frozen=True, slots=True)
class Contexts:
    """How a request is put to the model: seeded text before the prompt, and which templates are used."""

    prefixes: tuple[str, ...]
    bare: bool
    chat: bool
    question: bool = False

    def rows(self, encoder: Encoder, request: EditRequest) -> list[Row]:
        """The request's rows with the new object; the first one is the prompt itself, with BOS."""
        rows = [encoder.plain(request.rewrite, request.target_new)]
        rows += [encoder.plain(request.rewrite, request.target_new, prefix=p) for p in self.prefixes]
        if self.question:
            rows.append(encoder.plain(request.question, request.target_new))
        if self.bare and encoder.bos_id is not None:
            rows.append(encoder.plain(request.rewrite, request.target_new, bos=False))
        if self.chat:
            chat = encoder.chat(request.question, request.target_new)
            rows += [chat] if chat is not None and chat.target_len else []
        return rows

    @staticmethod
    def essence(encoder: Encoder, request: EditRequest) -> Row:
        """`<subject> is a`: what the subject is should not change (the KL term's prompt)."""
        name = request.rewrite.subject
        return encoder.plain(Prompt(f"{name} is a", 0, len(name)))


def sample_prefixes(model: Any, encoder: Encoder, count: int, seed: int) -> tuple[str, ...]:
    """`count` short texts sampled from the model itself, each ended like a sentence; the same for one seed.

    Sampling runs on the CPU's generator whatever the device, so that the seed means the same there.
    """
    generator = torch.Generator().manual_seed(seed)
    head = [encoder.bos_id] if encoder.bos_id is not None else []
    texts = []
    for i in range(count):
        start = head + encoder.text_ids(_SEEDS[i % len(_SEEDS)])
        ids = _continue(model, start, generator)
        text = encoder.tokenizer.decode(ids[len(head) :], skip_special_tokens=True)
        texts.append(" ".join(text.split()).rstrip(".,;:") + ". ")
    return tuple(texts)


@torch.inference_mode()
def _continue(model: Any, ids: Sequence[int], generator: torch.Generator) -> list[int]:
    out = list(ids)
    device = main_device(model)
    for _ in range(PREFIX_TOKENS):
        logits = model(input_ids=torch.tensor([out], device=device), use_cache=False).logits[0, -1]
        top = logits.float().cpu().topk(5)
        choice = torch.multinomial(top.values.softmax(-1), 1, generator=generator)
        out.append(int(top.indices[choice]))
    return out


def build_contexts(model: Any, encoder: Encoder, settings: EditSettings) -> Contexts:
    """The contexts that the settings ask for, sampled from `model` (the base model)."""
    prefixes = sample_prefixes(model, encoder, settings.prefixes, settings.seed)
    return Contexts(
        prefixes=prefixes,
        bare=settings.bare_context,
        chat=settings.chat_context and encoder.has_chat,
        question=settings.question_context,
    )
