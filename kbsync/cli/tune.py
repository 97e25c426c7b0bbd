"""`kbsync tune`: find the editor's settings for a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kbsync.cli import show
from kbsync.cli.bench_tables import dropped
from kbsync.cli.out import check, write
from kbsync.cli.scatter import scatter
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import ConfigError

_COLUMNS = {
    "clamp": "clamp",
    "covariance_weight": "λ",
    "efficacy_success": "efficacy success",
    "efficacy_accuracy": "accuracy",
    "paraphrase_success": "paraphrase success",
    "neighborhood_drop": "neighborhood drop",
    "perplexity_ratio": "perplexity ratio",
}
_POSITIVE = click.FloatRange(0, min_open=True)


@click.command("tune", short_help="Find the editor's settings for a model.")
@click.option("--edits", default=48, show_default=True, type=click.IntRange(1), help="Edits to try them on.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which edits are drawn.")
@click.option(
    "--clamp",
    "clamps",
    multiple=True,
    type=_POSITIVE,
    help="An edit.clamp to try, instead of 0.75, 1, 1.4 and the config's. Repeatable.",
)
@click.option(
    "--layers",
    multiple=True,
    metavar="LAYERS",
    help="An edit.layers to try, such as 4-8, instead of the config's only. Repeatable.",
)
@click.option(
    "--out",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the settings to this TOML file instead of printing them.",
)
@click.option("--force", is_flag=True, help="Replace the file that --out names.")
@json_option
@pass_state
def command(
    state: State,
    edits: int,
    seed: int,
    clamps: tuple[float, ...],
    layers: tuple[str, ...],
    out: Path | None,
    force: bool,
) -> None:
    """Try settings of the editor on counterfactual edits, and choose.

    Neighbors and perplexity may suffer half as much as the gate allows, since a live set will be larger than the
    trial. Of what keeps within that, the settings that teach most win. `kbsync bench quality` measures them on
    other edits than those on which they were chosen.

    \b
    Example:
      kbsync -c kbsync.toml tune --layers 4-8 --layers 6-10 --out tuned.toml
    """
    from kbsync.bench.tune import Space, parse_layers, tune

    state.stays = "no settings were written; covariances that were computed stay"
    _check(out, force)
    space = Space(clamps, tuple(parse_layers(one) for one in layers))
    with state.bench() as bench:
        result = tune(bench, edits, seed, space).as_json()
    result["toml"] = section(result)
    write(out, result["toml"].encode(), "--out")
    if state.as_json:
        show.as_json(result)
    else:
        print_tuned(result, out)
    if not result["allowed"]:
        click.echo(f"warning: {_NONE_ALLOWED}", err=True)


_NONE_ALLOWED = "none of the settings kept within the limits; the ones chosen break them least"


def _check(out: Path | None, force: bool) -> None:
    """Raise ConfigError before minutes of work when the file must not, or can't, be written."""
    if out is not None and out.exists() and not force:
        raise ConfigError(f"--out: {out} is there already; name another file, or replace it with --force")
    check(out)


def section(result: Mapping[str, Any]) -> str:
    """The chosen settings as a table of TOML, with where they come from as comments."""
    chosen = result["points"][result["chosen"]]
    machine = result["machine"]
    notes = [
        f"Chosen by `kbsync tune` on {machine['date']} for {machine['model']} ({machine['device']}),",
        f"on {result['edits']} counterfactual edits (the last of seed {result['seed']}), without repair:",
        *(f"  {_COLUMNS[k] if k != 'efficacy_accuracy' else 'efficacy accuracy'} {_figure(chosen[k])}" for k in (
            "efficacy_success", "efficacy_accuracy", "paraphrase_success", "neighborhood_drop", "perplexity_ratio"
        )),
        "Put these keys into [edit] of your config, then measure them on other edits: `kbsync bench quality`.",
    ]  # fmt: skip
    if not result["allowed"]:
        notes.insert(2, f"Beware: {_NONE_ALLOWED} ({chosen['breaks']}).")
    lines = [f"# {show.printable(note)}" for note in notes]
    lines += ["[edit]", *(f"{key} = {json.dumps(value)}" for key, value in result["edit"].items())]
    return "\n".join(lines) + "\n"


def print_tuned(result: Mapping[str, Any], out: Path | None) -> None:
    """The points, the trade-off, and what was chosen."""
    points = result["points"]
    drawn = f"{result['edits']} of the last {result['drawn']} counterfactual edits, seed {result['seed']}"
    show.line(f"{drawn} ({dropped(result)})", "bold")
    rows = []
    for number, point in enumerate(points):
        marks = [*(["chosen"] if number == result["chosen"] else []), *(["as now"] if point["now"] else [])]
        fits = "yes" if point["breaks"] is None else f"no: {point['breaks']}"
        rows.append([_layers(point["layers"]), *(_cell(point, key) for key in _COLUMNS), fits, ", ".join(marks)])
    names = list(_COLUMNS.values())
    show.table(["layers", *names, "allowed", ""], rows, title="Settings that were tried", numbers=names)
    show.line(_limits(result["limits"]))
    show.line()
    show.line(_drawn(points, result["chosen"]))
    show.line()
    if out is None:
        show.line(result["toml"])
    else:
        show.line(f"written to {out}: put its keys into [edit] of your config")
    tries = " ".join(f"KBSYNC_EDIT__{key.upper()}='{json.dumps(value)}'" for key, value in result["edit"].items())
    show.line("These settings were chosen on these edits, so their figures flatter. To measure them on others:")
    show.line(f"  {tries} kbsync bench quality --seed {result['seed']}")


def _cell(point: Mapping[str, Any], key: str) -> str:
    """A number in the form of its column; nothing where there is none."""
    value = point[key]
    if key in ("clamp", "covariance_weight"):
        return f"{value:g}"
    return "" if value is None or point["perplexity_ratio"] == float("inf") else _figure(value)


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _layers(layers: list[int]) -> str:
    """`4-8`, or `4,6,8` where some are left out."""
    whole = layers == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}-{layers[-1]}" if whole and len(layers) > 1 else ",".join(map(str, layers))


def _limits(limits: Mapping[str, float | None]) -> str:
    names = {"neighborhood_drop": "neighborhood drop", "perplexity_ratio": "perplexity ratio"}
    asked = [f"{names[key]} at most {limit:.4g}" for key, limit in limits.items() if limit is not None]
    if not asked:
        return "allowed: everything, since the gate checks neither neighborhood nor perplexity"
    return f"allowed: {', '.join(asked)}; half of what the gate leaves, since a live set will be larger"


def _drawn(points: list[Mapping[str, Any]], chosen: int) -> str:
    """Perplexity against what was learned: `#` was chosen, `o` allowed, `x` not."""
    marks = [
        (p["perplexity_ratio"], p["gain"], "#" if i == chosen else "o" if p["breaks"] is None else "x")
        for i, p in enumerate(points)
        if p["perplexity_ratio"] < float("inf")
    ]
    marks.sort(key=lambda mark: "xo#".index(mark[2]))
    title = "mean of efficacy accuracy and paraphrase success (# chosen, o allowed, x not allowed)"
    return scatter(marks, "perplexity ratio", title)
