"""What is printed: whole in a pipe, coloured on a terminal, and never steered by what it shows."""

from __future__ import annotations

import enum
import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from kbsync.cli import show

EVIL = "[bold]x[/bold] \x1b[2J\u202e {0} :smile: [/nope]"


def test_a_pipe_gets_whole_plain_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """No colour codes, no borders, no cut: each row is one line, however long."""
    show.table(["short", "long"], [["a", "word " * 500], ["b", None]], title="Title", numbers=["short"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Title"
    assert next(line for line in lines if line.startswith("    a")).split() == ["a"] + ["word"] * 500
    assert not {"\x1b", "│", "…"} & set("".join(lines))
    assert [line for line in lines if line != line.rstrip()] == []


def test_what_is_shown_is_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets, braces and emoji codes are text; escape sequences and direction marks are spelt out."""
    expected = "[bold]x[/bold] \\x1b[2J\\u202e {0} :smile: [/nope]"
    show.table([EVIL], [[EVIL]], title=EVIL)
    show.line(EVIL)
    out = capsys.readouterr().out
    assert out.count(expected) == 4
    assert "\x1b" not in out


def test_a_terminal_gets_colours_borders_and_whole_data() -> None:
    """On a terminal of 40 columns a long cell is folded, not cut, and styles are shown."""
    code = "from kbsync.cli import show\nshow.table(['name'], [['abcdefghij' * 12]])\nshow.line('green', 'green')"
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "40", "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    environment.pop("NO_COLOR", None)
    subprocess.run([sys.executable, "-c", code], stdout=slave, check=True, env=environment)
    os.close(slave)
    out = b""
    while chunk := _read(master):
        out += chunk
    text = out.decode()
    assert "\x1b[32mgreen" in text
    assert "╭" in text
    assert sum(text.count(letter) for letter in "abcdefghij") >= 120
    assert "…" not in text


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux says so when the other side is gone
        return b""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (True, "yes"),
        (0.123456, "0.1235"),
        (123456.7, "123457"),
        (12, "12"),
        (datetime(2024, 3, 1, 13, tzinfo=timezone(timedelta(hours=1))), "2024-03-01 12:00:00"),
        ("text", "text"),
    ],
)
def test_values_in_words(value: object, expected: str) -> None:
    """A person reads short numbers, and times in UTC."""
    assert show.words(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, expected: str) -> None:
    """Seconds become minutes and hours where people would say so."""
    assert show.duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (999, "999 B"), (98_000_000, "98 MB"), (1.5e9, "1.5 GB"), (2e12, "2 TB")]
)
def test_sizes(count: float, expected: str) -> None:
    """Bytes in the unit that leaves at most three digits."""
    assert show.size(count) == expected


class Colour(enum.StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Thing:
    at: datetime
    path: Path
    share: float
    colour: Colour


def test_json_of_what_the_program_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """Dataclasses, times, paths and enums in JSON's types; what is no finite number is null."""
    things = {Colour.RED: (Thing(datetime(2024, 3, 1, tzinfo=UTC), Path("a/b"), float("nan"), Colour.RED),)}
    show.as_json(things)
    assert json.loads(capsys.readouterr().out) == {
        "red": [{"at": "2024-03-01T00:00:00Z", "path": "a/b", "share": None, "colour": "red"}]
    }
