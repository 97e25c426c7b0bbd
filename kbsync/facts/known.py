"""What the store knows of a fact: as it is, and as it stood over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kbsync.facts.wikidata import Fact, References


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
