"""`kbsync load`: the first load from a dump."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state

if TYPE_CHECKING:
    from kbsync.sync.loading import Loaded


def _moment(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    """A day or a time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):  # an offset can lead out of the calendar
        raise click.BadParameter(f"{text!r} is neither a day (2026-11-04) nor a time (2026-11-04T23:00)") from None


@click.command("load", short_help="Load the watched relations from a dump, once.")
@click.argument("dump", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["nt", "turtle"]),
    help="What the dump is, where its name (.nt, .ttl, with or without .gz or .bz2) does not tell.",
)
@click.option(
    "--as-of",
    callback=_moment,
    metavar="TIME",
    help="When the dump was made, where it does not tell itself; what was edited since is pulled.",
)
@json_option
@pass_state
def command(state: State, dump: Path, form: Literal["nt", "turtle"] | None, as_of: datetime | None) -> None:
    """Load the watched relations from a dump of Wikidata, in place of their first pull from the endpoint.

    DUMP is a file such as latest-truthy.nt.bz2. Relations whose first pull is complete are left alone. The next
    sync goes on from the dump's own time. Stopped anywhere, the same command goes on where it was.

    \b
    Example:
      kbsync -c kbsync.toml load latest-truthy.nt.bz2
    """
    from kbsync.sync.loading import load

    state.stays = "what was read stays, and the same command goes on from there"
    with state.bench() as bench:
        done = load(bench, dump, form, as_of)
    if state.as_json:
        show.as_json(_as_data(done))
    else:
        _tell(done)


def _as_data(done: Loaded) -> dict[str, Any]:
    return {
        "run": done.run_id,
        "time": done.time,
        "triples": done.triples,
        "read_s": done.read_s,
        "seconds": done.seconds,
        "relations": done.counts,
        "complete": done.complete,
        "left": done.left,
    }


def _tell(done: Loaded) -> None:
    if done.complete:
        show.line(f"left alone, since the first pull was complete already: {', '.join(done.complete)}")
    if done.left:
        show.line(
            f"left to the endpoint, since a pattern can't be evaluated over a dump: {', '.join(done.left)}; "
            "`kbsync sync` pulls them"
        )
    if done.run_id is None:
        show.line("nothing to load; `kbsync sync` brings what was edited since")
        return
    names = sorted({name for own in done.counts.values() for name in own} - {"subjects"})
    rows = [
        [relation, own.get("subjects", 0), *(own.get(name, 0) for name in names)]
        for relation, own in done.counts.items()
    ]
    show.table(["relation", "subjects", *names], rows, title="Loaded", numbers=["subjects", *names])
    rate = done.triples / done.read_s if done.read_s else 0.0
    show.line(f"{done.triples:,} triples, {rate:,.0f} a second while reading, {show.duration(done.seconds)} in all")
    show.line(f"the next sync begins at {done.time:%Y-%m-%d %H:%M} UTC")
