"""What a change must pass before it may become an edit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from kbsync.facts import is_entity_id
from kbsync.settings.section import Duration, Section, off_is_none

ReferencePolicy = Literal["required", "optional", "not only imported"]


class TrustSettings(Section):
    """What a change of Wikidata must pass before it may become an edit. The catalogue may say otherwise for a
    relation."""

    settling: Duration = Field("24h", description="how long a change must have stood before it is believed")
    label_settling: Duration = Field("24h", description="how long a new label must have stood before it is used")
    rank: Literal["best", "preferred"] = Field(
        "best", description="which statements may become edits: those of the best rank, or only preferred ones"
    )
    references: ReferencePolicy = Field(
        "required", description="what a statement must rest on: any reference, none, or one that is not an import"
    )
    unreferenced_after: Duration | None = Field(
        None, description="how long a statement without the reference must have stood to be believed all the same"
    )
    types: Literal["both", "objects", "off"] = Field(
        "both", description="whose classes are checked against the catalogue's"
    )
    untyped: Literal["pass", "hold"] = Field("pass", description="what becomes of an item without a class")
    war_flips: int = Field(
        3, ge=0, description="so many returns of a value within the window are an edit war; 0: off"
    )
    war_window: Duration = Field(
        "7d", description="the window of an edit war, and how long it must have been quiet"
    )
    max_per_subject: int = Field(10, ge=0, description="changes of one subject in a burst before all wait; 0: off")
    max_per_relation: int = Field(
        50, ge=0, description="changes of one relation in a burst before all wait; 0: off"
    )
    burst_window: Duration = Field("24h", description="the stretch of time that makes a burst")
    burst_settling: Duration = Field("7d", description="how long a change in a burst must have stood")
    max_per_run: int = Field(500, ge=0, description="new facts of one run; the others wait for the next; 0: off")
    ask_share: float | None = Field(
        0.25, gt=0, le=1, description="share of the live set that a run may change without asking"
    )
    ask_floor: int = Field(100, ge=0, description="changes that a run may make without asking, whatever the share")
    label_checks: bool = Field(True, description="whether a label that does not look like a name is held")
    label_length: int = Field(120, ge=1, description="characters that a label may have")
    deny: tuple[str, ...] = Field((), description="ids of subjects, objects and relations that are never edited")
    allow: tuple[str, ...] = Field((), description="ids whose changes pass without a check")
    score_url: str = Field("", description="URL of a revert-risk model in Lift Wing's form; none: no scores")
    score_threshold: float = Field(0.9, gt=0, le=1, description="risk from which on a change is held")
    score_timeout_s: float = Field(5.0, gt=0, description="seconds to wait for one score")
    score_on_error: Literal["pass", "hold"] = Field("pass", description="what becomes of a change without a score")

    _off = field_validator("ask_share", "unreferenced_after", mode="before")(off_is_none)

    @field_validator("deny", "allow")
    @classmethod
    def _ids(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        for one in ids:
            if not is_entity_id(one):
                raise ValueError(f"{one!r} is not an id such as Q30 or P6")
        return ids

    @field_validator("score_url")
    @classmethod
    def _http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("the model must be at an http:// or https:// URL")
        return url
