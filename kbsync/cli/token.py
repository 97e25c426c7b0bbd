"""`kbsync token`: who may ask over HTTP."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state


@click.group("token", short_help="Tokens for HTTP: make, list, revoke.")
def command() -> None:
    """Make, list and revoke the tokens that HTTP asks for.

    \b
    Example:
      kbsync token add grafana --read-only
    """


@command.command("add", short_help="Make one, and show it once.")
@click.argument("name")
@click.option("--read-only", is_flag=True, help="It can't ask for runs, nor decide what is held.")
@json_option
@pass_state
def add(state: State, name: str, read_only: bool) -> None:
    """Make a token called NAME, and print it. It is shown this once: the store keeps only its hash.

    Programs send it as a header, `Authorization: Bearer …`. Give each its own, so that one can be revoked.

    \b
    Example:
      kbsync token add deploy
      kbsync token add prometheus --read-only
    """
    from kbsync.cli.trigger import whoami
    from kbsync.store import tokens
    from kbsync.sync.clock import now

    with state.store() as store, store.begin() as tx:
        text = tokens.add(tx, name, not read_only, whoami(), now())
    if state.as_json:
        show.as_json({"name": name, "may_write": not read_only, "token": text})
        return
    click.echo(text)
    click.echo(f"kbsync: token {name} was made; it can't be shown again", err=True)


@command.command("list", short_help="Which there are.")
@json_option
@pass_state
def list_all(state: State) -> None:
    """List all tokens by name, those that were revoked too. What they are is not known to anybody.

    \b
    Example:
      kbsync token list
    """
    from kbsync.store import tokens

    with state.store() as store, store.read() as tx:
        found = tokens.tokens(tx)
    if state.as_json:
        show.as_json({"tokens": found})
        return
    show.table(
        ["name", "may", "made (UTC)", "by", "revoked (UTC)"],
        [
            [one.name, "read and write" if one.may_write else "read", one.made_at, one.made_by, one.revoked_at]
            for one in found
        ],
    )


@command.command("revoke", short_help="Make one void.")
@click.argument("name")
@json_option
@pass_state
def revoke(state: State, name: str) -> None:
    """Make the token called NAME void, from the next request on.

    \b
    Example:
      kbsync token revoke grafana
    """
    from kbsync.store import tokens
    from kbsync.sync.clock import now

    with state.store() as store, store.begin() as tx:
        gone = tokens.revoke(tx, name, now())
    if state.as_json:
        show.as_json(gone)
    else:
        show.line(f"token {name} is void")
