"""Write the figures of the long suite into docs/reliability.md.

    python tools/reliability.py build/soak.jsonl

Each line of the record is one test: what was done, on which store, how often, how many of these failed, in how many
seconds. Several tests may be pieces of one row: their numbers are added up, the last of each test, and those of the
newest code alone. Rows of the table that the record has are replaced, the others stay as they are: a part of the
suite can be run. So does a row with more trials, which says when fewer were made again without a failure. A line
that tells of days also gives the table of their quarters, and the picture docs/year.png.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kbsync.cli.png import Canvas, Colour

INK: Colour = (30, 30, 30)
MEASURED: Colour = (20, 70, 140)
WIDTH, HEIGHT, LEFT, PANEL = 730, 110, 20, 190
PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
PICTURE = PAGE.with_name("year.png")
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
HEAD = """| what | store | times | failed | seed | minutes | day, cores |
| --- | --- | --- | --- | --- | --- | --- |
"""

YEAR_BEGIN, YEAR_END = "<!-- year -->\n", "<!-- end of year -->\n"
YEAR_HEAD = """| | second quarter | last quarter |
| --- | --- | --- |
"""
SHOWN = f"![The same day by day: memory, database, checkpoints, live facts, CPU time]({PICTURE.name})\n"
FIGURES = {  # of a day: what it is called, and what divides it
    "rss": ("memory of the process, MB", 1e6),
    "files": ("open files", 1),
    "threads": ("threads", 1),
    "database": ("database with its log, MB", 1e6),
    "checkpoints": ("checkpoints, MB", 1e6),
    "cache": ("cache, MB", 1e6),
    "live": ("live facts", 1),
    "seconds": ("seconds of CPU time per sync", 1),
}

TIMES, FAILED, WHEN = 2, 3, 6  # columns of a row
Rows = dict[tuple[str, str], str]


def rows_of(table: str) -> Rows:
    """The rows of a table by what they are about."""
    found: Rows = {}
    for line in table.splitlines()[2:]:
        kind, store, *_ = cells_of(line)
        found[kind, store] = line
    return found


def cells_of(row: str) -> list[str]:
    """What stands in a row, by column."""
    return [cell.strip() for cell in row.strip("|").split("|")]


def pieces_together(record: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line for each row: of several with the newest code, the sums."""
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in record:
        rows.setdefault((line["kind"], line["store"]), []).append(line)
    return [_sum(lines) for lines in rows.values()]


def _sum(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    newest = lines[-1].get("code")
    last = {line.get("piece"): line for line in lines if line.get("code") == newest}.values()
    total = {name: sum(line.get(name, 0) for line in last) for name in ("count", "failed", "seconds")}
    return {**lines[-1], **total}


def row(line: Mapping[str, Any]) -> str:
    """One row."""
    minutes = f"{line['seconds'] / 60:.1f}"
    when = f"{line['day']}, {line['cores']}"
    return _row([line["kind"], line["store"], line["count"], line["failed"], line.get("seed", ""), minutes, when])


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def fuller(old: str | None, new: str) -> str:
    """Which of two rows stays: the new one, unless it has fewer trials and none of them failed. Then it is the old
    one, which says how many were made again, and when."""
    if old is None:
        return new
    before, now = cells_of(old), cells_of(new)
    if int(now[TIMES]) >= int(before[TIMES]) or int(now[FAILED]):
        return new
    before[WHEN] = f"{before[WHEN].split(';')[0]}; {now[TIMES]} again on {now[WHEN]}"
    return _row(before)


def merged(page: str, record: Iterable[Mapping[str, Any]]) -> str:
    """The page with the record's rows in its table."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = rows_of(table)
    for line in pieces_together(record):
        key = line["kind"], line["store"]
        rows[key] = fuller(rows.get(key), row(line))
    body = "".join(f"{rows[key]}\n" for key in sorted(rows))
    return f"{before}{BEGIN}{HEAD}{body}{END}{after}"


def quarters(page: str, line: Mapping[str, Any]) -> str:
    """The page with the medians of a record's days."""
    before, _, rest = page.partition(YEAR_BEGIN)
    _, _, after = rest.partition(YEAR_END)
    rows = []
    for name, (title, unit) in FIGURES.items():
        second, last = (_number(value / unit) for value in line["quarters"][name])
        rows.append(f"| {title} | {second} | {last} |\n")
    return f"{before}{YEAR_BEGIN}{YEAR_HEAD}{''.join(rows)}\n{SHOWN}{YEAR_END}{after}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def picture(days: Sequence[Mapping[str, float]]) -> bytes:
    """A PNG with a panel for each figure that may move, the days from left to right, each panel from 0 on."""
    names = ("rss", "database", "checkpoints", "live", "seconds")
    canvas = Canvas(WIDTH + 2 * LEFT, len(names) * PANEL)
    for number, name in enumerate(names):
        title, unit = FIGURES[name]
        top = number * PANEL + 40
        values = [day[name] / unit for day in days]
        most = max(*values, 1e-9)
        canvas.text(LEFT, top - 24, f"{title}, at most {_number(most)}", INK)
        canvas.box(LEFT, top, 1, HEIGHT, INK)
        canvas.box(LEFT, top + HEIGHT, WIDTH, 1, INK)
        for x in range(WIDTH):
            value = values[x * len(values) // WIDTH]
            canvas.box(LEFT + x, top + round(HEIGHT * (1 - value / most)), 1, 3, MEASURED)
        last = f"day {len(days)}"
        canvas.text(LEFT, top + HEIGHT + 8, "day 1", INK)
        canvas.text(LEFT + WIDTH - Canvas.width_of(last), top + HEIGHT + 8, last, INK)
    return canvas.png()


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The lines of a record. An older one does not say when and where: here, on the day it was closed."""
    closed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    older = {"failed": 0, "day": f"{closed:%Y-%m-%d}", "cores": os.cpu_count()}
    return [older | json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main(files: list[str]) -> None:
    """Read the records and rewrite the page."""
    lines = [line for file in files for line in lines_of(Path(file))]
    page = merged(PAGE.read_text(encoding="utf-8"), lines)
    for line in lines:
        if "days" in line:
            page = quarters(page, line)
            PICTURE.write_bytes(picture(line["days"]))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
