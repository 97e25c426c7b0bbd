"""`kbsync sync`: one sync, here and now."""

from __future__ import annotations

import click

from kbsync.cli import report, show
from kbsync.cli.failures import error_object
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import GateRefused


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
    code 7 when the gate refuses the candidate; the published model is untouched then.

    \b
    Example:
      kbsync -c kbsync.toml sync
    """
    from kbsync.store.tables import RunStatus
    from kbsync.sync.run import sync_once

    state.stays = "what was committed stays, and the next sync goes on from there"
    with state.bench() as bench:
        done = sync_once(bench, trigger="manual", force=force)
    refused = done.status is RunStatus.REJECTED
    message = f"the gate refused run {done.run_id}: {done.reason}; the published model is untouched"
    if state.as_json:
        error = error_object("GateRefused", message, GateRefused.exit_code)
        show.as_json({**report.as_data(done), **({"error": error} if refused else {})})
    else:
        report.print_report(done)
    if refused:
        click.echo(f"kbsync: {message}", err=True)
        click.get_current_context().exit(GateRefused.exit_code)
