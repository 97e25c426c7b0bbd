"""`kbsync approve`: let a held change, or a run that asks, go on."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state


@click.command("approve", short_help="Let held changes, or a run that asks, go on.")
@click.argument("ids", nargs=-1, required=True)
@click.option("--why", default=None, metavar="TEXT", help="Kept with the decision.")
@json_option
@pass_state
def command(state: State, ids: tuple[str, ...], why: str | None) -> None:
    """Let held changes, or a run that asks, go on.

    IDS are ids of `kbsync held`, such as h12: such a change passes with the next sync, without further checks, for
    as long as it stays as it is. A number alone is a run that ended with status waiting: the changes that it asked
    about are no longer counted, until a model goes live.

    \b
    Examples:
      kbsync approve h12 h13 --why "seen in the official gazette"
      kbsync approve 42
    """
    from kbsync.cli.trigger import whoami
    from kbsync.sync.clock import now
    from kbsync.sync.deciding import approve

    with state.store() as store, store.begin() as tx:
        done = approve(tx, ids, whoami(), why, now())
    if state.as_json:
        show.as_json({"approved": done})
        return
    for entry in done:
        what = f"{entry['changes']} changes of run {entry['run']}" if "run" in entry else f"{entry['id']}"
        show.line(f"approved {what}; the next sync goes by it")
