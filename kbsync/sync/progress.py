"""How a long stage tells where it is. The command line draws it; tests and the daemon keep silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One stage under way."""

    def advance(self, n: int = 1) -> None:
        """`n` more units are done."""

    def total(self, n: int) -> None:
        """How many units there are in all, once it is known."""

    def describe(self, text: str) -> None:
        """What is being worked on."""


class Progress(Protocol):
    """Where stages report to."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """Enter a stage of `total` units."""

    def note(self, text: str) -> None:
        """One line of interest."""


class _SilentTask:
    def advance(self, n: int = 1) -> None:
        del n

    def total(self, n: int) -> None:
        del n

    def describe(self, text: str) -> None:
        del text


class Silent:
    """Reports nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        """A stage that nobody watches."""
        del name, total, unit
        yield _SilentTask()

    def note(self, text: str) -> None:
        """Nothing."""
        del text
