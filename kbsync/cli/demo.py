"""`kbsync demo`: everything on one machine, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from kbsync.cli import report, show
from kbsync.cli.state import State, json_option, pass_state, quieten
from kbsync.errors import KbsyncError

if TYPE_CHECKING:
    from kbsync.sync.demo import DemoResult

_STYLES = {"edited": "green", "back to base": "green", "favoured": "yellow"}


@click.command("demo", short_help="Try it: a small model, real changes, no network.")
@click.option(
    "--folder",
    default=Path("var/demo"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the demo's store and checkpoints go. An earlier demo there is removed; nothing else ever is.",
)
@json_option
@pass_state
def command(state: State, folder: Path) -> None:
    """Sync a small model with two windows of real Wikidata changes, served on this machine.

    A slice of Wikidata is served by a real SPARQL server, two years of changes are applied, then three months
    more, and the embedded 135M model is synced after each. It takes some minutes on a CPU and needs no network.
    The settings are those of config/embedded.toml, with a quicker search for z, or of `kbsync -c FILE`; the file
    that KBSYNC_CONFIG names is left for the commands that it is meant for.

    \b
    Example:
      kbsync demo --folder /tmp/kbsync-demo
    """
    from kbsync.sync.demo import run_demo

    quieten()
    state.log()
    state.stays = f"{folder} keeps what was done so far, until the next demo there"
    named = click.get_current_context().find_root().get_parameter_source("config")
    config = state.config if named is ParameterSource.COMMANDLINE else None
    result = run_demo(folder, state.progress(), config)
    if state.as_json:
        show.as_json(_data(result))
    else:
        _print(result)
    broken = [check.text for check in result.checks if not check.passed]
    if broken and not state.as_json:
        raise KbsyncError(f"the demo ran, but not all of its checks passed: {'; '.join(broken)}")
    if broken:
        click.get_current_context().exit(KbsyncError.exit_code)


def _data(result: DemoResult) -> dict[str, object]:
    """The demo as `--json` prints it."""
    return {
        "rows": result.rows,
        "checks": result.checks,
        "runs": [report.as_data(one) for one in result.reports],
        "checkpoint": result.checkpoint,
        "store": result.store,
        "config": result.config,
        "seconds": result.seconds,
        "queries": result.queries,
    }


def _print(result: DemoResult) -> None:
    rows = [
        [row.fact, row.kind, row.expected, row.base_says, row.synced_says, _verdict(row.verdict)]
        for row in result.rows
    ]
    show.table(
        ["fact", "change", "object", "the base model says", "the synced model says", "verdict"],
        rows,
        title="What the last sync changed",
    )
    last = result.reports[-1]
    report.print_metrics(last.metrics, last.verdicts)
    for check in result.checks:
        show.line(f"{'✓' if check.passed else '✗'} {check.text}", "green" if check.passed else "bold red")
    show.line()
    runs = ", ".join(f"run {one.run_id} {one.status} in {show.duration(one.seconds)}" for one in result.reports)
    show.line(f"{runs}; {show.duration(result.seconds)} in all")
    show.line(f"checkpoint  {result.checkpoint}")
    show.line(f"store       {result.store}")
    show.line("\nAsk the ledger:", "bold")
    for query in result.queries:
        show.line(f'  kbsync -c {result.config} sql "{query}"')
    show.line("Ask the model:", "bold")
    show.line(f'  kbsync -c {result.config} ask "The head of government of Poland is"')


def _verdict(verdict: str) -> object:
    return show.text(verdict, _STYLES.get(verdict, "red"))
