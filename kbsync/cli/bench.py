"""`kbsync bench`: what kbsync measures of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import show
from kbsync.cli.bench_tables import (
    print_capacity,
    print_covariance,
    print_editor,
    print_quality,
    print_source,
    section,
)
from kbsync.cli.state import State, json_option, pass_state
from kbsync.cli.trust_tables import print_trust, trust_data
from kbsync.errors import ConfigError

if TYPE_CHECKING:
    from kbsync.bench.quality import Drawn, Measured

out_option = click.option(
    "--out", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Also write the JSON to this file."
)


def check(out: Path | None, option: str = "--out") -> None:
    """Raise ConfigError before minutes of measuring when there is nowhere to write the result."""
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError(f"{option}: there is no folder {out.absolute().parent}")


def finish(out: Path | None, result: Mapping[str, Any]) -> None:
    """Write the JSON to the file, if there is to be one. Raises ConfigError where it can't be written."""
    if out is not None:
        write(out, (json.dumps(show.plain(result), indent=2, allow_nan=False) + "\n").encode(), "--out")


def write(path: Path | None, content: bytes, option: str) -> None:
    """Write a file, if there is to be one. Raises ConfigError where it can't be written."""
    if path is None:
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{option}: {path} can't be written: {error.strerror}") from None


@click.group("bench", short_help="Measure speed and quality on this machine.")
def command() -> None:
    """Measure speed and quality on this machine. The published model is not touched."""


@command.command("editor", short_help="Seconds per solved z and per rebuilt fact, and what they buy.")
@click.option("--edits", default=64, show_default=True, type=click.IntRange(1), help="Real changes to edit.")
@out_option
@click.option(
    "--serial",
    default=0,
    type=click.IntRange(0),
    metavar="N",
    help="Also edit N of these changes one by one, as the published method does (slow).",
)
@json_option
@pass_state
def editor(state: State, edits: int, out: Path | None, serial: int) -> None:
    """Solve and rebuild the real changes that ship with the demo, and evaluate the result.

    With --serial some of the same changes, spread evenly, are edited once more by MEMIT as it was published:
    for the ratio of the seconds per edit, and for what both methods make of just these changes.

    \b
    Example:
      kbsync bench editor --edits 32 --serial 8
    """
    from kbsync.bench.editor import bench_editor

    state.stays = "no edit was stored"
    check(out)
    with state.bench() as bench:
        result = bench_editor(bench, edits, serial).as_json()
    finish(out, result)
    if state.as_json:
        show.as_json(result)
        return
    print_editor(result)


@command.command("quality", short_help="What many edits at once do to the model, with intervals.")
@click.option("--edits", default=200, show_default=True, type=click.IntRange(1), help="Edits to draw.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which edits are drawn.")
@click.option("--real", is_flag=True, help="Take the demo's real changes instead, always the same ones.")
@click.option(
    "--generate",
    default=40,
    show_default=True,
    type=click.IntRange(0),
    help="Edits whose subjects the models write about.",
)
@out_option
@json_option
@pass_state
def quality(state: State, edits: int, seed: int, real: bool, generate: int, out: Path | None) -> None:
    """Teach the model counterfactual edits, all at once, and measure what holds and what it costs.

    What the base model says already is dropped. Each figure comes with its 95 % interval.

    \b
    Example:
      kbsync bench quality --edits 100 --seed 1 --out quality.json
    """
    from kbsync.bench.quality import bench_quality

    state.stays = "no edit was stored"
    check(out)
    with state.bench() as bench:
        drawn, measured = bench_quality(bench, edits, seed, real, generate)
    result = {**measured.as_json(), **drawn.as_json()}
    finish(out, result)
    if state.as_json:
        show.as_json(result)
    else:
        print_quality(result)


def _counts(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> list[int]:
    """`2500,5000` as numbers; without a text, none."""
    if text is None:
        return []
    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdigit() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{text!r} is no list of whole numbers such as 5000,10000")
    return [int(word) for word in words]


@command.command("capacity", short_help="How many edits the model holds, as a curve.")
@click.option("--upto", default=500, show_default=True, type=click.IntRange(1), help="Most edits to draw.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which edits are drawn.")
@out_option
@click.option(
    "--toml",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write watch.max_live to this TOML file.",
)
@click.option(
    "--png", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Draw the curve to this PNG file."
)
@click.option(
    "--at",
    default=None,
    metavar="N,N,…",
    callback=_counts,
    help="How many edits to measure with, with commas between, instead of 50, 100, 200, 500, …",
)
@json_option
@pass_state
def capacity(
    state: State,
    upto: int,
    seed: int,
    out: Path | None,
    toml: Path | None,
    png: Path | None,
    at: list[int],
) -> None:
    """Teach the model 50, 100, 200, 500, … counterfactual edits at once, and measure each time.

    z are solved once and used at every size. A law fitted to the curve says for each rule of the gate how many
    edits keep it; the smallest of these numbers is the model's capacity. The large sizes take hours: --out is
    written anew after each of them.

    \b
    Example:
      kbsync bench capacity --upto 200 --out capacity.json --png capacity.png
    """
    from kbsync.bench import capacity as curves
    from kbsync.cli import curve as picture

    state.stays = "no edit was stored"
    for name, path in (("--out", out), ("--toml", toml), ("--png", png)):
        check(path, name)
    with state.bench() as bench:

        def result_of(drawn: Drawn, curve: Sequence[Measured]) -> dict[str, Any]:
            fitted = curves.capacity(curve, bench.settings.gate).as_json()
            return {"curve": [one.as_json() for one in curve], "capacity": fitted, **drawn.as_json()}

        keep = (lambda *sofar: finish(out, result_of(*sofar))) if out is not None else None
        result = result_of(*curves.bench_capacity(bench, upto, seed, at, keep))
    write(toml, section(result).encode(), "--toml")
    write(png, picture.draw(result) if png is not None else b"", "--png")
    if state.as_json:
        show.as_json(result)
    else:
        print_capacity(result)


_SHARES = {"facts": "facts_share", "samples": "samples_share", "dataset": "dataset_share"}


def _mixes(_ctx: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> list[dict[str, float]]:
    """`facts=0.05,samples=0.1` as shares by their settings' names."""
    found = []
    for text in texts:
        pairs = [pair.partition("=") for pair in text.split(",")] if text != "text" else []
        try:
            found.append({_SHARES[name.strip()]: float(share) for name, _, share in pairs})
        except (KeyError, ValueError):
            raise click.BadParameter(f"{text!r} is no mix such as text or facts=0.05,samples=0.1") from None
    return found


@command.command("covariance", short_help="How many tokens C needs, and of what.")
@click.option("--edits", default=50, show_default=True, type=click.IntRange(1), help="Edits to draw.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which edits are drawn.")
@click.option(
    "--tokens",
    default="2500,5000,10000,20000,40000",
    show_default=True,
    callback=_counts,
    help="Tokens of text to try, with commas between.",
)
@click.option(
    "--mix",
    multiple=True,
    callback=_mixes,
    help="Shares to try, such as facts=0.05,samples=0.1 or text. Repeatable.",
)
@out_option
@json_option
@pass_state
def covariance(
    state: State, edits: int, seed: int, tokens: list[int], mix: list[dict[str, float]], out: Path | None
) -> None:
    """Put the same counterfactual edits in with C of more and more tokens, and measure each time.

    z are solved once. For each count whose half is among them it says which metrics the half moved out of their
    95 % interval: where that is none, more text is of no use.

    \b
    Example:
      kbsync bench covariance --edits 50 --tokens 5000,10000,20000 --out covariance.json
    """
    from kbsync.bench.covariance import bench_covariance

    state.stays = "no edit was stored; covariances that were computed stay"
    check(out)
    with state.bench() as bench:
        drawn, points = bench_covariance(bench, edits, seed, tokens, mix)
    result = {"points": [point.as_json() for point in points], **drawn.as_json()}
    finish(out, result)
    if state.as_json:
        show.as_json(result)
    else:
        print_covariance(result)


@command.command("trust", short_help="What the trust filter lets through of a made-up month.")
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


@command.command("source", short_help="What pulling costs, beside what answering costs the endpoint.")
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
@out_option
@json_option
@pass_state
def source(
    state: State, facts: Path | None, items: int, changes: int, seed: int, page_size: int, out: Path | None
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
    result = bench_source(facts, items, changes, seed, page_size, state.progress())
    finish(out, result)
    if state.as_json:
        show.as_json(result)
    else:
        print_source(result)
