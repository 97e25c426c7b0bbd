"""`kbsync pause`: let nothing start by itself for a while."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.cli.trigger import whoami
from kbsync.errors import ConfigError

if TYPE_CHECKING:
    from kbsync.store.pauses import Pause


@click.command("pause", short_help="Let nothing start by itself for a while.")
@click.argument("reason", required=False, default="")
@click.option("--until", metavar="TIME", help="Until this time, in UTC: 2026-11-30, 2026-11-30T06:00 or 06:00.")
@click.option("--for", "length", metavar="LENGTH", help="For so long: 90m, 24h or 7d.")
@json_option
@pass_state
def command(state: State, reason: str, until: str | None, length: str | None) -> None:
    """Pause everything that starts by itself: scheduled syncs, reconciles, what the stream asks for, pruning.

    The daemon stays up, and a run that is under way ends as usual. Who asks by hand gets a run all the same, with
    `kbsync trigger` or `kbsync sync`. The pause is a row in the store, so it also holds after a restart. It ends at
    its time, or with `kbsync resume`; what was missed is then made up for by one run. REASON is shown by
    `kbsync status`. Another pause takes the place of the first.

    \b
    Example:
      kbsync pause --for 2h "moving the endpoint"
    """
    from kbsync.store import pauses
    from kbsync.sync.clock import now

    at = now()
    end = end_of(until, length, at)
    with state.store() as store, store.begin() as tx:
        pauses.pause(tx, whoami(), at, end, " ".join(reason.split()))
        found = pauses.paused(tx, at)
    if state.as_json:
        show.as_json({"pause": found})
    elif found is not None:
        show.line(f"paused {words(found)}")


def end_of(until: str | None, length: str | None, at: datetime) -> datetime | None:
    """The end that the options ask for; None for a pause without one. Raises ConfigError."""
    if until is not None and length is not None:
        raise ConfigError("give --until or --for, not both")
    if length is not None:
        return at + _length(length)
    if until is None:
        return None
    end = _time(until, at)
    if end <= at:
        raise ConfigError(f"--until {until} is over already: it is {at:%Y-%m-%d %H:%M} UTC")
    return end


def words(pause: Pause) -> str:
    """A pause for people: since when, until when, by whom and why."""
    until = f"until {show.words(pause.until)}" if pause.until else "until `kbsync resume`"
    reason = f": {pause.reason}" if pause.reason else ""
    return f"since {show.words(pause.since)}, {until}, by {pause.by}{reason}"


def _length(text: str) -> timedelta:
    from kbsync.settings import duration

    try:
        found = duration(text)
    except ValueError as error:
        raise ConfigError(f"--for: {error}") from None
    if not found:
        raise ConfigError("--for: a pause must last for some time")
    return found


def _time(text: str, at: datetime) -> datetime:
    """A time of day is the next one of it; without an offset times are in UTC. Raises ConfigError."""
    try:
        if re.fullmatch(r"\d\d:\d\d", text):
            end = datetime.fromisoformat(f"{at.astimezone(UTC):%Y-%m-%d}T{text}").replace(tzinfo=UTC)
            return end if end > at else end + timedelta(days=1)
        end = datetime.fromisoformat(text)
        return end.replace(tzinfo=UTC) if end.tzinfo is None else end.astimezone(UTC)
    except (ValueError, OverflowError):  # an offset can lead out of the calendar
        raise ConfigError(f"--until {text} is not a time such as 2026-11-30T06:00 or 06:00") from None
