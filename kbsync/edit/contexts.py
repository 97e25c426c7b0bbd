"""The contexts of an edit: where it holds is decided here.

A model asked with BOS, without BOS, after other text, or in its chat template reads the same subject with
different keys. z is solved in some contexts, all at once; its key is written in these and in more: a context that
only has its key written costs a part of one forward pass, where one that z is solved in costs that in every step.
In some the candidate is asked whether it says the object, and repaired where it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from kbsync.edit.others import Others
from kbsync.facts import EditRequest, Prompt
from kbsync.lm.place import main_device
from kbsync.lm.rows import Encoder, Row

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import EditSettings

PREFIX_TOKENS = 8
IN_CHAT = ("sentence", "chat")
_SEEDS = ("The", "Therefore", "Because", "I", "You")


def _bare(encoder: Encoder, request: EditRequest) -> Row | None:
    if encoder.bos_id is None:
        return None
    return encoder.plain(request.rewrite, request.target_new, bos=False)


def _chat(encoder: Encoder, request: EditRequest) -> Row | None:
    row = encoder.chat(request.question, request.target_new)
    return row if row is not None and row.target_len else None


# By name, as in the settings; None where the tokenizer has no such context.
_KINDS: Mapping[str, Callable[[Encoder, EditRequest], Row | None]] = {
    "question": lambda encoder, request: encoder.plain(request.question, request.target_new),
    "heading": lambda encoder, request: encoder.plain(request.heading, request.target_new),
    "bare": _bare,
    "sentence": lambda encoder, request: encoder.chat_sentence(
        request.question, request.rewrite, request.target_new
    ),
    "chat": _chat,
}


@dataclass(frozen=True, slots=True)
class Contexts:
    """How a request is put to the model: seeded text before the prompt, and the names of further contexts; those
    of `solved` are z's, those of `keyed` only have their key written, and in those of `asked` an edit must be said.
    `others` are subjects that z is kept from saying anything about."""

    prefixes: tuple[str, ...] = ()
    solved: tuple[str, ...] = ()
    keyed: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    others: Others = field(default_factory=Others, compare=False)

    def rows(self, encoder: Encoder, request: EditRequest) -> list[Row]:
        """The rows that z is solved in, with the new object; the first one is the prompt itself, with BOS."""
        rows = [encoder.plain(request.rewrite, request.target_new)]
        rows += [encoder.plain(request.rewrite, request.target_new, prefix=p) for p in self.prefixes]
        return rows + _named(self.solved, encoder, request)

    def key_rows(self, encoder: Encoder, request: EditRequest) -> list[Row]:
        """The rows whose keys are written: those of `rows`, and behind them the others."""
        more = [name for name in self.keyed if name not in self.solved]
        return self.rows(encoder, request) + _named(more, encoder, request)

    @property
    def everywhere(self) -> Contexts:
        """The same, with z solved where an edit must be said as well."""
        return replace(self, solved=(*self.solved, *(name for name in self.asked if name not in self.solved)))

    @property
    def where_asked(self) -> Contexts:
        """The prompt and those that an edit must be said in, or else it is missed; no others are listened to."""
        return Contexts(solved=self.asked)

    def plain_rows(self, encoder: Encoder, request: EditRequest) -> list[Row]:
        """The rows that z is solved in and that are no part of a conversation."""
        plain = Contexts(self.prefixes, tuple(name for name in self.solved if name not in IN_CHAT))
        return plain.rows(encoder, request)

    @staticmethod
    def essence(encoder: Encoder, request: EditRequest) -> Row:
        """`<subject> is a`: what the subject is should not change (the KL term's prompt)."""
        name = request.rewrite.subject
        return encoder.plain(Prompt(f"{name} is a", 0, len(name)))

    def other(self, encoder: Encoder, request: EditRequest) -> Row | None:
        """The prompt with another subject in it, where one is known."""
        prompt = self.others.like(request)
        return None if prompt is None else encoder.plain(prompt)


def _named(names: Sequence[str], encoder: Encoder, request: EditRequest) -> list[Row]:
    found = (_KINDS[name](encoder, request) for name in names)
    return [row for row in found if row is not None]


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


def build_contexts(model: Any, encoder: Encoder, settings: EditSettings, sentences: Sequence[str] = ()) -> Contexts:
    """The contexts that the settings ask for and the tokenizer has; prefixes are sampled from `model` (the base
    model). `sentences` are true facts in words, whose subjects are the `others`."""
    missing = set() if encoder.has_chat else set(IN_CHAT)
    missing |= set() if encoder.bos_id is not None else {"bare"}
    return Contexts(
        prefixes=sample_prefixes(model, encoder, settings.prefixes, settings.seed),
        solved=tuple(name for name in settings.contexts if name not in missing),
        keyed=tuple(name for name in settings.key_contexts if name not in missing),
        asked=tuple(name for name in settings.repair_contexts if name not in missing),
        others=Others(sentences),
    )
