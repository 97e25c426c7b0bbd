"""`kbsync db`: the store's schema."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import SchemaMismatch


@click.group("db", short_help="Check and upgrade the store's schema.")
def command() -> None:
    """Check the store's schema, and bring an older one up to date.

    \b
    Example:
      kbsync db check
    """


@command.command("upgrade", short_help="Bring it up to date.")
@json_option
@pass_state
def upgrade(state: State) -> None:
    """Bring the store to this program's schema, in one transaction; an empty one is laid out.

    Nothing happens to a store that is up to date. Stop the daemon first.

    \b
    Example:
      kbsync db upgrade
    """
    from kbsync.store import schema

    before = schema.upgrade(state.settings().store.url)
    if state.as_json:
        show.as_json({"before": before, "now": schema.SchemaState.CURRENT})
    elif before is schema.SchemaState.CURRENT:
        show.line("the schema is up to date; nothing to do")
    else:
        show.line(f"the schema was {before}, and is up to date now")


@command.command("check", short_help="Compare it with this program's.")
@json_option
@pass_state
def check(state: State) -> None:
    """Tell how the store's schema compares with this program's; changes nothing.

    Ends with code 4 unless the schema is up to date.

    \b
    Example:
      kbsync db check
    """
    from kbsync.store import schema
    from kbsync.store.connect import parse_url, place

    url = state.settings().store.url
    found = schema.check(url)
    where = place(parse_url(url))
    schema.refuse(found, where)
    if found is schema.SchemaState.EMPTY:
        raise SchemaMismatch(f"{where} has no tables yet; `kbsync db upgrade` or the first sync lays them out")
    if state.as_json:
        show.as_json({"state": found})
    else:
        show.line(f"{where} is up to date")
