"""The nouns of kbsync: plain, frozen, free of torch and SQL. Every stage speaks in these.

Ids are Wikidata's (`Q30`, `P36`); times are timezone-aware UTC; text from outside is data and is never
used as a format string: a prompt marks its subject by character positions, not by braces.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self

ENTITY_ID = re.compile(r"^[QPL][1-9][0-9]*$")


def is_entity_id(text: str) -> bool:
    """Whether `text` is a Wikidata id: Q, P or L and a number without leading zeros."""
    return ENTITY_ID.fullmatch(text) is not None  # `match` would let a line break through at the end


def is_item_id(text: str) -> bool:
    """Whether `text` is an item id such as Q42."""
    return is_entity_id(text) and text.startswith("Q")


def is_property_id(text: str) -> bool:
    """Whether `text` is a property id such as P6."""
    return is_entity_id(text) and text.startswith("P")


LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)  # before all others; also: ended, but nobody says when


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


class References(StrEnum):
    """What a statement rests on at the source."""

    NONE = "none"
    IMPORTED = "imported"  # nothing but "imported from Wikimedia project" (P143)
    SOURCED = "sourced"


UNTOLD_UNIT = "?"  # the detail of a quantity that has a unit or none: its source can't tell


@dataclass(frozen=True, slots=True, order=True)
class Value:
    """The object of a fact: an item id, or a literal in its lexical form (times as ISO 8601).

    `detail` is what only Wikidata's value node tells: the precision of a time (`9` the year, `10` the month, `11`
    the day) or the unit of a quantity (an item id); "" where the source tells none. It is about how the value is
    said and no part of which value it is: sources that know it and sources that don't agree on the facts.
    """

    kind: ValueKind
    text: str
    detail: str = field(default="", compare=False)

    @property
    def entities(self) -> tuple[str, ...]:
        """The ids whose labels it takes to say the value."""
        if self.kind is ValueKind.ITEM:
            return (self.text,)
        return (self.detail,) if self.kind is ValueKind.QUANTITY and is_entity_id(self.detail) else ()


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
    """Wikidata's record of a fact. `best` is the service's BestRank: the statement is truthy (`wdt:`).

    `references` is None where it was never read.
    """

    id: str
    subject: str
    relation: str
    value: Value
    rank: Rank
    best: bool
    start: datetime | None = None
    end: datetime | None = None
    references: References | None = None

    @property
    def from_truthy_dump(self) -> bool:
        """Whether a dump without statements told it: its id is made up (`truthy_id`), its rank is not known."""
        return self.id.startswith(_TRUTHY)

    def adds_nothing_to(self, known: Statement | None) -> bool:
        """Whether `known` already has all that this one says, the value's detail too."""
        return known == self and self.value.detail in ("", known.value.detail)


_TRUTHY = "dump-"  # no id of Wikidata's begins like this


def truthy_id(subject: str, relation: str, term: str) -> str:
    """The id of a statement that stands for a bare `wdt:` triple: the same for the same triple, in any dump."""
    return f"{_TRUTHY}{subject}-{relation}-{hashlib.sha256(term.encode()).hexdigest()[:16]}"


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
    `new statement`, `rank`, `replaced in place`, `deleted`, `deprecated`, `ended`, `item deleted`,
    `redirected to Q…`.
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
    each statement and item that was read (`stored`, `duplicate`, `filtered: unknown value`, …). `at` is the
    source's own time of the reading, `absent` are subjects that the source no longer has: with the items'
    revisions they put pages in order, whatever the order in which they come.
    """

    relation: str
    items: tuple[Item, ...]
    labels: tuple[Item, ...]
    statements: tuple[Statement, ...]
    gone: tuple[tuple[str, str], ...]
    changes: tuple[Change, ...]
    counts: dict[str, int]
    cursor: Cursor | None
    at: datetime | None = None
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the source has shown one item's statements of one relation: what puts readings in order.

    `revision` is the highest that was read (None where the source has none), `at` the source's time of its
    latest reading, `absent_at` the source's time at which the item was last found missing. Readings form a
    semilattice: `merged` gives the same for any order, and for one that is merged twice.
    """

    revision: int | None = None
    at: datetime | None = None
    absent_at: datetime | None = None

    @property
    def present(self) -> bool:
        """Whether the item is there: it was read later than it was found missing."""
        return self.absent_at is None or (self.at is not None and self.at > self.absent_at)

    def merged(self, other: Reading) -> Reading:
        """Both readings as one: a higher revision counts, then a later time; of absences the last."""
        newest = max(self, other, key=Reading._key)
        absences = [one.absent_at for one in (self, other) if one.absent_at is not None]
        return Reading(newest.revision, newest.at, max(absences, default=None))

    def takes(self, seen: Reading) -> bool:
        """Whether `seen` tells the state after this reading; else it is older, and nothing of it may be stored."""
        both = self.merged(seen)
        if seen.absent_at is not None:
            return not both.present
        return both.present and seen._key() >= self._key()

    def ends(self, seen: Reading) -> bool:
        """Whether `seen` shows that the item was missing last: it had a higher revision before it went than the
        one that a server behind the others has shown since."""
        return self.present and not self.merged(seen).present

    def _key(self) -> tuple[int, datetime]:
        return -1 if self.revision is None else self.revision, self.at or LONG_AGO


class DivergenceKind(StrEnum):
    """How the store differed from the source when all of a relation was read."""

    DELETED_STATEMENT = "deleted statement"
    DELETED_ITEM = "deleted item"
    MERGED_SUBJECT = "merged subject"
    MERGED_OBJECT = "merged object"
    UNDELETED_ITEM = "undeleted item"
    RETURNED_STATEMENT = "returned statement"  # retired as deleted, and there all the same
    LATE_ITEM = "late item"  # a subject that no pull has ever seen
    LATE_STATEMENT = "late statement"
    REPLACED_VALUE = "replaced value"
    RANK = "rank"
    QUALIFIERS = "qualifiers"  # start or end, or what it rests on
    LABEL = "label"  # of a subject, an object or the relation itself


@dataclass(frozen=True, slots=True)
class Divergence:
    """One difference that a reconcile found and healed. `was` is the store's side, `found` the source's; where it
    is about a whole item, or about a label, there is no statement."""

    kind: DivergenceKind
    subject: str
    statement_id: str | None = None
    was: str | None = None
    found: str | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """An event of the mutation stream by which an item must be read again for one relation.

    `revision` and `operation` are the event's, `at` its own time; `seen_at` is when we read it.
    """

    relation: str
    item: str
    revision: int
    operation: str
    at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What must be remembered of an endpoint from one pull to the next, also over a restart.

    `refusals` are those in a row, `trips` how often in a row that led to a pause; until `open_until` nothing is
    asked, and `reason` says why. `seconds_left` and `errors_left` are what the request budget held at
    `budget_at`; None: it is full, or switched off. `page_size` is set while pages are smaller than the settings
    want. `requests` and `refused` count all there ever were.
    """

    host: str
    refusals: int = 0
    trips: int = 0
    open_until: datetime | None = None
    reason: str | None = None
    seconds_left: float | None = None
    errors_left: float | None = None
    budget_at: datetime | None = None
    page_size: int | None = None
    requests: int = 0
    refused: int = 0


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
class State:
    """What Wikidata says of one fact during one stretch of time: whether it is truthy, and how."""

    present: bool
    preferred: bool = False
    start: datetime | None = None
    end: datetime | None = None
    references: References | None = None


ABSENT = State(present=False)


@dataclass(frozen=True, slots=True)
class Past:
    """A state that is over, and when it ended, by the source's time. `revision` is the subject's, at which the
    next state was found."""

    state: State
    until: datetime
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """One fact as it stood over time: the states that are over, the oldest first, and the one that is now.

    The first state has stood since before the store looked. `baseline`: the fact was there at the first pull.
    `seen` is when the store saw it last come.
    """

    fact: Fact
    now: State
    past: tuple[Past, ...] = ()
    baseline: bool = False
    seen: datetime | None = None

    @property
    def since(self) -> datetime | None:
        """When the present state began; None: before the store looked."""
        return self.past[-1].until if self.past else None


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


@dataclass(frozen=True, slots=True)
class Subjects:
    """Which subjects of a relation are watched: all, or those of one kind of filter.

    `classes`: instances of one of them, or of a class below it (P31/P279*). `ids`: a list. `where`: what a SPARQL
    pattern binds to `?item`.
    """

    classes: tuple[str, ...] = ()
    ids: frozenset[str] | None = None
    where: str = ""

    @property
    def everything(self) -> bool:
        """Whether there is no filter."""
        return not self.classes and self.ids is None and not self.where

    def as_data(self) -> dict[str, Any]:
        """What the filter says, in JSON's types; empty without one."""
        if self.ids is not None:
            return {"subjects": sorted(self.ids)}
        if self.classes:
            return {"classes": sorted(self.classes)}
        return {"where": self.where} if self.where else {}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """The filter that `as_data` wrote down."""
        ids = data.get("subjects")
        return cls(tuple(data.get("classes", ())), None if ids is None else frozenset(ids), data.get("where", ""))

    @property
    def key(self) -> str:
        """What tells this filter from another one: "" without one, else a hash."""
        return "" if self.everything else digest(self.as_data())

    @property
    def words(self) -> str:
        """The filter on one line."""
        if self.ids is not None:
            shown = ", ".join(sorted(self.ids)[:3])
            return f"list of {len(self.ids)}: {shown}{', …' if len(self.ids) > 3 else ''}"
        if self.classes:
            return f"class {', '.join(sorted(self.classes))}"
        return f"where {' '.join(self.where.split())}" if self.where else "all"


@dataclass(frozen=True, slots=True)
class Watch:
    """A relation that is kept in sync, who says so, which subjects of it, and how much it matters where not all
    facts fit."""

    relation: str
    source: Literal["file", "command"]
    subjects: Subjects = Subjects()
    priority: int = 0


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON of `value`: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
