"""`kbsync db`: the store's schema, and copies of the store."""

from __future__ import annotations

from pathlib import Path

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import KbsyncError, SchemaMismatch, StoreError


@click.group("db", short_help="Check, upgrade, back up and restore the store.")
def command() -> None:
    """Check the store's schema, bring an older one up to date, take copies of the store and put them back.

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


@command.command("backup", short_help="Copy it to a file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@json_option
@pass_state
def backup(state: State, file: Path, force: bool) -> None:
    """Copy the SQLite store to FILE, also while a run writes.

    The copy is one moment of the store, checked, and a store itself. With the base model it is all that a synced
    model is built from. For a store on PostgreSQL the command to use is named.

    \b
    Example:
      kbsync db backup kbsync-backup.db
    """
    from kbsync.store.backup import backup as take

    state.stays = f"{file} was not written"
    size = take(state.settings().store.url, file, force=force)
    if state.as_json:
        show.as_json({"file": file, "bytes": size})
    else:
        show.line(f"{file} holds the store as it was just now, {show.size(size)}")


@command.command("restore", short_help="Put a copy in its place.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the store that is there.")
@json_option
@pass_state
def restore(state: State, file: Path, force: bool) -> None:
    """Put the copy FILE in the store's place, in one step, once it is checked.

    Refused when there is a store already, unless with --force, and while a daemon or a run works on it.

    \b
    Example:
      kbsync db restore kbsync-backup.db
    """
    from kbsync.store.backup import restore as put_back
    from kbsync.store.schema import SchemaState

    url = state.settings().store.url
    _nobody_works(url)
    found = put_back(url, file, force=force)
    if state.as_json:
        show.as_json({"file": file, "schema": found})
    else:
        then = "`kbsync db upgrade`" if found is SchemaState.OLDER else "`kbsync doctor`"
        show.line(f"the store is that of {file} now; next: {then}")


def _nobody_works(url: str) -> None:
    """Raises StoreError while a daemon or a run works on the store; one that can't be read has nobody."""
    from kbsync.store import daemons, runs
    from kbsync.store.engine import open_store
    from kbsync.sync.clock import now

    try:
        with open_store(url, create=False) as store, store.read() as tx:
            up, run = daemons.up(tx, now()), runs.running(tx)
            busy = run is not None and now() - run.beat_at <= runs.PATIENCE
    except KbsyncError:
        return
    if up:
        raise StoreError(f"a daemon works on the store (process {up[0].pid} on {up[0].host}); stop it first")
    if run is not None and busy:
        raise StoreError(f"run {run.id} is under way; wait for it to end")
