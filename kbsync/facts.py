"""The nouns of kbsync: plain, frozen, free of torch and SQL. Every stage speaks in these.

Ids are Wikidata's (`Q30`, `P36`); times are timezone-aware UTC; text from outside is data and is never
used as a format string: a prompt marks its subject by character positions, not by braces.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

ENTITY_ID = re.compile(r"^[QPL][1-9][0-9]*$")


def is_entity_id(text: str) -> bool:
    """Whether `text` is a Wikidata id: Q, P or L and a number without leading zeros."""
    return ENTITY_ID.fullmatch(text) is not None  # `match` would let a line break through at the end


class ValueKind(StrEnum):
    """What a statement's value is."""

    ITEM = "item"
    TIME = "time"
    STRING = "string"
    MONOLINGUAL = "monolingual"
    QUANTITY = "quantity"
    UNKNOWN = "unknown"  # somevalue or novalue: there is a statement, but no object to say


class Rank(StrEnum):
    """Wikidata's rank of a statement."""

    PREFERRED = "preferred"
    NORMAL = "normal"
    DEPRECATED = "deprecated"


@dataclass(frozen=True, slots=True, order=True)
class Value:
    """The object of a fact: an item id, or a literal in its lexical form (times as ISO 8601)."""

    kind: ValueKind
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """What the source says of an item itself. `label` is None when it has none in `en` or `mul`."""

    id: str
    label: str | None
    language: str | None
    revision: int | None
    modified: datetime | None


@dataclass(frozen=True, slots=True)
class Statement:
    """Wikidata's record of a fact. `best` is the service's BestRank: the statement is truthy (`wdt:`)."""

    id: str
    subject: str
    relation: str
    value: Value
    rank: Rank
    best: bool
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """(subject, relation, object), by id."""

    subject: str
    relation: str
    value: Value


class ChangeKind(StrEnum):
    """What one pull found about a fact."""

    ADDED = "added"
    REPLACED = "replaced"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a subject's truthy facts of one relation.

    `old` is None for added, `new` is None for retired. `reason` names how it happened at the source:
    `new statement`, `rank`, `replaced in place`, `deleted`, `deprecated`, `ended`.
    """

    kind: ChangeKind
    subject: str
    relation: str
    old: Value | None
    new: Value | None
    statement_id: str
    reason: str


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """How far the tail of one relation has been read: a time and, for ties, the item's id."""

    modified: datetime
    item: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """What one page of the source means for the store: applied together with its cursor in one transaction.

    `statements` are new or changed; `gone` are (statement id, reason) of those that the source no longer has;
    `items` are the subjects, `labels` the objects that the statements name. `counts` has a named outcome for
    each statement and item that was read (`stored`, `duplicate`, `filtered: unknown value`, …).
    """

    relation: str
    items: tuple[Item, ...]
    labels: tuple[Item, ...]
    statements: tuple[Statement, ...]
    gone: tuple[tuple[str, str], ...]
    changes: tuple[Change, ...]
    counts: dict[str, int]
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class Held:
    """A fact that could become an edit but must not (yet), and the named reason."""

    fact: Fact
    reason: str


@dataclass(frozen=True, slots=True)
class KnownFact:
    """A truthy fact as the store has it now, as the planner reads it.

    `baseline`: it was there at the first pull. `start` and `end` are the statement's qualifiers; `preferred`
    its rank. `seen` is when the store first saw it.
    """

    fact: Fact
    baseline: bool
    preferred: bool
    start: datetime | None
    end: datetime | None
    seen: datetime


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


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON of `value`: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
