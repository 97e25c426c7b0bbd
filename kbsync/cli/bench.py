"""`kbsync bench`: what kbsync measures of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import bench_source, show
from kbsync.cli.bench_tables import print_capacity, print_covariance, print_editor, print_quality, section
from kbsync.cli.out import check, finish, out_option, write
from kbsync.cli.state import State, json_option, pass_state

if TYPE_CHECKING:
    from kbsync.bench.quality import Drawn, Measured


@click.group("bench", short_help="Measure speed and quality on this machine.")
def command() -> None:
    """Measure speed and quality on this machine. The published model is not touched."""


command.add_command(bench_source.trust)
command.add_command(bench_source.source)


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
    help="Numbers of edits to measure with, with commas between; else 50, 100, 200, 500 and so on.",
)
@click.option(
    "--ask",
    default=None,
    type=click.IntRange(1),
    metavar="N",
    help="Ask about the first N edits alone, the same ones at every size; else about all that are in.",
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
    ask: int | None,
) -> None:
    """Teach the model 50, 100, 200, 500, … counterfactual edits at once, and measure each time.

    z are solved once and used at every size. A law fitted to the curve says for each rule of the gate how many
    edits keep it; the smallest of these numbers is the model's capacity. The large sizes take hours, of which --ask
    saves what asking takes, for wider intervals; --out is written anew after each size.

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
        result = result_of(*curves.bench_capacity(bench, upto, seed, at, ask, keep))
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
