"""tools/reliability.py writes the figures of a record into the page, and leaves the rest of it alone."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


LINE = {
    "kind": "a kind", "store": "sqlite", "count": 7, "failed": 0, "seconds": 90.0, "seed": 3, "piece": "a",
    "code": "new", "day": "2026-01-02", "cores": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("reliability", ROOT / "tools" / "reliability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_record_replaces_its_rows_and_no_other(tool: ModuleType) -> None:
    """A row of the record is in the page once, with its figures; a second writing replaces it."""
    once = tool.merged(PAGE, [LINE])
    assert "| a kind | sqlite | 7 | 0 | 3 | 1.5 | 2026-01-02, 4 |" in once
    twice = tool.merged(once, [{**LINE, "count": 8, "day": "2026-01-03"}])
    assert re.findall(r"\| a kind \|.*", twice) == ["| a kind | sqlite | 8 | 0 | 3 | 1.5 | 2026-01-03, 4 |"]
    assert [row for row in PAGE.splitlines() if row not in twice.splitlines()] == []


def test_fewer_trials_do_not_replace_more(tool: ModuleType) -> None:
    """A part that is run again, smaller, leaves the fuller row with both days; the last such part counts, until one
    is at least as large. A failure is shown however few trials there were."""
    full, again = "| a kind | sqlite | 7 | 0 | 3 | 1.5 | 2026-01-02, 4", {**LINE, "count": 5, "day": "2026-01-03"}

    def rows(page: str) -> list[str]:
        return re.findall(r"\| a kind \|.*", page)

    page = tool.merged(tool.merged(PAGE, [LINE]), [again])
    assert rows(page) == [f"{full}; 5 again on 2026-01-03, 4 |"]
    assert tool.merged(page, [again]) == page
    later = {**LINE, "count": 6, "day": "2026-01-04", "cores": 2}
    page = tool.merged(page, [later])
    assert rows(page) == [f"{full}; 6 again on 2026-01-04, 2 |"]
    assert rows(tool.merged(page, [{**later, "count": 7}])) == [
        "| a kind | sqlite | 7 | 0 | 3 | 1.5 | 2026-01-04, 2 |"
    ]
    assert rows(tool.merged(page, [{**later, "count": 1, "failed": 1}])) == [
        "| a kind | sqlite | 1 | 1 | 3 | 1.5 | 2026-01-04, 2 |"
    ]


def test_an_empty_record_changes_nothing(tool: ModuleType) -> None:
    """The page is as the script writes it."""
    assert tool.merged(PAGE, []) == PAGE


def test_pieces_of_a_row_are_added_up(tool: ModuleType) -> None:
    """Each test once, by its last line, and those of other code not at all; what failed is shown."""
    record = [
        {**LINE, "piece": "a", "code": "old", "count": 100},
        {**LINE, "piece": "a"},
        {**LINE, "piece": "b", "failed": 2},
        {**LINE, "piece": "b", "failed": 1},
        {**LINE, "piece": "a", "store": "postgres", "count": 5},
    ]
    page = tool.merged(PAGE, record)
    assert "| a kind | sqlite | 14 | 1 | 3 | 3.0 | 2026-01-02, 4 |" in page
    assert "| a kind | postgres | 5 | 0 | 3 | 1.5 | 2026-01-02, 4 |" in page


def test_an_older_record_is_of_the_day_it_was_closed(tool: ModuleType, tmp_path: Path) -> None:
    """Its lines do not say when and where; those that do keep what they say."""
    file = tmp_path / "record.jsonl"
    file.write_text(json.dumps({"kind": "old", "store": "", "count": 1}) + "\n" + json.dumps(LINE) + "\n")
    os.utime(file, (1_767_312_000, 1_767_312_000))
    old, new = tool.lines_of(file)
    assert (old["failed"], old["day"], old["cores"]) == (0, "2026-01-02", os.cpu_count())
    assert new == LINE


def test_days_become_a_table_and_a_picture(tool: ModuleType) -> None:
    """The medians of two quarters stand in the page once; the picture is a small PNG that shows a rise."""
    line = {"quarters": dict.fromkeys(tool.FIGURES, (2000000, 3500000))}
    page = tool.quarters(tool.quarters(PAGE, line), line)
    assert page.count("| memory of the process, MB | 2 | 3.5 |") == 1
    assert page.count("](year.png)") == 1
    assert [row for row in PAGE.splitlines() if row not in page.splitlines() and not row.startswith("| ")] == []
    flat = [dict.fromkeys(tool.FIGURES, 1.0) for _ in range(365)]
    rising = [dict.fromkeys(tool.FIGURES, float(day)) for day in range(365)]
    assert tool.picture(flat).startswith(b"\x89PNG")
    assert len(tool.picture(rising)) < 100_000
    assert tool.picture(rising) != tool.picture(flat)


def test_every_bug_names_a_test_that_is_there() -> None:
    """A bug that was found has a test that fails when it comes back."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) >= 4
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
