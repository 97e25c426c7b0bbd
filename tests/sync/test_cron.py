"""A cron line means what it means in crontab."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.errors import ConfigError
from kbsync.settings import ScheduleSettings
from kbsync.sync.cron import cron_trigger, named_days
from kbsync.sync.daemon import reconcile_schedule

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def days_of(field: str) -> list[int]:
    """The days of one week on which a line fires, as crontab counts them, with Sunday first."""
    trigger, at = cron_trigger(f"0 4 * * {field}", "schedule.cron"), MONDAY - timedelta(days=1)
    found = []
    while (at := trigger.get_next_fire_time(None, at)) and at < MONDAY + timedelta(days=6):
        found.append((at.weekday() + 1) % 7)
        at += timedelta(seconds=1)
    return found


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", [0]), ("7", [0]), ("sun", [0]), ("1", [1]), ("MON", [1]), ("6", [6]), ("1-5", [1, 2, 3, 4, 5]),
        ("5-7", [0, 5, 6]), ("fri-mon", [0, 1, 5, 6]), ("*", [0, 1, 2, 3, 4, 5, 6]), ("*/2", [0, 2, 4, 6]),
        ("1-5/2", [1, 3, 5]), ("3/2", [3, 5]), ("0,3", [0, 3]), ("sat,0", [0, 6]),
    ],
)  # fmt: skip
def test_days_of_the_week(field: str, days: list[int]) -> None:
    """By number, by name, as ranges, lists and steps; 0 and 7 are Sunday."""
    assert days_of(field) == days


def test_the_default_reconcile_is_on_sundays() -> None:
    """At four in the morning."""
    due = reconcile_schedule(ScheduleSettings()).get_next_fire_time(None, MONDAY)
    assert due == datetime(2024, 1, 7, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    "line", ["99 4 * * *", "0 4 * * 8", "0 4 * * son", "0 4 * * 1-", "a b c d e", "0 4 * *", "1"]
)
def test_a_line_that_is_none(line: str) -> None:
    """One line names the setting and what is wrong."""
    with pytest.raises(ConfigError, match=r"schedule\.reconcile: .* is no cron line"):
        cron_trigger(line, "schedule.reconcile")


@settings(max_examples=100, derandomize=True, database=None)
@given(st.text("0123456789*/,-adehimnorstuw", max_size=8))
def test_any_field(field: str) -> None:
    """It names days, or it is refused."""
    try:
        named = named_days(field)
    except ValueError:
        return
    assert named == "*" or set(named.split(",")) <= {"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
