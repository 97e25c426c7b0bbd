"""`kbsync bench`: what kbsync measures of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import ConfigError

_BY_RELATION = ("efficacy_success", "efficacy_accuracy", "paraphrase_success", "neighborhood_success")
_ELSEWHERE = {
    "question_in_plain_text": "asked the question in plain text",
    "without_bos": "asked without BOS",
    "in_a_chat_turn": "asked in a chat turn",
}

out_option = click.option(
    "--out", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Also write the JSON to this file."
)


def write(out: Path | None, result: Mapping[str, Any]) -> None:
    """Write the JSON to the file, if there is to be one. Raises ConfigError where it can't be written."""
    if out is None:
        return
    try:
        out.write_text(json.dumps(show.plain(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out: {out} can't be written: {error.strerror}") from None


@click.group("bench", short_help="Measure speed and quality on this machine.")
def command() -> None:
    """Measure speed and quality on this machine. The published model is not touched."""


@command.command("editor", short_help="Seconds per solved z and per rebuilt fact, and what they buy.")
@click.option("--edits", default=64, show_default=True, type=click.IntRange(1), help="Real changes to edit.")
@out_option
@json_option
@pass_state
def editor(state: State, edits: int, out: Path | None) -> None:
    """Solve and rebuild the real changes that ship with the demo, and evaluate the result.

    \b
    Example:
      kbsync bench editor --edits 32 --json
    """
    from kbsync.bench.editor import bench_editor

    state.stays = "no edit was stored"
    with state.bench() as bench:
        result = bench_editor(bench, edits).as_json()
    write(out, result)
    if state.as_json:
        show.as_json(result)
        return
    figures = {k: v for k, v in result.items() if k not in ("quality", "machine")}
    show.table(["figure", "value"], [[k.replace("_", " "), v] for k, v in figures.items()], title="Speed")
    show.table(
        ["metric", "value"], [[k, v] for k, v in result["quality"].items()], title="Quality of the candidate"
    )
    show.table(["", ""], [[k, v] for k, v in result["machine"].items()], title="Measured on")


@command.command("quality", short_help="What many counterfactual edits at once do to the model.")
@click.option("--edits", default=200, show_default=True, type=click.IntRange(1), help="Edits to draw.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which edits are drawn.")
@click.option("--real", is_flag=True, help="Take the demo's real changes instead; the seed plays no part then.")
@out_option
@json_option
@pass_state
def quality(state: State, edits: int, seed: int, real: bool, out: Path | None) -> None:
    """Teach the model facts that are not so, all at once, and measure what holds and what it costs.

    What the base model says already is dropped. Each share comes with its 95 % interval.

    \b
    Example:
      kbsync bench quality --edits 200 --seed 1 --out quality.json
    """
    from kbsync.bench.quality import bench_quality

    state.stays = "no edit was stored"
    with state.bench() as bench:
        found = bench_quality(bench, edits, seed, real)
    result = found.as_json()
    write(out, result)
    if state.as_json:
        show.as_json(result)
    else:
        print_quality(result)


def print_quality(result: Mapping[str, Any]) -> None:
    """The whole measurement on stdout."""
    left_out = {"known to the base model": result["known"], **result["unaskable"]}
    dropped = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    show.line(f"{result['edits']} edits of {result['drawn']} drawn ({dropped})", "bold")
    rows = [[name.replace("_", " "), *both(pair)] for name, pair in result["metrics"].items()]
    rows += [[f"efficacy accuracy, {_ELSEWHERE[name]}", *both(pair)] for name, pair in result["elsewhere"].items()]
    perplexity = result["perplexity"]
    rows.append(["perplexity of a fixed text", perplexity["before"], "", perplexity["after"], "", None])
    show.table(
        ["metric", "base model", "95 %", "candidate", "95 % ", "prompts"],
        rows,
        title="Quality (shares of prompts; intervals over facts)",
        numbers=["base model", "candidate", "prompts"],
    )
    relations = [
        [relation, int(own["edits"]), *(own.get(name) for name in _BY_RELATION)]
        for relation, own in result["relations"].items()
    ]
    columns = [name.replace("_", " ") for name in _BY_RELATION]
    show.table(
        ["relation", "edits", *columns], relations, title="The candidate by relation", numbers=["edits", *columns]
    )
    show.table(["figure", "value"], [*costs(result), ["seed", result["seed"]]], title="Cost")
    show.table(["", ""], [[k, v] for k, v in result["machine"].items()], title="Measured on")


def both(pair: Mapping[str, Mapping[str, float]]) -> list[object]:
    """Base model and candidate, each as value and interval, and the prompts behind them."""
    cells: list[object] = []
    for phase in ("before", "after"):
        own = pair.get(phase)
        cells += [own["value"], f"{own['low']:.3f} to {own['high']:.3f}"] if own else [None, ""]
    return [*cells, next(iter(pair.values()))["count"]]


def costs(result: Mapping[str, Any]) -> list[list[object]]:
    """Perplexity's growth, misses and seconds."""
    return [
        ["perplexity ratio", result["perplexity"]["ratio"]],
        ["missed after the solve, after each repair", ", ".join(map(str, result["misses"]))],
        ["residual left by the solve", result["residual"]],
        ["seconds per solved edit", result["solve_s_per_edit"]],
        ["seconds per rebuilt fact, repair included", result["rebuild_s_per_fact"]],
        ["mean steps per z", result["mean_steps"]],
    ]
