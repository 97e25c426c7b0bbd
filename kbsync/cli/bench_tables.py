"""The tables of `kbsync bench`: what a benchmark came to, on stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.cli import show

_BY_RELATION = ("efficacy_success", "efficacy_accuracy", "paraphrase_success", "neighborhood_success")
_CURVE = (*_BY_RELATION[:3], "paraphrase_accuracy", "neighborhood_success", "neighborhood_unchanged", "score")
ELSEWHERE = {
    "question_in_plain_text": "efficacy accuracy, question in plain text",
    "without_bos": "efficacy accuracy, without BOS",
    "in_a_chat_turn": "efficacy accuracy, in a chat turn",
    "chat_sentence": "efficacy accuracy, in a chat's sentence",
    "chat_answer_new": "chat answer names the new object",
    "chat_answer_old": "chat answer names the old object",
}


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
    rows += [[ELSEWHERE[name], *_both(pair)] for name, pair in result["elsewhere"].items()]
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
    if any(one["asked"] < one["edits"] for one in curve):
        rows.insert(0, ["edits that were asked about", *(one["asked"] for one in curve)])
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
    return f"{edits} of {result['drawn']} {result['source']}, seed {result['seed']} ({dropped(result)})"


def dropped(result: Mapping[str, Any]) -> str:
    """How many of the drawn edits were left out, and why."""
    left_out = {"known to the base model": result["known"], **result["unaskable"]}
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


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


def print_editor(result: Mapping[str, Any]) -> None:
    """Speed and quality on stdout, with the published method beside them where it was measured."""
    figures = {k: v for k, v in result.items() if k not in ("quality", "machine", "serial")}
    show.table(["figure", "value"], [[k.replace("_", " "), v] for k, v in figures.items()], title="Speed")
    show.table(
        ["metric", "value"], [[k, v] for k, v in result["quality"].items()], title="Quality of the candidate"
    )
    if "serial" in result:
        beside = {k: v for k, v in result["serial"].items() if k not in ("quality", "ours")}
        show.table(["figure", "value"], [[k.replace("_", " "), v] for k, v in beside.items()], title="One by one")
        theirs, ours = result["serial"]["quality"], result["serial"]["ours"]
        rows = [[name, ours[name], value] for name, value in theirs.items()]
        show.table(["metric", "kbsync", "one by one"], rows, title="Quality on the edits of both")
    print_machine(result["machine"])


_SOURCE_FIGURES = {
    "rows": "statements read",
    "changes": "changes found",
    "requests": "requests",
    "megabytes": "MB of answers",
    "seconds": "seconds in all",
    "endpoint_s": "seconds of the endpoint",
    "ours_s": "seconds of ours",
    "ratio": "ours / endpoint's",
    "cpu_s": "our processor seconds",
    "endpoint_cpu_s": "the endpoint's processor seconds",
    "cpu_ratio": "ours / endpoint's, processor seconds",
    "rows_per_s": "statements per second",
    "rows_per_s_of_ours": "statements per second of ours",
    "rows_per_cpu_s": "statements per processor second of ours",
    "peak_mb": "highest memory, MB",
}


def print_source(result: Mapping[str, Any]) -> None:
    """The parts on stdout: a column for each."""
    graph, parts = result["graph"], result["parts"]
    show.line(
        f"{graph['items']:,} items, {graph['statements']:,} statements of {graph['relations']} relations, "
        f"{graph['triples']:,} triples, from the endpoint's {'memory' if graph['in_memory'] else 'database'}",
        "bold",
    )
    columns = [part["name"] for part in parts]
    rows = [[words, *(part[name] for part in parts)] for name, words in _SOURCE_FIGURES.items()]
    show.table(["figure", *columns], rows, title="Source", numbers=columns)
    columns = [f"{one['relations']} watched" for one in result["dump"]]
    rows = [[name.replace("_", " "), *(one[name] for one in result["dump"])] for name in result["dump"][0]]
    show.table(["the same as a dump", *columns], rows, title="Dump", numbers=columns)
    print_machine(result["machine"])
