"""`kbsync trigger`: ask the daemon for a sync now."""

from __future__ import annotations

import getpass
import math
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import ApprovalNeeded, ConfigError, GateRefused, KbsyncError, NotRunning

if TYPE_CHECKING:
    from kbsync.store.engine import Store
    from kbsync.store.runs import Run

LOOK_S = 0.5  # seconds between two looks at the trigger


@click.command("trigger", short_help="Ask the daemon for a sync now.")
@click.option("--wait", is_flag=True, help="Wait for the run to end, and end with its outcome.")
@click.option(
    "--timeout",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Most seconds to --wait. The daemon goes on.",
)
@click.option("--reconcile", is_flag=True, help="Ask for a full comparison with Wikidata instead of a sync.")
@json_option
@pass_state
def command(state: State, wait: bool, timeout: float, reconcile: bool) -> None:
    """Ask the running daemon for a sync now, or for a reconcile.

    It is asked through the store, so this works from any machine that can reach it. Several triggers that wait
    at the same time are answered by one run. Ends with code 9 when no daemon is up.

    \b
    Example:
      kbsync trigger --wait --timeout 600
    """
    from kbsync.store import triggers
    from kbsync.store.tables import Wants
    from kbsync.sync.clock import now

    if not math.isfinite(timeout):
        raise ConfigError("--timeout: a number is needed that is finite")
    wants = Wants.RECONCILE if reconcile else Wants.SYNC
    with state.store() as store:
        _check_daemon(store)
        with store.begin() as tx:
            number = triggers.request(tx, whoami(), now(), wants)
        state.stays = f"the daemon answers trigger {number} all the same"
        if not wait:
            if state.as_json:
                show.as_json({"trigger": number, "run": None, "status": None, "reason": None})
            else:
                show.line(f"asked for a {wants} (trigger {number}); `kbsync status` shows it")
            return
        run = _wait(store, number, timeout)
    _tell(state, number, run)


def whoami() -> str:
    """Who asks, for the ledger: `user@host`."""
    return f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "somebody"


def _check_daemon(store: Store) -> None:
    """Raises NotRunning when nobody would answer."""
    from kbsync.store import daemons
    from kbsync.sync.clock import now

    with store.read() as tx:
        if not daemons.up(tx, now()):
            raise NotRunning(f"no daemon is up on {store.place}; `kbsync run` starts one, `kbsync sync` syncs here")


def _wait(store: Store, number: int, timeout: float) -> Run:
    """The run that answered, once it has ended."""
    from kbsync.store import runs, triggers

    deadline = time.monotonic() + timeout
    while True:
        with store.read() as tx:
            trigger = triggers.state(tx, number)
            if trigger.done_at is not None and trigger.taken_run is not None:
                return runs.run_of(tx, trigger.taken_run)
        if time.monotonic() >= deadline:
            what = f"run {trigger.taken_run} goes on" if trigger.taken_run else "the daemon has not taken it yet"
            waited = timedelta(seconds=round(timeout))
            raise KbsyncError(f"trigger {number} is not done after {waited}; {what}, see `kbsync status`")
        _check_daemon(store)
        time.sleep(LOOK_S)


def _tell(state: State, number: int, run: Run) -> None:
    from kbsync.store.tables import RunStatus

    words = f"run {run.id} {run.status}" + (f": {run.reason}" if run.reason else "")
    if run.status is RunStatus.REJECTED:
        raise GateRefused(f"{words}; `kbsync status` shows its numbers")
    if run.status is RunStatus.WAITING:
        raise ApprovalNeeded(words)
    if run.status not in (RunStatus.PUBLISHED, RunStatus.UNCHANGED, RunStatus.RECONCILED):
        raise KbsyncError(words)
    if state.as_json:
        show.as_json({"trigger": number, "run": run.id, "status": run.status, "reason": run.reason})
    else:
        show.line(words)
