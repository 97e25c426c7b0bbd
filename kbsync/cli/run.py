"""`kbsync run`: the daemon."""

from __future__ import annotations

import click

from kbsync.cli.state import State, pass_state, quieten


@click.command("run", short_help="Run the daemon.")
@click.option("--standby", is_flag=True, help="Wait while another daemon leads; take over when it is gone.")
@pass_state
def command(state: State, standby: bool) -> None:
    """Run the daemon: sync on the schedule, and whenever a trigger asks for it.

    It stays in the foreground, logs to stderr and ends on Ctrl-C or SIGTERM, in the middle of a sync too: what
    was committed stays, and the next run goes on from there. One daemon leads a store: another one ends with code
    11, or waits with --standby and takes over within a minute when the leader is gone. Beside its work it answers
    HTTP on this machine (metrics, health, status: section [serve]).

    \b
    Example:
      kbsync -c kbsync.toml run
    """
    from kbsync.serve.server import beside
    from kbsync.sync.daemon import run_daemon

    quieten()
    settings = state.settings()
    state.log(level=1)
    state.stays = "what was committed stays, and the next run goes on from there"
    run_daemon(settings, state.progress(), standby, beside)
