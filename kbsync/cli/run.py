"""`kbsync run`: the daemon."""

from __future__ import annotations

import click

from kbsync.cli.state import State, pass_state, quieten


@click.command("run", short_help="Run the daemon.")
@pass_state
def command(state: State) -> None:
    """Run the daemon: sync on the schedule, and whenever a trigger asks for it.

    It stays in the foreground, logs to stderr and ends on Ctrl-C or SIGTERM, in the middle of a sync too: what
    was committed stays, and the next run goes on from there. One daemon per store.

    \b
    Example:
      kbsync -c kbsync.toml run
    """
    from kbsync.sync.daemon import run_daemon

    quieten()
    settings = state.settings()
    state.log(level=1)
    state.stays = "what was committed stays, and the next run goes on from there"
    run_daemon(settings, state.progress())
