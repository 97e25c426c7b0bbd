"""What every section of the settings has in common, and the forms that several of them read."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A table of the TOML file. Unknown keys are errors, and so are NaN, infinity, and a boolean for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are not values of this key")
        return value


def off_is_none(value: object) -> object:
    """`off` as None: TOML has no null."""
    return None if value == "off" else value


_DURATION = re.compile(r"(\d{1,6}(?:\.\d+)?)(m|h|d)")


def duration(text: str) -> timedelta:
    """`90m`, `24h` or `7d` as a length of time; `0` is none. Raises ValueError for anything else."""
    found = _DURATION.fullmatch(text)
    if found is None:
        if text == "0":
            return timedelta(0)
        raise ValueError(f'{text!r} is not a length of time such as "90m", "24h" or "7d"')
    return float(found[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[found[2]]


def _check_duration(text: str) -> str:
    duration(text)
    return text


Duration = Annotated[str, AfterValidator(_check_duration)]
