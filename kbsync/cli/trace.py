"""`kbsync trace`: which layers hold the facts that the base model knows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import show
from kbsync.cli.out import check, write
from kbsync.cli.state import State, json_option, pass_state

if TYPE_CHECKING:
    from kbsync.edit.effects import Level
    from kbsync.sync.tracing import Tracing

_COLUMNS = ("first", "middle", "last", "next", "further", "end")  # the roles, short enough for a terminal


@click.command("trace", short_help="Which layers hold what the base model knows.")
@click.option("--facts", default=32, show_default=True, type=click.IntRange(1), help="Known facts to trace.")
@click.option("--samples", default=5, show_default=True, type=click.IntRange(1), help="Draws of noise per fact.")
@click.option(
    "--window",
    default=None,
    type=click.IntRange(1),
    help="Neighbouring layers whose MLP (or attention) is restored together; a fifth of the depth unless given.",
)
@click.option("--seed", default=20220, show_default=True, type=click.IntRange(0), help="Seed of the noise.")
@click.option(
    "--out", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Also write the JSON to this file."
)
@click.option(
    "--png", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Draw heat maps into this file."
)
@json_option
@pass_state
def command(
    state: State, facts: int, samples: int, window: int | None, seed: int, out: Path | None, png: Path | None
) -> None:
    """Trace facts of the store that the base model says by itself, and propose layers to edit.

    Noise on the subject makes the model forget a fact; one state is put back at a time, and what that brings back
    of the object's probability is the state's effect. Nothing is changed: to edit the proposed layers, write them
    to edit.layers.

    \b
    Example:
      kbsync -c kbsync.toml trace --facts 32 --png trace.png
    """
    from kbsync.sync.tracing import trace_facts

    check(out)
    check(png, "--png")
    with state.store():  # looking must not lay out an empty store
        pass
    with state.bench() as bench:
        found = trace_facts(bench, facts, samples, window, seed)
    document = show.plain(found.as_json())
    if out is not None:
        write(out, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(), "--out")
    if png is not None:
        from kbsync.cli.heatmap import draw

        write(png, draw(found), "--png")
    if state.as_json:
        show.as_json(document)
    else:
        _show(found)


def _show(found: Tracing) -> None:
    from kbsync.edit.trace import KINDS

    few = f"{len(found.traces)} facts that the base model says, of {found.asked} asked"
    show.line(f"{few}; {found.samples} samples of noise each, seed {found.seed}", "bold")
    show.table(
        ["probability of the object", "mean", "± error"],
        [
            _level("clean", found.clean),
            _level("with the subject corrupted", found.corrupted),
            _level("total effect", found.total),
        ],
        numbers=["mean", "± error"],
    )
    for number, kind in enumerate(KINDS):
        _heat_map(found, number, title_of(kind, found.window))
    show.line("rows: layers; columns: first, middle, last token of the subject, next, further, end of the prompt")
    show.table(
        ["", "layers", "MLP effect at the subject's last token", "± error"],
        [
            _layers("proposal", found, found.proposal),
            _layers("auto", found, found.auto),
            *([_layers("edit.layers", found, found.configured)] if found.configured != found.auto else []),
            ["proposal − auto", "", found.lead.mean, _known(found.lead.error)],
        ],
        numbers=["± error"],
    )
    if found.proposal != found.auto and not found.lead.mean > 2 * found.lead.error:
        show.line(
            "these facts don't tell the two apart: the difference is less than twice its standard error", "yellow"
        )


def title_of(kind: str, window: int) -> str:
    """What a panel shows."""
    names = {"hidden": "hidden state", "mlp": "MLP output", "attention": "attention output"}
    return names[kind] + ("" if kind == "hidden" else f", {window} layers at a time")


def _level(name: str, level: Level) -> list[Any]:
    return [name, level.mean, _known(level.error)]


def _layers(name: str, found: Tracing, layers: tuple[int, ...]) -> list[Any]:
    level = found.mlp_effect(layers)
    return [name, ", ".join(map(str, layers)), level.mean, _known(level.error)]


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _heat_map(found: Tracing, kind: int, title: str) -> None:
    """One panel: a row per layer, a column per role; the highest effect of all is marked."""
    from rich.text import Text

    from kbsync.cli.heatmap import colour, peak

    values = found.effects.mean[kind].T.tolist()  # layers × roles
    top = peak(found.effects.mean[kind])
    rows: list[list[object]] = []
    for layer, line in enumerate(values):
        cells = []
        for value in line:
            if math.isnan(value):
                cells.append(Text("–", justify="right"))
                continue
            red, green, blue = colour(value, top)
            ink = "black" if red + 2 * green + blue > 480 else "white"
            mark = "*" if value == top else " "
            cells.append(Text(f"{value:+.4f}{mark}", f"{ink} on rgb({red},{green},{blue})", justify="right"))
        rows.append([layer, *cells])
    show.table(["layer", *_COLUMNS], rows, title=title, numbers=["layer", *_COLUMNS])
