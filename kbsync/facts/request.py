"""A fact in words, and what a model said when it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kbsync.facts.hashing import digest
from kbsync.facts.wikidata import Fact


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text and the characters in it that name the subject: `text[start:end]`."""

    text: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= len(self.text):
            raise ValueError(f"the subject's place {self.start}:{self.end} is outside {self.text!r}")

    @property
    def subject(self) -> str:
        """The subject's name as it stands in the text."""
        return self.text[self.start : self.end]

    @classmethod
    def fill(cls, template: str, name: str) -> Prompt:
        """Put `name` at the one `{}` of `template`. Braces inside `name` are plain text.

        Raises ValueError when the template has no or more than one place.
        """
        head, mark, tail = template.partition("{}")
        if not mark or "{}" in tail:
            raise ValueError(f"a prompt needs exactly one {{}}: {template!r}")
        return cls(head + name + tail, len(head), len(head) + len(name))


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A neighborhood prompt: another subject whose own object must stay what it is.

    `same_object` tells the paper's kind (the neighbour's object is the edit's old object) from the
    fallback (any other subject of the relation, with its own object).
    """

    subject: str
    prompt: Prompt
    target: str
    same_object: bool


@dataclass(frozen=True, slots=True)
class EditRequest:
    """A fact in words: everything that solving and evaluating it needs.

    `target_new` and `target_old` are the objects as they read after the prompt, without the leading
    space; `target_old` is None for an added fact. `question` is asked in the chat template, where the
    model has one.
    """

    fact: Fact
    subject_label: str
    relation_label: str
    target_new: str
    target_old: str | None
    rewrite: Prompt
    question: Prompt
    generation: Prompt
    paraphrases: tuple[Prompt, ...] = ()
    neighborhood: tuple[Neighbor, ...] = field(default=())

    @property
    def heading(self) -> Prompt:
        """Subject and relation as one finds them over an entry: `Poland, head of government:`."""
        name = self.rewrite.subject
        return Prompt(f"{name}, {self.relation_label}:", 0, len(name))

    @property
    def content_hash(self) -> str:
        """sha256 over exactly what the solver reads: rewrite prompt, question, heading and new object.

        Labels or evaluation prompts that change do not make a solved z stale; a changed prompt does.
        """
        parts = [[p.text, p.start, p.end] for p in (self.rewrite, self.question, self.heading)]
        return digest({"prompts": parts, "target_new": self.target_new})


class PromptKind(StrEnum):
    """Which of a request's prompts an outcome is about."""

    REWRITE = "rewrite"
    PARAPHRASE = "paraphrase"
    QUESTION = "question"
    NEIGHBORHOOD = "neighborhood"
    RETIRED = "retired"  # the rewrite prompt of a fact that the published model held and the candidate must not


class Phase(StrEnum):
    """Which model an outcome was measured on."""

    BEFORE = "before"  # the base model
    AFTER = "after"  # the candidate


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model says at one prompt of one request.

    `logp_new` and `logp_old` are mean natural-log probabilities per token of the two objects. For a
    neighborhood prompt `old` is the neighbour's own object. `success`: the object that should win has the
    higher probability; `accuracy`: greedy decoding says that object. `said` is a short greedy continuation
    where one was generated.
    """

    content_hash: str
    phase: Phase
    kind: PromptKind
    index: int
    prompt: str
    target_new: str
    target_old: str | None
    logp_new: float
    logp_old: float | None
    success: bool
    accuracy: bool
    said: str | None = None
