"""Write the figures of the long suite into docs/reliability.md.

    python tools/reliability.py build/soak.jsonl

Each line of the record is one test that went through: what was done, on which store, how often, in how many
seconds. Rows of the table that the record has are replaced, the others stay as they are: a part of the suite can be
run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
HEAD = """| what | store | times | failed | seed | minutes | day, cores |
| --- | --- | --- | --- | --- | --- | --- |
"""

Rows = dict[tuple[str, str], str]


def rows_of(table: str) -> Rows:
    """The rows of a table by what they are about."""
    found: Rows = {}
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[cells[0], cells[1]] = line
    return found


def row(line: Mapping[str, Any], day: str, cores: int | None) -> str:
    """One row. Only a test that went through is recorded, so none of its times failed."""
    minutes = f"{line['seconds'] / 60:.1f}"
    cells = [line["kind"], line["store"], line["count"], 0, line.get("seed", ""), minutes, f"{day}, {cores}"]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def merged(page: str, record: Iterable[Mapping[str, Any]], day: str, cores: int | None) -> str:
    """The page with the record's rows in its table."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = rows_of(table)
    rows.update({(line["kind"], line["store"]): row(line, day, cores) for line in record})
    body = "".join(f"{rows[key]}\n" for key in sorted(rows))
    return f"{before}{BEGIN}{HEAD}{body}{END}{after}"


def main(files: list[str]) -> None:
    """Read the records and rewrite the page."""
    lines = [json.loads(line) for file in files for line in Path(file).read_text(encoding="utf-8").splitlines()]
    page = merged(PAGE.read_text(encoding="utf-8"), lines, f"{datetime.now(UTC):%Y-%m-%d}", os.cpu_count())
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
