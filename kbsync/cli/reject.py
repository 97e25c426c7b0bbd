"""`kbsync reject`: keep a held change out for good."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.approve import held_id
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import ConfigError


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
    from kbsync.store import trust
    from kbsync.sync.clock import now

    done: list[dict[str, object]] = []
    with state.store() as store, store.begin() as tx:
        for one in dict.fromkeys(ids):
            number = held_id(one)
            if number is None:
                raise ConfigError(f"{one!r} is not an id such as h12; `kbsync held` lists them")
            told = trust.decide(tx, number, False, whoami(), why, now())
            done.append({"id": one, "fact": told.fact, "way": told.way})
    if state.as_json:
        show.as_json({"rejected": done})
        return
    for entry in done:
        show.line(f"rejected {entry['id']}; the next sync goes by it")
