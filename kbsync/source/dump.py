"""A dump on disk → the triples that matter: N-Triples or Turtle, plain, gzip or bzip2, read in one go.

Memory stays the same whatever the size. Of N-Triples, where each line is a triple, only lines with a wanted
predicate go to the parser; all others cost a look at their second word. Turtle goes through the parser whole.
Both are read leniently: Wikidata has language tags that no standard knows.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from kbsync.errors import BadDump, ConfigError

if TYPE_CHECKING:
    from pyoxigraph import Quad

Format = Literal["nt", "turtle"]

BLOCK = 1 << 22  # bytes of text that are looked at together
LONGEST_LINE = 1 << 24  # Wikidata's longest literals are far below; what has no line break by then is no N-Triples
BATCH = 50_000  # triples of Turtle that are handed on together
_FORMATS: dict[str, Format] = {".nt": "nt", ".ttl": "turtle", ".turtle": "turtle"}
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2"}
_BROKEN = (EOFError, OSError, zlib.error)


@dataclass(frozen=True, slots=True)
class Dump:
    """A file that can be read as a dump. `packing` is `gzip`, `bzip2` or "", told by its first bytes."""

    path: Path
    format: Format
    packing: str
    size: int
    changed_ns: int

    @property
    def identity(self) -> str:
        """What tells this file from another one under its name."""
        return f"{self.path.resolve()}|{self.size}|{self.changed_ns}|{self.format}"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a dump has been read: bytes of its unpacked text, always whole lines, and triples in them."""

    offset: int = 0
    lines: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the dump: its wanted triples, how many bytes of the file are read, and how many triples in all.

    `position` is where reading can go on after this batch; None for Turtle, which has no such places.
    """

    quads: list[Quad]
    read: int
    triples: int
    position: Position | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which triples are worth parsing: predicates (full IRIs), and a look at the line for those that few of are.

    `passes` is given the predicate and the two other words of a line, and may only refuse what it is sure about.
    """

    predicates: frozenset[str]
    passes: Callable[[bytes, bytes, bytes], bool]


def open_dump(path: Path, wanted_format: Format | None = None) -> Dump:
    """Look at the file. Raises ConfigError when it is missing or of no format that can be read."""
    try:
        stat = path.stat()
        with path.open("rb") as file:
            start = file.read(3)
    except OSError as error:
        raise ConfigError(f"the dump {path} can't be read: {error.strerror}") from None
    packing = next((name for magic, name in _PACKED.items() if start.startswith(magic)), "")
    endings = [one.lower() for one in path.suffixes]
    named = next((_FORMATS[one] for one in reversed(endings) if one in _FORMATS), None)
    form = wanted_format or named
    if form is None:
        raise ConfigError(
            f"{path} is neither N-Triples (.nt) nor Turtle (.ttl) by its name; if it is one, say so with --format"
        )
    return Dump(path, form, packing, stat.st_size, stat.st_mtime_ns)


def read(dump: Dump, wanted: Wanted, start: Position | None = None) -> Iterator[Batch]:
    """The dump's wanted triples in its order, from `start` on (N-Triples only).

    Raises BadDump for a file that is cut short, damaged, or not what it claims to be.
    """
    with _opened(dump) as (text, raw):
        try:
            if dump.format == "nt":
                yield from _lines(dump, wanted, start or Position(), text, raw)
            else:
                yield from _turtle(dump, wanted, text, raw)
        except EOFError:
            raise BadDump(f"{dump.path} ends in the middle of its {dump.packing} data; download it again") from None
        except (OSError, zlib.error) as error:
            raise BadDump(f"{dump.path} can't be unpacked or read: {error}") from None


@contextmanager
def _opened(dump: Dump) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The unpacked text, and the file itself, whose place tells the progress."""
    with dump.path.open("rb") as raw:
        if dump.packing == "gzip":
            with gzip.GzipFile(fileobj=raw) as text:
                yield text, raw  # type: ignore[misc]  # all of IO that is used here
        elif dump.packing == "bzip2":
            with bz2.BZ2File(raw) as text:
                yield text, raw
        else:
            yield raw, raw


def _lines(dump: Dump, wanted: Wanted, start: Position, text: IO[bytes], raw: IO[bytes]) -> Iterator[Batch]:
    _go_to(dump, start, text)
    keeps = _Filter(wanted)
    offset, triples, rest = start.offset, start.lines, b""
    while True:
        block = text.read(BLOCK)
        whole = rest + block
        cut = whole.rfind(b"\n") + 1 if block else len(whole)  # the last line may end without a break
        rest = whole[cut:]
        if len(rest) > LONGEST_LINE:
            raise BadDump(f"{dump.path} is not N-Triples: no line break in {len(rest)} bytes; see --format")
        lines = whole[:cut].split(b"\n")
        if cut:
            kept, seen = keeps(lines)
            quads = [quad for quad in _parsed(dump, kept, triples) if quad.predicate.value in wanted.predicates]
            offset, triples = offset + cut, triples + seen
            yield Batch(quads, raw.tell(), triples, Position(offset, triples))
        if not block:
            return


def _go_to(dump: Dump, start: Position, text: IO[bytes]) -> None:
    """Skip what was read before: at once in plain text, by unpacking in the others."""
    if not dump.packing:
        text.seek(start.offset)
        return
    left = start.offset
    while left:
        block = text.read(min(left, BLOCK))
        if not block:
            raise EOFError
        left -= len(block)


class _Filter:
    """Which lines of N-Triples go to the parser. A line that can't be judged by its words does."""

    def __init__(self, wanted: Wanted) -> None:
        self._predicates = {f"<{one}>".encode() for one in wanted.predicates}
        self._passes = wanted.passes

    def __call__(self, lines: list[bytes]) -> tuple[list[tuple[int, bytes]], int]:
        """(the lines to parse with their place among the triples, how many triples there are)."""
        kept: list[tuple[int, bytes]] = []
        predicates, passes = self._predicates, self._passes
        empty = 0
        for number, line in enumerate(lines):
            words = line.split(b" ", 2)
            if len(words) == 3:
                predicate = words[1]
                if predicate in predicates:
                    if passes(predicate, words[0], words[2]):
                        kept.append((number - empty, line))
                    continue
                if predicate[:1] == b"<" and predicate[-1:] == b">" and words[0][:1] in (b"<", b"_"):
                    continue
            if not line.strip() or line.lstrip()[:1] == b"#":
                empty += 1
            else:
                kept.append((number - empty, line))
        return kept, len(lines) - empty


def _parsed(dump: Dump, kept: list[tuple[int, bytes]], before: int) -> list[Quad]:
    from pyoxigraph import RdfFormat, parse

    try:
        text = b"\n".join(line for _, line in kept)
        return list(parse(text, RdfFormat.N_TRIPLES, lenient=True))
    except (SyntaxError, ValueError):
        for number, line in kept:
            try:
                list(parse(line, RdfFormat.N_TRIPLES, lenient=True))
            except (SyntaxError, ValueError) as error:
                shown = line[:80].decode("utf-8", "replace")
                raise BadDump(
                    f"{dump.path}: triple {before + number + 1} is not N-Triples: {_reason(error)} in {shown!r}"
                ) from None
        raise


def _turtle(dump: Dump, wanted: Wanted, text: IO[bytes], raw: IO[bytes]) -> Iterator[Batch]:
    from pyoxigraph import RdfFormat, parse

    predicates = wanted.predicates
    kept: list[Quad] = []
    triples = 0
    try:
        for quad in parse(text, RdfFormat.TURTLE, lenient=True):
            triples += 1
            if quad.predicate.value in predicates:
                kept.append(quad)
            if triples % BATCH == 0:
                yield Batch(kept, raw.tell(), triples, None)
                kept = []
    except _BROKEN:
        raise
    except (SyntaxError, ValueError) as error:
        raise BadDump(f"{dump.path} is not Turtle, or is cut short: {_reason(error)}") from None
    yield Batch(kept, raw.tell(), triples, None)


def _reason(error: Exception) -> str:
    """The parser's words on one line, without the place in its own input."""
    said = " ".join(str(error.args[0] if error.args else error).split())
    return said[:160]
