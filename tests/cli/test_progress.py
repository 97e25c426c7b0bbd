"""Progress: bars that end full, lines that come neither too often nor never, and nothing of it on stdout."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from kbsync.cli.progress import Bars, Lines, count
from kbsync.cli.state import State
from kbsync.sync.progress import Progress, Silent


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """A stage that takes long says how far it is and how long it still needs; all of it on stderr."""
    clock = Clock()
    lines = Lines(clock)
    with lines.stage("solve", 100, "edits") as task:
        for _ in range(4):
            clock.now += 4
            task.advance(5)
        task.describe("repair 1")
        clock.now += 9
        task.describe("repair 2")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "solve: 15/100 edits, 12.0 s, 1 min 8 s left",
        "solve: 20/100 edits, repair 2, 25.0 s, 1 min 40 s left",
        "solve: 20 edits, 25.0 s",
    ]


def test_a_quick_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A stage without units that is over at once says its name and its time, and a note is a line."""
    lines = Lines(Clock())
    with lines.stage("gate"):
        lines.note("one\x1b[31m")
    assert capsys.readouterr().err == "one\\x1b[31m\ngate: 0.0 s\n"


def test_a_stage_that_fails_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing says that a stage is over when it broke."""

    def broken(progress: Progress) -> None:
        with progress.stage("solve", 3, "edits"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken(Lines(Clock()))
    assert capsys.readouterr().err == ""


def bars() -> tuple[Bars, io.StringIO]:
    """Bars on a terminal that is kept as text."""
    screen = io.StringIO()
    return Bars(Console(file=screen, force_terminal=True, width=120, color_system=None, markup=False)), screen


def test_bars_show_each_stage_as_it_ended() -> None:
    """Names, units and details stand there; a total may come late, and a stage without one ends full."""
    progress, screen = bars()
    with progress.stage("pull", unit="relations") as task:
        task.total(7)
        task.advance(7)
        task.describe("P36 [bold]")
    with progress.stage("gate"):
        pass
    last = screen.getvalue()
    assert "✓ pull" in last
    assert "7/7 relations" in last
    assert "P36 [bold]" in last
    assert "✓ gate" in last


def test_stages_nest_and_notes_stand_above() -> None:
    """Loading the model inside another stage is a bar of its own, and a note doesn't break them."""
    progress, screen = bars()
    with progress.stage("solve", 2, "edits") as outer:
        with progress.stage("load model") as inner:
            inner.describe("embedded")
        progress.note("a [bold]note[/bold]")
        outer.advance(2)
    with progress.stage("gate"):
        pass
    shown = screen.getvalue()
    assert "✓ load model" in shown
    assert "a [bold]note[/bold]" in shown
    assert "2/2 edits" in shown


def test_after_a_failure_the_terminal_is_free() -> None:
    """The bars stop, and the cursor is shown again, when a stage raises."""
    progress, screen = bars()

    def broken() -> None:
        with progress.stage("solve", 3, "edits") as task:
            task.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert screen.getvalue().rstrip().endswith("\x1b[?25h")
    with progress.stage("again"):
        pass
    assert "again" in screen.getvalue()


@pytest.mark.parametrize(
    ("done", "total", "unit", "text"), [(1, 2, "edits", "1/2 edits"), (3, None, "x", "3 x"), (1, 1, "", "")]
)
def test_counts(done: int, total: int | None, unit: str, text: str) -> None:
    """Units with a total where one is known; nothing for a stage without units."""
    assert count(done, total, unit) == text


def test_who_gets_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets bars, a log lines, and a program that reads JSON nothing but its document."""
    assert isinstance(State().progress(), Lines)
    assert isinstance(State(as_json=True).progress(), Silent)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(State().progress(), Bars)
