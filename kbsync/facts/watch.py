"""What is kept in sync: a relation, and which subjects of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from kbsync.facts.hashing import digest


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
