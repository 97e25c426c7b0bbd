"""`kbsync reject`: keep a held change out for good."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state


@click.command("reject", short_help="Keep a held change out for good.")
@click.argument("ids", nargs=-1, required=True)
@click.option("--why", default=None, metavar="TEXT", help="Kept with the decision.")
@json_option
@pass_state
def command(state: State, ids: tuple[str, ...], why: str | None) -> None:
    """Keep held changes out for good.

    IDS are ids of `kbsync held`, such as h12. A fact that is rejected stays out until Wikidata has another value,
    also when it goes and comes back; `kbsync approve` takes the decision back. Of a fact that went, or changed, the
    state before is kept until it changes again.

    \b
    Example:
      kbsync reject h12 --why "a hoax"
    """
    from kbsync.cli.trigger import whoami
    from kbsync.sync.clock import now
    from kbsync.sync.deciding import reject

    with state.store() as store, store.begin() as tx:
        done = reject(tx, ids, whoami(), why, now())
    if state.as_json:
        show.as_json({"rejected": done})
        return
    for entry in done:
        show.line(f"rejected {entry['id']}; the next sync goes by it")
