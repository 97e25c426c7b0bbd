"""`kbsync checkpoint`: the synced models on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from kbsync.store.checkpoints import Checkpoint


@click.group("checkpoint", short_help="List, verify, roll back, export.")
def command() -> None:
    """List, verify, roll back and export synced models.

    \b
    Example:
      kbsync checkpoint list
    """


@command.command("list", short_help="List them, newest first.")
@json_option
@pass_state
def list_(state: State) -> None:
    """List the checkpoints, newest first.

    Status: `candidate` (not judged yet), `rejected` by the gate, `published` (live now), `retired` (was live).
    Of those that were pruned only the row is left.

    \b
    Example:
      kbsync checkpoint list
    """
    from kbsync.store import checkpoints

    with state.store() as store, store.read() as tx:
        found = checkpoints.checkpoints(tx)
    if state.as_json:
        show.as_json(found)
        return
    if not found:
        show.line("no checkpoints yet; the base model is live")
        return
    show.table(
        ["name", "status", "facts", "run", "made (UTC)", "size", "folder"],
        [[c.name, c.status, c.facts, c.run_id, c.created_at, show.size(c.bytes), _where(c)] for c in found],
        numbers=["facts", "run", "size"],
    )


def _where(checkpoint: Checkpoint) -> str:
    """Where its files are, or since when they are not."""
    gone = checkpoint.pruned_at
    return checkpoint.path if gone is None else f"pruned {show.words(gone)}"


@command.command("verify", short_help="Check files and hashes.")
@click.argument("name", required=False)
@click.option("--rebuild", is_flag=True, help="Build it again from store and base model, and compare bit for bit.")
@json_option
@pass_state
def verify(state: State, name: str | None, rebuild: bool) -> None:
    """Check that a checkpoint is what its manifest says: every file, every hash.

    NAME is the live one unless given. Ends with code 8 when it is not.

    \b
    Example:
      kbsync checkpoint verify --rebuild
    """
    from kbsync.sync.inspect import find_checkpoint, verify_checkpoint

    with state.store():  # verifying must not lay out an empty store
        pass
    with state.bench() as bench:
        checked = find_checkpoint(bench, name).name
        problems = verify_checkpoint(bench, checked, rebuild=rebuild)
    if problems:
        raise CheckpointError("; ".join(problems))
    if state.as_json:
        show.as_json({"checkpoint": checked, "rebuilt": rebuild, "problems": []})
    else:
        rest = ", and rebuilding it gives the same weights bit for bit" if rebuild else ""
        show.line(f"{checked} is what its manifest says{rest}")


@command.command("rollback", short_help="Make an earlier model live again.")
@click.option("--to", metavar="NAME", help="A checkpoint that was published before.")
@click.option("--base", is_flag=True, help="Go back to the base model.")
@click.option(
    "--keep-syncing", is_flag=True, help="Set nothing aside: the next sync brings back what the facts want."
)
@json_option
@pass_state
def rollback(state: State, to: str | None, base: bool, keep_syncing: bool) -> None:
    """Make an earlier model live again, in one atomic step.

    Without options it is the model that was live before. In what it differs from the model that was live is set
    aside: the next syncs leave these facts as they are now, until Wikidata says something else of them or `kbsync
    release` brings them back. Going forward again by --to ends that.

    \b
    Examples:
      kbsync checkpoint rollback
      kbsync checkpoint rollback --to sync-000012
    """
    if to is not None and base:
        raise ConfigError("give --to or --base, not both")
    from kbsync.cli.trigger import whoami
    from kbsync.sync.rollback import roll_back

    with state.store():
        pass
    with state.bench() as bench:
        done = roll_back(bench, to, base, keep_syncing, whoami())
    publication = done.publication
    live = publication.checkpoint.name if publication.checkpoint else None
    if state.as_json:
        ids = [f"a{one.id}" for one in done.set_aside]
        show.as_json({"live": live, "at": publication.at, "set_aside": ids, "brought_back": done.ended})
        return
    show.line(f"{live or 'the base model'} is live now")
    if done.ended:
        show.line(f"{done.ended} facts that were set aside are in it again")
    if done.set_aside:
        show.line(
            f"{len(done.set_aside)} facts are set aside: the next syncs leave them as they are now; `kbsync held` "
            "lists them, `kbsync release rollback` ends it"
        )


@command.command("export", short_help="Write the whole model for transformers.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Which checkpoint; the live one unless given.")
@json_option
@pass_state
def export(state: State, out: Path, name: str | None) -> None:
    """Write the whole synced model to the folder OUT, as plain transformers loads it.

    A checkpoint holds only the edited matrices; an export holds everything.

    \b
    Example:
      kbsync checkpoint export exported/
    """
    from kbsync.sync.inspect import export_checkpoint

    state.stays = f"{out} was not written"
    with state.store():
        pass
    with state.bench() as bench:
        written = export_checkpoint(bench, name, out)
    if state.as_json:
        show.as_json({"folder": written})
    else:
        show.line(f"exported to {written}")
