"""What a target is made of: a way to read values from bytes, and what may be raised."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kbsync.errors import KbsyncError

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """One surface. `run` takes any bytes and raises nothing but what it lets through itself.

    `seeds` are inputs to begin with, `words` what a mutation may put in. `most` bytes are enough to say anything.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[str] = ()
    most: int = 2048


class Draw:
    """Reads choices and texts from bytes, from the front to the back; past the end everything is 0 or empty."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, below: int) -> int:
        """A number from 0 up to, but without, `below` (at most 256)."""
        byte = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return byte % below

    def pick(self, choices: Sequence[T]) -> T:
        """One of these."""
        return choices[self.number(len(choices))]

    def text(self) -> str:
        """What stands up to the next byte 0x1f, as UTF-8; other bytes become lone surrogates, as JSON may hold."""
        end = self._data.find(b"\x1f", self._at)
        end = len(self._data) if end < 0 else end
        found, self._at = self._data[self._at : end], end + 1
        return found.decode("utf-8", "surrogateescape")

    @property
    def more(self) -> bool:
        """Whether something is left."""
        return self._at < len(self._data)


@contextmanager
def named(*also: type[Exception]) -> Iterator[None]:
    """Errors of kbsync's own tree are let through, if they are one line that can be printed; and so is what a
    function says that it raises (`also`)."""
    try:
        yield
    except KbsyncError as error:
        said = str(error)
        assert said, "an error without words"
        assert "\n" not in said, said
        assert "\r" not in said, said
        said.encode()
    except also:
        pass


_folder = tempfile.TemporaryDirectory(prefix="kbsync-fuzz-")


def file(name: str, data: bytes) -> Path:
    """A file with these bytes, to be read again at once."""
    path = Path(_folder.name) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path
