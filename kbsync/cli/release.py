"""`kbsync release`: let in what is kept out of the model."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state


@click.command("release", short_help="Let in what is kept out of the model.")
@click.argument("ids", nargs=-1, required=True)
@json_option
@pass_state
def command(state: State, ids: tuple[str, ...]) -> None:
    """Let in facts that are kept out of the model.

    IDS are ids of `kbsync held`, such as q12 or a3; a number alone is a run, and means all that the gate has kept
    out of it; rollback means all that rollbacks have set aside. The next sync tries them again: what still makes
    the gate refuse is quarantined again.

    \b
    Examples:
      kbsync release q12 q13
      kbsync release 42
      kbsync release rollback
    """
    from kbsync.cli.trigger import whoami
    from kbsync.sync.clock import now
    from kbsync.sync.deciding import release

    with state.store() as store, store.begin() as tx:
        done = release(tx, ids, whoami(), now())
    if state.as_json:
        show.as_json({"released": done})
        return
    for entry in done:
        show.line(f"released {entry['id']}; the next sync tries it again")
