"""`kbsync bench`: what kbsync measures of itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state


@click.group("bench", short_help="Measure speed and quality on this machine.")
def command() -> None:
    """Measure speed and quality on this machine. The published model is not touched."""


@command.command("editor", short_help="Seconds per solved z and per rebuilt fact, and what they buy.")
@click.option("--edits", default=64, show_default=True, type=click.IntRange(1), help="Real changes to edit.")
@click.option(
    "--out", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Also write the JSON to this file."
)
@click.option(
    "--serial", is_flag=True, help="Also edit the same changes one by one, as the published method does (slow)."
)
@json_option
@pass_state
def editor(state: State, edits: int, out: Path | None, serial: bool) -> None:
    """Solve and rebuild the real changes that ship with the demo, and evaluate the result.

    With --serial the same changes are edited once more by MEMIT as it was published, for the ratio of the two.

    \b
    Example:
      kbsync bench editor --edits 32 --json
    """
    from kbsync.bench.editor import bench_editor

    state.stays = "no edit was stored"
    with state.bench() as bench:
        result = bench_editor(bench, edits, serial).as_json()
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if state.as_json:
        show.as_json(result)
        return
    figures = {k: v for k, v in result.items() if k not in ("quality", "machine", "serial")}
    show.table(["figure", "value"], [[k.replace("_", " "), v] for k, v in figures.items()], title="Speed")
    show.table(
        ["metric", "value"], [[k, v] for k, v in result["quality"].items()], title="Quality of the candidate"
    )
    if serial:
        beside = {k: v for k, v in result["serial"].items() if k != "quality"}
        show.table(["figure", "value"], [[k.replace("_", " "), v] for k, v in beside.items()], title="One by one")
        found = result["serial"]["quality"].items()
        show.table(["metric", "value"], [[k, v] for k, v in found], title="Quality, one by one")
    show.table(["", ""], [[k, v] for k, v in result["machine"].items()], title="Measured on")
