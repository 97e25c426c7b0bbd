"""How far a long stage is: bars on a terminal, lines elsewhere. On stderr, so that stdout holds data only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kbsync.cli.show import duration, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

EVERY_S = 10.0  # seconds between two lines of the same stage


class Bars:
    """A bar per stage, with the time that it took and what it still needs. Stages may be nested."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._bars: Progress | None = None

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[_Bar]:
        """Show a bar until the block ends; it stays on the screen as it ended."""
        outermost = self._bars is None
        if self._bars is None:
            self._bars = _bars(self._console)
            self._bars.start()
        try:
            bar = _Bar(self._bars, self._bars.add_task(name, total=total, unit=unit, detail=""))
            yield bar
            bar.finish()
        finally:
            if outermost:
                self._bars.stop()
                self._bars = None

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._console.print(printable(text))


class _Bar:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1) -> None:
        self._bars.advance(self._task, n)

    def total(self, n: int) -> None:
        self._bars.update(self._task, total=n)

    def describe(self, text: str) -> None:
        self._bars.update(self._task, detail=printable(text))

    def finish(self) -> None:
        """The stage is over: what was done is all there was."""
        task = next(one for one in self._bars.tasks if one.id == self._task)
        self._bars.update(self._task, total=task.completed)


def _bars(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(count(int(task.completed), task.total, task.fields["unit"]))

    class Clock(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = "" if task.finished or not task.time_remaining else f", {duration(task.time_remaining)} left"
            return Text(f"{duration(task.elapsed or 0.0)}{left}")

    return Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        Count(),
        Clock(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
        console=console,
    )


class Lines:
    """A line when a stage begins to take long, then every ten seconds, and one when it is over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, every_s: float = EVERY_S) -> None:
        self._clock, self._every_s = clock, every_s

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[_Line]:
        """Report until the block ends."""
        line = _Line(name, total, unit, self._clock, self._every_s)
        yield line
        self.note(line.end())

    def note(self, text: str) -> None:
        """A line."""
        click.echo(printable(text), err=True)


class _Line:
    def __init__(self, name: str, total: int | None, unit: str, clock: Callable[[], float], every_s: float) -> None:
        self._name, self._total, self._unit, self._clock, self._every_s = name, total, unit, clock, every_s
        self._done, self._detail = 0, ""
        self._began = self._told = clock()

    def advance(self, n: int = 1) -> None:
        self._done += n
        self._tell()

    def total(self, n: int) -> None:
        self._total = n

    def describe(self, text: str) -> None:
        self._detail = text
        self._tell()

    def end(self) -> str:
        """The stage's last line."""
        done = count(self._done, None, self._unit)
        return f"{self._name}: {f'{done}, ' if done else ''}{duration(self._clock() - self._began)}"

    def _tell(self) -> None:
        now = self._clock()
        if now - self._told < self._every_s:
            return
        self._told = now
        parts = [count(self._done, self._total, self._unit), self._detail, duration(now - self._began)]
        if self._total and 0 < self._done < self._total:
            parts.append(f"{duration((now - self._began) * (self._total - self._done) / self._done)} left")
        click.echo(printable(f"{self._name}: {', '.join(part for part in parts if part)}"), err=True)


def count(done: int, total: float | None, unit: str) -> str:
    """`12/120 edits`; nothing where a stage has no units."""
    if not unit:
        return ""
    return f"{done}/{int(total)} {unit}" if total is not None else f"{done} {unit}"
