"""Printing: tables that a person enjoys on a terminal, plain and whole ones in a pipe, JSON for programs.

Everything that is shown may come from outside. It is never read as markup, and characters that don't print
(escape sequences, direction marks) are spelt out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from kbsync.plain import plain as plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WIDE = 100_000  # columns of a pipe: a table is never cut there


def console() -> Console:
    """Stdout. Colours and the terminal's width on a terminal only."""
    from rich.console import Console

    on_terminal = sys.stdout.isatty()
    width = None if on_terminal else _WIDE
    return Console(file=sys.stdout, width=width, no_color=None if on_terminal else True, emoji=False, markup=False)


def printable(text: str) -> str:
    """`text` with each character that doesn't print spelt out, so that it can't steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def text(value: object, style: str = "") -> Text:
    """A cell: numbers in a short form, times in UTC to the second, nothing for None."""
    from rich.text import Text

    return Text(printable(words(value)), style=style, overflow="fold")


def words(value: object) -> str:
    """A value as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def duration(seconds: float) -> str:
    """`8.4 s`, `3 min 12 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes as `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", numbers: Sequence[str] = ()
) -> None:
    """Print a table. `numbers` names columns that are set to the right. A cell may be a rich Text. In a pipe no
    line ends in blanks."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = console()
    shown = Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        title_style="bold",
        box=box.ROUNDED if out.is_terminal else box.SIMPLE_HEAD,
        header_style="bold",
        show_edge=out.is_terminal,
        pad_edge=out.is_terminal,
    )
    for column in columns:
        shown.add_column(text(column), justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    if out.is_terminal:
        out.print(shown)
        return
    with out.capture() as found:
        out.print(shown)
    click.echo("\n".join(row.rstrip() for row in found.get().split("\n")), nl=False)


def line(words: str = "", style: str = "") -> None:
    """Print one line of our own words and values."""
    from rich.text import Text

    console().print(Text("\n".join(map(printable, words.split("\n"))), style=style), soft_wrap=True)


def as_json(value: object) -> None:
    """Print one JSON document. A number that is not finite becomes null."""
    click.echo(json_text(plain(value), indent=2))


def json_text(value: object, indent: int | None = None) -> str:
    """A JSON document in which each character that doesn't print is an escape, which reads back as itself."""
    made = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    if made.isprintable():
        return made
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in made)


def error_line(words: str) -> None:
    """Print one line on stderr, beginning with the program's name."""
    click.echo(f"kbsync: {printable(words)}", err=True)
