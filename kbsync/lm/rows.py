"""Prompts and objects as token rows: where the subject ends, which tokens are the object.

A row is tokenised as one string, so an object that merges with its leading space is found where it really is;
the subject's last token is read from the tokenizer's character offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kbsync.errors import ModelError, one_line
from kbsync.facts import Prompt

DOCUMENT_TOKEN = "<|endoftext|>"  # noqa: S105  a separator of documents, not a secret
_MOST_RENDERED = 1_000_000  # characters


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of a prompt and its object.

    `subject_last` is the index of the subject's last token; the last `target_len` ids are the object's
    (0 for a prompt alone). `subject_len` is how many tokens the subject has.
    """

    ids: tuple[int, ...]
    subject_last: int
    target_len: int
    subject_len: int = 1

    @property
    def subject_first(self) -> int:
        """Index of the subject's first token."""
        return self.subject_last - self.subject_len + 1

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: everything but the object's last token (all of it, without an object)."""
        return self.ids[:-1] if self.target_len else self.ids

    @property
    def targets(self) -> tuple[int, ...]:
        """The object's tokens."""
        return self.ids[len(self.ids) - self.target_len :]

    @property
    def first_scored(self) -> int:
        """Index of the input position whose logits speak about the object's first token."""
        return len(self.inputs) - max(self.target_len, 1)


class Encoder:
    """Turns prompts into rows for one tokenizer, with one rule for BOS. `longest`: the most tokens of a row, where
    the model can read no more."""

    def __init__(self, tokenizer: Any, bos: str = "auto", longest: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.longest = longest
        self.bos_id: int | None = None if bos == "never" else _document_id(tokenizer)
        if bos == "always" and self.bos_id is None:
            raise ModelError("model.bos is `always`, but the tokenizer has no BOS token; use auto or never")
        self.has_chat = bool(getattr(tokenizer, "chat_template", None))
        added = tokenizer.added_tokens_decoder.values()  # turn markers may be special without having a role
        self._special = {*tokenizer.all_special_tokens, *(t.content for t in added if t.special)} - {""}

    def holds_special(self, text: str) -> bool:
        """Whether `text` spells one of the tokenizer's special tokens: a label must not steer the
        template."""
        return any(token in text for token in self._special)

    def plain(self, prompt: Prompt, target: str | None = None, prefix: str = "", bos: bool = True) -> Row:
        """`prefix`, the prompt, a space and the object, with BOS in front unless `bos` is False."""
        text = prefix + prompt.text
        head = [self.bos_id] if bos and self.bos_id is not None else []
        span = (len(prefix) + prompt.start, len(prefix) + prompt.end)
        return self._row(text, span, f" {target}" if target is not None else "", head)

    def chat(self, question: Prompt, target: str | None = None) -> Row | None:
        """The question as a user's turn and the object as the beginning of the answer.

        None when the tokenizer has no chat template, or the template does not keep the question as it is.
        """
        if not self.has_chat:
            return None
        turns = [{"role": "user", "content": question.text}]
        text = self._render(turns, add_generation_prompt=True)
        at = text.rfind(question.text)
        if at < 0:
            return None
        return self._row(text, (at + question.start, at + question.end), target or "", [])

    def chat_sentence(self, question: Prompt, sentence: Prompt, target: str | None = None) -> Row | None:
        """The question as a user's turn, and an answer in a sentence: `sentence`, a space and the object.

        So instruct models answer, where `chat` has the object as the answer's first word. The subject is the
        one in the assistant's sentence, and nothing closes the turn. The text before the sentence is what the
        template itself puts before an assistant's message, which may be more than its generation prompt (an
        empty thought, say). None when the tokenizer has no chat template, or the template does not keep both
        texts as they are.
        """
        if not self.has_chat:
            return None
        turns = [{"role": "user", "content": question.text}, {"role": "assistant", "content": sentence.text}]
        text = self._render(turns)
        at = text.rfind(sentence.text)
        if at < 0 or question.text not in text[:at]:
            return None
        span = (at + sentence.start, at + sentence.end)
        return self._row(text[: at + len(sentence.text)], span, f" {target}" if target is not None else "", [])

    def _render(self, turns: list[dict[str, str]], **more: bool) -> str:
        """The turns in the model's own template, which jinja's sandbox renders. Raises ModelError for one
        that fails or says far more than it was given."""
        try:
            text = str(self.tokenizer.apply_chat_template(turns, tokenize=False, **more))
        except Exception as error:  # a template may raise whatever it likes
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(one_line(f"the model's chat template can't be used: {cause}")) from None
        if len(text) > _MOST_RENDERED:
            raise ModelError(
                f"the model's chat template can't be used: it makes {len(text)} characters of two lines"
            )
        return text

    def text_ids(self, text: str) -> list[int]:
        """Plain text as ids, without special tokens of any kind."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _row(self, text: str, span: tuple[int, int], target: str, head: list[int]) -> Row:
        encoded = self.tokenizer(text + target, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = head + encoded.input_ids
        if self.longest is not None and len(ids) > self.longest:
            raise ModelError(f"the text has more than the {self.longest} tokens that the model can read")
        offsets: list[tuple[int, int]] = encoded.offset_mapping
        inside = [i for i, (a, b) in enumerate(offsets) if a < span[1] and b > span[0]]
        after = [i for i, (_, b) in enumerate(offsets) if b > len(text)]
        if not inside:
            raise ModelError(f"the tokenizer gives no token for the subject {text[span[0] : span[1]]!r}")
        last = inside[-1] + len(head)
        targets = len(offsets) - after[0] if after else 0
        if last >= len(ids) - targets:
            raise ModelError(f"the subject {text[span[0] : span[1]]!r} runs into the object: no room between them")
        return Row(tuple(ids), last, targets, len(inside))


def _document_id(tokenizer: Any) -> int | None:
    """The id that stands at the start of a document.

    What the tokenizer itself puts there; else its BOS token, unless the chat template uses that one to open
    turns, in which case the separator of documents is meant (SmolLM2 calls its turn marker BOS).
    """
    own: list[int] = tokenizer("a").input_ids
    bare: list[int] = tokenizer("a", add_special_tokens=False).input_ids
    if len(own) > len(bare) and own[0] != bare[0]:
        return own[0]
    bos: int | None = tokenizer.bos_token_id
    template = str(getattr(tokenizer, "chat_template", None) or "")
    if bos is not None and tokenizer.bos_token not in template:
        return bos
    found = tokenizer.get_vocab().get(DOCUMENT_TOKEN)
    return int(found) if found is not None else bos
