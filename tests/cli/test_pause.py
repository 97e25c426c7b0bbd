"""`kbsync pause` and `kbsync resume`, and what `kbsync status` says of a pause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kbsync.cli.pause import end_of
from kbsync.errors import ConfigError
from kbsync.store import daemons
from kbsync.store.engine import open_store
from tests.cli.conftest import Call, data, error, url_of

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("until", "length", "end"),
    [
        (None, None, None),
        (None, "90m", AT + timedelta(minutes=90)),
        ("2026-11-30", None, datetime(2026, 11, 30, tzinfo=UTC)),
        ("2026-11-30T06:00", None, datetime(2026, 11, 30, 6, tzinfo=UTC)),
        ("2026-11-30T06:00+02:00", None, datetime(2026, 11, 30, 4, tzinfo=UTC)),
        ("13:30", None, AT + timedelta(minutes=90)),
        ("11:00", None, AT + timedelta(hours=23)),
        ("12:00", None, AT + timedelta(days=1)),
    ],
)
def test_ends(until: str | None, length: str | None, end: datetime | None) -> None:
    """A length, a day, a time with or without an offset, and the next time of day; UTC where nothing is said."""
    assert end_of(until, length, AT) == end


@pytest.mark.parametrize(
    ("until", "length", "words"),
    [
        ("13:00", "1h", "not both"),
        ("2026-11-25T11:59", None, "is over already: it is 2026-11-25 12:00 UTC"),
        ("tomorrow", None, "is not a time such as"),
        ("25:00", None, "is not a time such as"),
        ("9999-12-31T23:59-12:00", None, "is not a time such as"),
        ("0001-01-01T00:00+12:00", None, "is not a time such as"),
        (None, "soon", "is not a length of time"),
        (None, "0", "must last for some time"),
    ],
)
def test_ends_that_can_not_be(until: str | None, length: str | None, words: str) -> None:
    """Each is named."""
    with pytest.raises(ConfigError, match=words):
        end_of(until, length, AT)


def test_pause_status_resume(told: Call, config: Path) -> None:
    """The pause is shown with its reason, and the next run of a daemon that is up is not before its end."""
    paused = data(told("pause", "--for", "3h", "moving  the\nendpoint", "--json"))["pause"]
    assert paused["reason"] == "moving the endpoint"
    at = datetime.now(UTC)
    with open_store(url_of(config)) as store, store.begin() as tx:
        daemons.beat(tx, daemons.start(tx, "elsewhere", 4711, at), at, at + timedelta(hours=1))
    found = data(told("status", "--json"))
    assert found["pause"] == paused
    assert found["daemon"]["next_run_at"] == paused["until"]
    shown = told("status").stdout
    assert "moving the endpoint" in shown
    assert f"until {paused['until'][:10]}" in shown
    assert "until `kbsync resume`" in told("pause").stdout
    assert data(told("status", "--json"))["daemon"]["next_run_at"] is None
    assert told("resume").stdout.startswith("resumed; it was paused since")
    assert data(told("resume", "--json")) == {"ended": None}
    assert told("resume").stdout == "nothing was paused\n"
    assert data(told("status", "--json"))["pause"] is None


def test_no_store(call: Call) -> None:
    """A pause makes no store; options that can't be are told."""
    assert error(call("pause", "--json"))["exit_code"] == 4
    assert error(call("pause", "--for", "soon", "--json"))["exit_code"] == 2
