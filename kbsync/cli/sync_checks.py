"""The doctor's checks of how syncs go: the daemon, the last run, what is overdue, what waits, the room left."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from kbsync.cli.checks import Check, reading
from kbsync.cli.show import words

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from kbsync.settings import Settings
    from kbsync.store.runs import Run

AHEAD = timedelta(seconds=5)  # by which a heartbeat may be of the future
LATE = timedelta(minutes=30)  # by which a sync may be late: another work may be under way


def check_daemon(settings: Settings) -> Iterator[Check]:
    """A daemon is up, and its clock is ours."""
    from kbsync.store import daemons
    from kbsync.sync.clock import now

    with reading(settings) as tx:
        up = daemons.up(tx, now()) if tx is not None else []
        last = daemons.latest(tx) if tx is not None else None
    if last is not None and last.stopped_at is None and last.beat_at - now() > AHEAD:
        ahead = (last.beat_at - now()).total_seconds()
        text = f"the daemon on {last.host} has beaten {ahead:.0f} s from now: its clock or this machine's is wrong"
        yield Check("clock", "warn", text, "timedatectl set-ntp true")
    if up:
        yield Check("daemon", "ok", f"up, process {up[0].pid} on {up[0].host}")
    else:
        yield Check("daemon", "warn", "not running: nothing syncs on the schedule", "kbsync run")


def check_pause(settings: Settings) -> Iterator[Check]:
    """Nobody has paused the schedule."""
    from kbsync.store import pauses
    from kbsync.sync.clock import now

    with reading(settings) as tx:
        pause = pauses.paused(tx, now()) if tx is not None else None
    if pause is not None:
        until = "until somebody resumes it" if pause.until is None else f"until {words(pause.until)} UTC"
        why = f": {pause.reason}" if pause.reason else ""
        yield Check("pause", "warn", f"paused {until}, by {pause.by}{why}", "kbsync resume")


def check_runs(settings: Settings) -> Iterator[Check]:
    """The last run ended well, none hangs, and none is overdue."""
    with reading(settings) as tx:
        if tx is None:
            return
        yield from _last_run(tx)
        yield from _overdue(tx, settings)


_BADLY = {"failed": "kbsync sync", "rejected": "kbsync status, and docs/gate.md", "interrupted": "kbsync sync"}


def _last_run(tx: Session) -> Iterator[Check]:
    from kbsync.store import runs

    newest = runs.runs(tx, limit=2)
    if newest and newest[0].ended_at is None:
        if (gone := _gone(newest[0])) is not None:
            yield Check("runs", "warn", gone, "kbsync sync")
            return
        newest = newest[1:]
    if not newest:
        return
    last = newest[0]
    if last.status.value in _BADLY:
        why = " ".join((last.reason or "no reason was written down").split())
        where = f"in {last.stage}" if last.stage is not None else "before its first stage"
        text = f"the last run, {last.id} ({last.trigger}), {_WORDS[last.status.value]} {where}: {why}"
        yield Check("runs", "warn", text, _BADLY[last.status.value])
    else:
        yield Check("runs", "ok", f"the last run, {last.id}, ended as {last.status}")


_WORDS = {"failed": "failed", "rejected": "was refused", "interrupted": "was interrupted"}


def _gone(run: Run) -> str | None:
    """Why a run that is under way by its row is not."""
    from kbsync.store import runs
    from kbsync.sync.clock import now

    if run.host == socket.gethostname() and not runs.process_alive(run.pid):
        return f"run {run.id} is under way by its row, and its process {run.pid} is gone"
    if now() - run.beat_at > runs.PATIENCE:
        process = f"process {run.pid} on {run.host}"
        return f"run {run.id} has given no sign of life since {words(run.beat_at)} UTC ({process})"
    return None


def _overdue(tx: Session, settings: Settings) -> Iterator[Check]:
    """A sync whose time by the schedule is long over, while nothing keeps it from starting."""
    from kbsync.store import daemons, pauses, runs
    from kbsync.sync.clock import now
    from kbsync.sync.overdue import last_sync

    at, last = now(), last_sync(tx)
    if last is None or pauses.paused(tx, at) is not None or runs.running(tx) is not None:
        return
    expected = _expected(settings, last)
    if expected is None or at - expected <= LATE + timedelta(seconds=settings.schedule.jitter_s):
        return
    text = f"the last whole sync began {words(last)} UTC, and the next was due {words(expected)} UTC"
    up = daemons.up(tx, at)
    yield Check("overdue", "warn", text, "kbsync trigger --wait" if up else "kbsync run")


def _expected(settings: Settings, last: datetime) -> datetime | None:
    from kbsync.settings import quiet_hours
    from kbsync.sync.timetable import Quiet, schedule_of

    following: datetime | None = schedule_of(settings.schedule).get_next_fire_time(
        last, last + timedelta(seconds=1)
    )
    hours = settings.schedule.quiet_hours
    return following if following is None or hours is None else Quiet(*quiet_hours(hours)).over(following)


def check_held(settings: Settings) -> Iterator[Check]:
    """What waits for somebody: a run that asks, and held changes that no time lets go."""
    from kbsync.sync import overview

    with reading(settings) as tx:
        if tx is None:
            return
        found = overview.held(tx, None)
    for one in found["runs"]:
        text = f"run {one['run']} asks: {one['reason']}"
        yield Check("approval", "warn", text, f"kbsync approve {one['run']}")
    by_hand = sum(one["waits_until"] is None for one in found["changes"])
    if by_hand:
        yield Check("held", "ok", f"{by_hand} held changes wait for an edit of Wikidata or for you", "kbsync held")


def check_room(settings: Settings) -> Iterator[Check]:
    """The model has room for more facts, as far as the last candidate tells."""
    from kbsync.sync.room import last_room

    with reading(settings) as tx:
        room = last_room(tx) if tx is not None else None
    if room is None:
        yield Check("room", "ok", "no candidate was judged yet")
        return
    for warning in room.warnings():
        yield Check("room", "warn", warning, "docs/operations.md, When the model fills up")
    if not room.warnings():
        yield Check("room", "ok", room.words())
