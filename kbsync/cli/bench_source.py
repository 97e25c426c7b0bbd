"""The part of `kbsync bench` that is about Wikidata's side, and loads no model: the trust filter, and pulling."""

from __future__ import annotations

from pathlib import Path

import click

from kbsync.cli import show
from kbsync.cli.bench_tables import print_source
from kbsync.cli.out import check, finish, out_option
from kbsync.cli.state import State, json_option, pass_state
from kbsync.cli.trust_tables import print_trust, trust_data


@click.command("trust", short_help="What the trust filter lets through of a made-up month.")
@click.option("--seed", default=20220, show_default=True, type=click.IntRange(0), help="Which month.")
@click.option(
    "--every",
    default=24.0,
    show_default=True,
    type=click.FloatRange(0.25, 168),
    help="Hours from one sync to the next.",
)
@click.option(
    "--honest",
    default=4800,
    show_default=True,
    type=click.IntRange(10),
    help="Honest changes, without elections.",
)
@click.option(
    "--never-referenced",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 0.9),
    help="Share of new values that never get a reference.",
)
@click.option("--ablate", is_flag=True, help="Also with one check off at a time.")
@out_option
@json_option
@pass_state
def trust(
    state: State, seed: int, every: float, honest: int, never_referenced: float, ablate: bool, out: Path | None
) -> None:
    """Replay a made-up month of changes through the trust filter.

    Honest changes and vandalism of eight kinds, made from the seed, on a clock of its own. Shows how much of each
    kind would have reached the model with the default settings, and how many honest changes got through. No
    network, no model, no store; docs/trust.md says what is assumed.

    \b
    Example:
      kbsync bench trust --every 1 --ablate --out trust.json
    """
    from kbsync.bench.month import make_month
    from kbsync.bench.trust import ABLATIONS, replay, settings_without

    check(out)
    month = make_month(seed, honest, never_referenced)
    names = list(ABLATIONS) if ablate else ["all checks"]
    found = {name: replay(month, settings_without(name), every) for name in names}
    result = {
        "seed": seed,
        "every_h": every,
        "changes": len(month.made),
        "never_referenced": never_referenced,
        "runs": {name: trust_data(one) for name, one in found.items()},
    }
    finish(out, result)
    if state.as_json:
        show.as_json(result)
    else:
        print_trust(len(month.made), found)


@click.command("source", short_help="What pulling costs, beside what answering costs the endpoint.")
@click.option(
    "--facts",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Build the graph from this table (.tsv.gz) of facts instead of making one up.",
)
@click.option("--items", default=100_000, show_default=True, type=click.IntRange(1), help="Subjects to make up.")
@click.option("--changes", default=1000, show_default=True, type=click.IntRange(1), help="Edits before the tail.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which facts are made up.")
@click.option(
    "--page-size", default=1000, show_default=True, type=click.IntRange(1, 50_000), help="source.page_size to use."
)
@click.option(
    "--in-memory",
    is_flag=True,
    help="The endpoint keeps the graph in memory, where it answers several times as fast as from its database.",
)
@out_option
@json_option
@pass_state
def source(
    state: State,
    facts: Path | None,
    items: int,
    changes: int,
    seed: int,
    page_size: int,
    in_memory: bool,
    out: Path | None,
) -> None:
    """Serve a graph of full size on this machine, pull it, change it, pull the changes, and read it all again.

    Each part's queries are sent once more with their answers only read: that is the endpoint's time, the rest is
    ours. The configured store and endpoint are not touched; no model is loaded.

    \b
    Example:
      kbsync bench source --items 20000 --out source.json
    """
    from kbsync.bench.source import bench_source

    state.stays = "everything was temporary"
    check(out)
    state.log()
    result = bench_source(facts, items, changes, seed, page_size, state.progress(), in_memory=in_memory)
    finish(out, result)
    if state.as_json:
        show.as_json(result)
    else:
        print_source(result)
