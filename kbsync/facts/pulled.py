"""What reading the source brings: changes, how far it was read, and in which order readings count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kbsync.facts.wikidata import LONG_AGO, Item, Statement, Value


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
