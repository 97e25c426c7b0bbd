"""`kbsync bench`: what kbsync measures of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import ConfigError

_BY_RELATION = ("efficacy_success", "efficacy_accuracy", "paraphrase_success", "neighborhood_success")
_CURVE = (*_BY_RELATION[:3], "paraphrase_accuracy", "neighborhood_success", "neighborhood_unchanged", "score")
_ELSEWHERE = {
    "question_in_plain_text": "efficacy accuracy, question in plain text",
    "without_bos": "efficacy accuracy, without BOS",
    "in_a_chat_turn": "efficacy accuracy, in a chat turn",
    "chat_sentence": "efficacy accuracy, in a chat's sentence",
    "chat_answer_new": "chat answer names the new object",
    "chat_answer_old": "chat answer names the old object",
}

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
    figures = {k: v for k, v in result.items() if k not in ("quality", "machine", "serial")}
    show.table(["figure", "value"], [[k.replace("_", " "), v] for k, v in figures.items()], title="Speed")
    show.table(
        ["metric", "value"], [[k, v] for k, v in result["quality"].items()], title="Quality of the candidate"
    )
    if serial:
        beside = {k: v for k, v in result["serial"].items() if k not in ("quality", "ours")}
        show.table(["figure", "value"], [[k.replace("_", " "), v] for k, v in beside.items()], title="One by one")
        theirs, ours = result["serial"]["quality"], result["serial"]["ours"]
        rows = [[name, ours[name], value] for name, value in theirs.items()]
        show.table(["metric", "kbsync", "one by one"], rows, title="Quality on the edits of both")
    print_machine(result["machine"])


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
@json_option
@pass_state
def capacity(state: State, upto: int, seed: int, out: Path | None, toml: Path | None, png: Path | None) -> None:
    """Teach the model 50, 100, 200, 500, … counterfactual edits at once, and measure each time.

    z are solved once and used at every size. A law fitted to the curve says for each rule of the gate how many
    edits keep it; the smallest of these numbers is the model's capacity.

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
        drawn, curve = curves.bench_capacity(bench, upto, seed)
        fitted = curves.capacity(curve, bench.settings.gate)
    result = {
        "curve": [measured.as_json() for measured in curve], "capacity": fitted.as_json(), **drawn.as_json()
    }  # fmt: skip
    finish(out, result)
    write(toml, section(result).encode(), "--toml")
    write(png, picture.draw(result) if png is not None else b"", "--png")
    if state.as_json:
        show.as_json(result)
    else:
        print_capacity(result)


_SHARES = {"facts": "facts_share", "samples": "samples_share", "dataset": "dataset_share"}


def _counts(_ctx: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    """`2500,5000` as numbers."""
    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdigit() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{text!r} is no list of whole numbers such as 5000,10000")
    return [int(word) for word in words]


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


def print_covariance(result: Mapping[str, Any]) -> None:
    """The points on stdout: a column for each."""
    points: Sequence[Mapping[str, Any]] = result["points"]
    show.line(_drawn(result, points[-1]["edits"]), "bold")
    made = [one["covariance"] for one in points]
    rows: list[list[object]] = [
        ["made of", *("\n".join(f"{count} {name}" for name, count in c["sources"].items()) for c in made)],
        ["seconds", *("on disk" if c["seconds"] is None else c["seconds"] for c in made)],
        ["effective rank", *(c["effective_rank"] for c in made)],
    ]
    for name in _CURVE:
        shares = [one["metrics"].get(name, {}).get("after") for one in points]
        rows.append([name.replace("_", " "), *(share["value"] if share else None for share in shares)])
        rows.append(["  95 %", *(_bounds(share) for share in shares)])
    rows += [
        ["perplexity ratio", *(one["perplexity_ratio"]["value"] for one in points)],
        ["  95 %", *(_bounds(one["perplexity_ratio"]) for one in points)],
        ["missed after the solve, after each repair", *(_list(one["misses"]) for one in points)],
        ["moved by half the tokens", *(_moved(one["moved_by_halving"]) for one in points)],
    ]
    columns = [f"{c['tokens']} tokens" for c in made]
    show.table(["the candidate's", *columns], rows, title="Covariance", numbers=columns)
    print_machine(result["machine"])


def _moved(names: Sequence[str] | None) -> str:
    return "" if names is None else "\n".join(names).replace("_", " ") or "nothing"


def section(result: Mapping[str, Any]) -> str:
    """The capacity as a table of TOML, with where it comes from as comments."""
    found, machine = result["capacity"], result["machine"]
    notes = [
        f"Fitted by `kbsync bench capacity` on {machine['date']} for {machine['model']} ({machine['device']}),",
        f"to live sets of {', '.join(str(one['edits']) for one in result['curve'])} {result['source']}.",
        _in_words(found),
    ]
    lines = [f"# {show.printable(note)}" for note in notes]
    return "\n".join([*lines, "[watch]", f"max_live = {found['max_live']}"]) + "\n"


def _in_words(found: Mapping[str, Any]) -> str:
    """Which rule ends the curve, and where."""
    if found["facts"] is None:
        return "No rule of the gate is seen to break: the model holds at least as many as were measured."
    return f"About {found['facts']} edits fit ({_ends(found)}); {found['rule']} is the rule that breaks first."


def _ends(one: Mapping[str, Any]) -> str:
    """`120 to 180`."""
    return " to ".join("any number" if one[end] == float("inf") else f"{int(one[end])}" for end in ("low", "high"))


def print_quality(result: Mapping[str, Any]) -> None:
    """One measurement on stdout."""
    show.line(_drawn(result, result["edits"]), "bold")
    rows = [[name.replace("_", " "), *_both(pair)] for name, pair in result["metrics"].items()]
    rows += [[_ELSEWHERE[name], *_both(pair)] for name, pair in result["elsewhere"].items()]
    show.table(
        ["metric", "base model", "95 %", "candidate", "95 % ", "prompts"],
        rows,
        title="Quality (shares of prompts; intervals over facts)",
        numbers=["base model", "candidate", "prompts"],
    )
    if result["generation"]:
        show.table(
            ["metric", "base model", "95 %", "candidate", "95 % ", "texts"],
            [[name, *_both(pair)] for name, pair in result["generation"].items()],
            title="Texts about the subjects (means; intervals over facts)",
            numbers=["base model", "candidate", "texts"],
        )
    columns = [name.replace("_", " ") for name in _BY_RELATION]
    relations = [
        [relation, int(own["edits"]), *(own.get(name) for name in _BY_RELATION)]
        for relation, own in result["relations"].items()
    ]
    show.table(
        ["relation", "edits", *columns], relations, title="The candidate by relation", numbers=["edits", *columns]
    )
    figures = [
        [
            "perplexity of a fixed text",
            f"{result['perplexity']['before']:.2f} → {result['perplexity']['after']:.2f}",
        ],
        ["perplexity ratio", result["perplexity"]["ratio"]],
        ["missed after the solve, after each repair", _list(result["misses"])],
        ["residual left by the solve", result["residual"]],
        ["room occupied", result["occupied"]],
        ["drift", result["drift"]],
        ["seconds per solved edit", result["solve_s_per_edit"]],
        ["seconds per rebuilt fact, repair included", result["rebuild_s_per_fact"]],
        ["mean steps per z", result["mean_steps"]],
    ]
    show.table(["figure", "value"], figures, title="Cost")
    print_machine(result["machine"])


def print_capacity(result: Mapping[str, Any]) -> None:
    """The curve on stdout: a column for each size."""
    curve: Sequence[Mapping[str, Any]] = result["curve"]
    show.line(_drawn(result, curve[-1]["edits"]), "bold")
    rows: list[list[object]] = []
    for name in _CURVE:
        shares = [one["metrics"].get(name, {}).get("after") for one in curve]
        rows.append([name.replace("_", " "), *(share["value"] if share else None for share in shares)])
        rows.append(["  95 %", *(_bounds(share) for share in shares)])
    base = [one["metrics"].get("neighborhood_success", {}).get("before") for one in curve]
    rows += [
        ["neighborhood success, base model", *(share["value"] if share else None for share in base)],
        ["perplexity ratio", *(one["perplexity"]["ratio"] for one in curve)],
        ["missed after the solve, after each repair", *(_list(one["misses"]) for one in curve)],
        ["residual left by the solve", *(one["residual"] for one in curve)],
        ["room occupied", *(one["occupied"] for one in curve)],
        ["drift", *(one["drift"] for one in curve)],
        ["seconds per rebuilt fact", *(one["rebuild_s_per_fact"] for one in curve)],
    ]
    columns = [f"{one['edits']} edits" for one in curve]
    show.table(["the candidate's", *columns], rows, title="Capacity", numbers=columns)
    rules = [
        [one["rule"].replace("_", " "), _facts(one["facts"]), _ends(one), one["holds_at"], one["breaks_at"]]
        for one in result["capacity"]["rules"]
    ]
    if rules:
        columns = ["fits", "holds at", "breaks at"]
        show.table(
            ["rule", "fits", "95 %", "holds at", "breaks at"],
            rows=rules,
            title="How many edits keep each rule of the gate, by the law fitted to the curve",
            numbers=columns,
        )
    show.line(_in_words(result["capacity"]))
    show.line(f"seconds per solved edit: {result['solve_s_per_edit']:.3g}")
    print_machine(result["machine"])


def print_machine(machine: Mapping[str, Any]) -> None:
    """What it was measured on."""
    show.table(["", ""], [[k, v] for k, v in machine.items()], title="Measured on")


def _drawn(result: Mapping[str, Any], edits: int) -> str:
    left_out = {"known to the base model": result["known"], **result["unaskable"]}
    dropped = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return f"{edits} of {result['drawn']} {result['source']}, seed {result['seed']} ({dropped})"


def _both(pair: Mapping[str, Mapping[str, float]]) -> list[object]:
    """Base model and candidate, each as value and interval, and the prompts behind them."""
    cells: list[object] = []
    for phase in ("before", "after"):
        own = pair.get(phase)
        cells += [own["value"] if own else None, _bounds(own)]
    return [*cells, next(iter(pair.values()))["count"]]


def _bounds(share: Mapping[str, float] | None) -> str:
    return f"{share['low']:.3f} to {share['high']:.3f}" if share else ""


def _facts(number: float) -> str:
    return "any number" if number == float("inf") else f"{int(number)}"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
