"""Which facts are kept in sync."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, StrictInt, ValidationInfo, field_validator, model_validator

from kbsync.facts import is_item_id, is_property_id
from kbsync.settings.section import Section

CATALOGUE = Path("config/relations.toml")


class WatchSettings(Section):
    """What is kept in sync."""

    relations: tuple[str, ...] = Field((), description="property ids to watch")
    catalogue: Path = Field(CATALOGUE, description="prompts and policies per relation")
    baseline: Literal["adopt", "teach"] = Field(
        "adopt",
        description="first pull: take the facts as known, or edit each that the base model gets wrong",
    )
    max_live: int = Field(1000, ge=1, description="most facts the synced model may hold")
    when_full: Literal["hold", "refuse"] = Field(
        "hold",
        description="after the gate refused because the model is full: hold back the facts of least priority, or "
        "leave it at that",
    )
    priority: dict[str, StrictInt] = Field(
        {},
        description="per relation, which facts are kept first where not all fit; 0 for those not named. "
        "Relations that `kbsync watch add` adds have theirs by `--priority`",
    )
    classes: dict[str, tuple[str, ...]] = Field(
        {}, description="per relation, watch only instances of these classes, or of classes below them"
    )
    subjects: dict[str, tuple[str, ...]] = Field({}, description="per relation, watch only these subjects")
    subjects_file: dict[str, Path] = Field(
        {}, description="per relation, watch only the subjects in this file, an id on each line"
    )
    where: dict[str, str] = Field(
        {}, description="per relation, watch only what this SPARQL pattern binds to `?item`"
    )

    @field_validator("relations")
    @classmethod
    def _ids(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        for one in ids:
            if not is_property_id(one):
                raise ValueError(f"{one!r} is not a property id such as P36")
        if len(set(ids)) != len(ids):
            raise ValueError("a relation is listed twice")
        return ids

    @field_validator("priority")
    @classmethod
    def _of_watched(cls, priority: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        for one in priority:
            if one not in info.data.get("relations", priority):  # where those are wrong, that is the error
                raise ValueError(
                    f"{one!r} is not one of watch.relations; `kbsync watch add --priority` is for one that is added"
                )
        return priority

    @field_validator("classes", "subjects")
    @classmethod
    def _items(cls, lists: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for relation, ids in lists.items():
            if not ids:
                raise ValueError(f"the list of {relation} names none")
            for one in ids:
                if not is_item_id(one):
                    raise ValueError(f"{one!r} of {relation} is not an item id such as Q5")
        return lists

    @model_validator(mode="after")
    def _one_filter_each(self) -> Self:
        seen: set[str] = set()
        for one in (*self.classes, *self.subjects, *self.subjects_file, *self.where):
            if one not in self.relations:
                raise ValueError(f"{one!r} has a filter and is not one of watch.relations")
            if not self.where.get(one, "?").strip():
                raise ValueError(f"the pattern of {one} is empty")
            if one in seen:
                raise ValueError(
                    f"{one!r} has two filters: give it one of classes, subjects, subjects_file and where"
                )
            seen.add(one)
        return self
