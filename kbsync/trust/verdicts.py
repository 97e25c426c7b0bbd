"""The nouns of the filter: what is known beside the history, what speaks against a change, what is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kbsync.facts import Fact, State
from kbsync.trust.labels import Named

ENTER, LEAVE, CHANGE, LABEL = "enter", "leave", "change", "label"

SETTLING = "settling"
NO_REFERENCE = "no reference"
ONLY_IMPORTED = "only imported"
NOT_PREFERRED = "not preferred"
SUBJECT_CLASS = "class of the subject"
OBJECT_CLASS = "class of the object"
EDIT_WAR = "edit war"
SUBJECT_BURST = "many changes of the subject"
RELATION_BURST = "many changes of the relation"
RUN_LIMIT = "limit of the run"
REPLACEMENT_HELD = "replacement held"
REVERT_RISK = "revert risk"
NO_SCORE = "no revert-risk score"
DENIED = "denied"
REJECTED = "rejected"

PASSED, APPROVED, ALLOWED = "passed", "approved", "allowed"

Moment = tuple[datetime, datetime]  # from, to


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that speaks against a change. `until`: when that is over by itself; None: never."""

    reason: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the filter says of one change. `detail` has all that speaks against it; `since` is when it was made,
    `until` when a verdict that holds it can change by itself (None: only by an edit, or by hand)."""

    fact: Fact
    way: str
    passed: bool
    reason: str
    detail: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Believed:
    """A fact as it is to be planned with. `adopted`: it was there at the first pull, and ever since."""

    fact: Fact
    state: State
    adopted: bool
    seen: datetime | None


@dataclass(frozen=True, slots=True)
class Decisions:
    """What people decided. A change is a fact and since when it has been as it is. A fact in `facts` stays out."""

    approved: frozenset[tuple[Fact, datetime | None]] = frozenset()
    rejected: frozenset[tuple[Fact, datetime | None]] = frozenset()
    facts: frozenset[Fact] = frozenset()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known beside the history of the facts.

    `kinds` has, for each item that was read, which of the catalogue's classes it belongs to, or None where it has
    no class at all. `labels` has the items whose label is not simply believed. The bursts are stretches of time,
    by relation and by subject. `waiting` are the facts that are beyond what one run may change.
    """

    decisions: Decisions = Decisions()
    kinds: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    labels: Mapping[str, Named] = field(default_factory=dict)
    scores: Mapping[int, float] = field(default_factory=dict)
    relation_bursts: Mapping[str, Sequence[Moment]] = field(default_factory=dict)
    subject_bursts: Mapping[str, Sequence[Moment]] = field(default_factory=dict)
    waiting: frozenset[Fact] = frozenset()
