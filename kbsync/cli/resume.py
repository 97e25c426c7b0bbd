"""`kbsync resume`: end a pause."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.pause import words
from kbsync.cli.state import State, json_option, pass_state
from kbsync.cli.trigger import whoami


@click.command("resume", short_help="End a pause.")
@json_option
@pass_state
def command(state: State) -> None:
    """End a pause: what should have started in it is made up for by one run, at once.

    Does nothing where nothing is paused.

    \b
    Example:
      kbsync resume
    """
    from kbsync.store import pauses
    from kbsync.sync.clock import now

    with state.store() as store, store.begin() as tx:
        ended = pauses.resume(tx, whoami(), now())
    if state.as_json:
        show.as_json({"ended": ended})
    else:
        show.line(f"resumed; it was paused {words(ended)}" if ended else "nothing was paused")
