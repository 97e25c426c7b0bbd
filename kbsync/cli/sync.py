"""`kbsync sync`: one sync, here and now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kbsync.cli import report, show
from kbsync.cli.failures import error_object
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import ApprovalNeeded, GateRefused, KbsyncError

if TYPE_CHECKING:
    from kbsync.sync.run import Report


@click.command("sync", short_help="Sync once, here and now.")
@click.option(
    "--force",
    is_flag=True,
    help="Rebuild and evaluate also when the live model holds the wanted facts, or the gate refused them before.",
)
@json_option
@pass_state
def command(state: State, force: bool) -> None:
    """Sync once: pull, plan, solve, rebuild, evaluate, gate, publish.

    Wikidata's changes go into the store, become edit requests, and a model that holds them all is built from the
    base model, measured, and published if it passes the gate. Without changes this takes seconds. Ends with
    code 7 when the gate refuses the candidate, and with code 10 when so much of the live set would change that
    somebody must approve it first; the published model is untouched then.

    \b
    Example:
      kbsync -c kbsync.toml sync
    """
    from kbsync.sync.run import sync_once

    state.stays = "what was committed stays, and the next sync goes on from there"
    with state.bench() as bench:
        done = sync_once(bench, trigger="manual", force=force)
    error = _error(done)
    if state.as_json:
        told = (
            error_object(type(error).__name__, state.secrets.mask(str(error)), error.exit_code) if error else None
        )
        show.as_json({**report.as_data(done), **({"error": told} if told else {})})
    else:
        report.print_report(done)
    if error is not None:
        show.error_line(state.secrets.mask(str(error)))
        click.get_current_context().exit(error.exit_code)


def _error(done: Report) -> KbsyncError | None:
    """What the command ends with when the run did not end well."""
    from kbsync.store.tables import RunStatus

    if done.status is RunStatus.REJECTED:
        return GateRefused(f"the gate refused run {done.run_id}: {done.reason}; the published model is untouched")
    if done.status is RunStatus.WAITING:
        return ApprovalNeeded(f"run {done.run_id} waits: {done.reason}; the published model is untouched")
    return None
