"""What Wikidata says: ids, values, items, statements, and the facts that follow from them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

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

    def order(self) -> tuple[str, str, str, str]:
        """What facts are sorted by, as they compare: with these as keys a sort is a quarter of the work."""
        return self.subject, self.relation, self.value.kind, self.value.text
