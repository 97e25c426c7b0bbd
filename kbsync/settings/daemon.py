"""When the daemon works, and what it answers over HTTP."""

from __future__ import annotations

import re
from datetime import time
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kbsync.crontab import crontab_fields
from kbsync.settings.section import Duration, Section, off_is_none

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def quiet_hours(text: str) -> tuple[time, time]:
    """`22:00-06:00` as begin and end. Raises ValueError for anything else, and for hours that are none or all."""
    found = _HOURS.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is not hours such as "22:00-06:00"')
    hours = [int(one) for one in found.groups()]
    start, end = time(hours[0], hours[1]), time(hours[2], hours[3])
    if start == end:
        raise ValueError("quiet hours must end at another time than they begin")
    return start, end


class ScheduleSettings(Section):
    """When the daemon syncs. Give an interval or a cron line, not both; a cron line replaces the default."""

    interval_minutes: float | None = Field(60.0, gt=0, description="minutes from one sync to the next")
    cron: str | None = Field(None, description="five fields, as in crontab, in UTC")
    poll_s: float = Field(2.0, gt=0, description="seconds between looks for a trigger in the store")
    reconcile: str = Field(
        "0 4 * * 0", description="when everything tracked is compared, as a cron line in UTC; `off`: never"
    )
    jitter_s: float = Field(
        0.0, ge=0, le=86_400, description="most seconds by which each time is put off, drawn anew for each"
    )
    quiet_hours: str | None = Field(
        None, description="hours in UTC in which nothing starts by itself, such as `22:00-06:00`"
    )
    stall_s: float = Field(
        1800.0,
        ge=60,
        description="seconds without progress after which the service manager's watchdog is no longer fed",
    )

    @field_validator("cron", "reconcile")
    @classmethod
    def _five_fields(cls, cron: str | None, info: ValidationInfo) -> str | None:
        if cron is not None and not (cron == "off" and info.field_name == "reconcile"):
            crontab_fields(cron)
        return cron

    _off = field_validator("quiet_hours", mode="before")(off_is_none)

    @field_validator("quiet_hours")
    @classmethod
    def _window(cls, hours: str | None) -> str | None:
        if hours is not None:
            quiet_hours(hours)
        return hours

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if {"interval_minutes", "cron"} <= self.model_fields_set and self.interval_minutes and self.cron:
            raise ValueError("give interval_minutes or cron, not both")
        if self.cron is None and self.jitter_s > 60 * (self.interval_minutes or 60.0):
            raise ValueError("jitter_s is longer than the interval")
        return self


class ServeSettings(Section):
    """What other programs may ask over HTTP: metrics, health, status, and, with a token, a run or a decision."""

    enabled: bool = Field(True, description="whether `kbsync run` answers HTTP; `kbsync serve` always does")
    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; any but loopback lets other machines in"
    )
    port: int = Field(8420, ge=0, le=65535, description="port to listen on; 0: a free one, which the log names")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="host names that requests may ask for besides `localhost`; addresses always may be"
    )
    open_reads: bool = Field(
        False, description="whether other machines may read without a token; writing always needs one"
    )
    hung_after: Duration = Field(
        "1h", description="how long the daemon's work may stand still until `/healthz` calls it hung; `0`: never"
    )
