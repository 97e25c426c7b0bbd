"""What is measured of a candidate, and what it must reach to go live."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from kbsync.settings.section import Section, off_is_none


class EvaluateSettings(Section):
    """What is measured of every edit."""

    neighbors: int = Field(4, ge=0, description="neighborhood prompts per request")
    drift_tokens: int = Field(4000, ge=64, description="tokens of the fixed text behind the perplexity ratio")
    said_tokens: int = Field(12, ge=1, description="tokens generated to show what the model says")


class GateSettings(Section):
    """A candidate that breaks one of these stays a candidate. A threshold of `off` is not checked."""

    min_efficacy_success: float | None = Field(
        0.95, ge=0, le=1, description="least share of edits whose new object beats the old one"
    )
    min_efficacy_accuracy: float | None = Field(
        0.80, ge=0, le=1, description="least share of edits whose new object is what greedy decoding says"
    )
    min_paraphrase_success: float | None = Field(
        0.80, ge=0, le=1, description="least share of paraphrases where the new object beats the old one"
    )
    max_neighborhood_drop: float | None = Field(
        0.05, ge=0, le=1, description="most that neighborhood success may fall under the base model's"
    )
    max_perplexity_ratio: float | None = Field(
        1.05, gt=0, description="most that the perplexity of the fixed text may grow, as a ratio"
    )
    max_retired_favoured: float | None = Field(
        0.05, ge=0, le=1, description="most retired objects, as a share, favoured over the base model"
    )
    bisect_rebuilds: int = Field(
        20,
        ge=0,
        description="most rebuilds that one run spends to find the new facts because of which the gate refuses; "
        "0: it does not look",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _off(cls, value: object, info: ValidationInfo) -> object:
        return 0 if value == "off" and info.field_name == "bisect_rebuilds" else off_is_none(value)
