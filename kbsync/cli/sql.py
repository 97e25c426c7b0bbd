"""`kbsync sql`: the ledger, asked in SQL."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import ConfigError

if TYPE_CHECKING:
    from kbsync.store.query import Answer


@click.command("sql", short_help="Ask the store in SQL.")
@click.argument("query")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="Most rows to print.")
@click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds before the query is given up.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a line of column names.")
@json_option
@pass_state
def command(state: State, query: str, limit: int, timeout: float, as_csv: bool) -> None:
    """Ask the store one SQL question.

    QUERY is one statement that reads; - takes it from stdin. Writes are refused. docs/sql.md lists the views
    and tables, with questions to start from.

    \b
    Example:
      kbsync sql "SELECT subject_label, relation_label, new_object FROM live_facts"
    """
    if as_csv and state.as_json:
        raise ConfigError("give --json or --csv, not both")
    from kbsync.store.query import run_sql

    words = sys.stdin.read() if query == "-" else query
    store = state.settings().store
    answer = run_sql(store.query_url or store.url, words, limit, timeout)
    if state.as_json:
        show.as_json({"columns": answer.columns, "rows": answer.rows, "truncated": answer.truncated})
        return
    if as_csv:
        _print_csv(answer)
    else:
        show.table(answer.columns, answer.rows, numbers=_numeric(answer))
    if answer.truncated:
        click.echo(f"kbsync: only the first {limit} rows; --limit asks for more", err=True)


def _print_csv(answer: Answer) -> None:
    """Whole in a pipe, where programs read it; on a terminal nothing that could steer it."""
    spelt = show.printable if sys.stdout.isatty() else str
    for row in (answer.columns, *answer.rows):
        line = io.StringIO()
        # this end of line makes the writer quote a lone carriage return, too
        csv.writer(line, lineterminator="\r\n").writerow([spelt(v) if isinstance(v, str) else v for v in row])
        sys.stdout.write(line.getvalue().removesuffix("\r\n") + "\n")


def _numeric(answer: Answer) -> list[str]:
    """Columns that hold numbers only."""
    columns = zip(*answer.rows, strict=True)
    return [
        name
        for name, cells in zip(answer.columns, columns, strict=False)
        if all(cell is None or isinstance(cell, (int, float)) for cell in cells)
    ]
