"""Real English that is at hand everywhere: Python's own documentation topics, and the user's files.

The topics are dealt out once and for all: every fifth one is kept for measuring drift, the others feed the
covariance, so drift is never measured on text that the solve was told to preserve.
"""

from __future__ import annotations

import ast
import codecs
import inspect
import re
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from kbsync.errors import ConfigError

_HELD_OUT = 5
_PIECE = 65_536  # of a file, read at once: bytes of a line, characters of a paragraph
_MODULES = ("argparse", "asyncio/events", "collections/__init__", "csv", "datetime", "decimal", "email/message",
            "fractions", "functools", "heapq", "http/cookiejar", "inspect", "ipaddress", "json/__init__",
            "logging/__init__", "mailbox", "pathlib", "pdb", "pickletools", "random", "shutil", "smtplib",
            "statistics", "string", "subprocess", "tarfile", "textwrap", "threading", "turtle", "typing",
            "unittest/case", "unittest/mock", "urllib/parse", "uuid", "zipfile")  # fmt: skip


def _topics() -> dict[str, str]:
    from pydoc_data.topics import topics

    return dict(topics)


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of prose: code blocks and tables are dropped, lines are joined."""
    for block in re.split(r"\n\s*\n", text):
        line = " ".join(block.split())
        words = sum(part.isalpha() for part in line.split())
        if words >= 12 and words / max(len(line.split()), 1) > 0.6:
            yield line


@cache  # it is the same in every run of a process, and takes a tenth of a second to pick out
def drift_text() -> str:
    """The text behind the perplexity ratio: every fifth documentation topic, less what others repeat of it."""
    topics = _topics()
    kept = sorted(topics)[::_HELD_OUT]
    read = {p for name in topics.keys() - set(kept) for p in _paragraphs(topics[name])}
    return "\n".join(p for name in kept for p in _paragraphs(topics[name]) if p not in read)


def english() -> Iterator[str]:
    """Paragraphs for the covariance: the other topics, then docstrings of the standard library."""
    topics = _topics()
    kept = set(sorted(topics)[::_HELD_OUT])
    for name in sorted(set(topics) - kept):
        yield from _paragraphs(topics[name])
    root = Path(sysconfig.get_paths()["stdlib"])
    for module in _MODULES:
        yield from _docstrings(root / f"{module}.py")


def _docstrings(path: Path) -> Iterator[str]:
    if not path.exists():  # a trimmed Python
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield from _paragraphs(inspect.cleandoc(ast.get_docstring(node) or ""))


def user_text(paths: Sequence[Path]) -> Iterator[str]:
    """Paragraphs of the user's UTF-8 files, read as a stream: a file may be larger than memory, and so may a line.

    Line breaks inside a paragraph become spaces. One of more than 64 Ki characters comes in several pieces, cut
    between words where there are any. Raises ConfigError for a file that can't be read, with the line where it is
    not UTF-8.
    """
    for path in paths:
        held = ""
        for piece in _pieces(path):
            if not piece.strip() and (not held or held.endswith("\n")):
                yield from paragraphs(held)
                held = ""
                continue
            held += piece
            if len(held) >= _PIECE:
                whole, held = _before_the_last_word(held)
                yield from paragraphs(whole)
        yield from paragraphs(held)


def paragraphs(text: str) -> Iterator[str]:
    """What empty lines part, each on one line."""
    yield from (" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip())


def _before_the_last_word(text: str) -> tuple[str, str]:
    """`text` up to its last word, and that word, which may go on; all of it when it is one word."""
    found = re.match(r"(.*\s)(\S*)$", text, re.DOTALL)
    return (found[1], found[2]) if found else (text, "")


def _pieces(path: Path) -> Iterator[str]:
    """The lines of a file with their ends; of a long one, pieces of some length."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    try:
        with path.open("rb") as file:
            for raw in iter(partial(file.readline, _PIECE), b""):
                yield decoder.decode(raw)
                line += raw.endswith(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise ConfigError(f"covariance.text: {path} can't be read as UTF-8, line {line}: {error.reason}") from None
    except OSError as error:
        raise ConfigError(f"covariance.text: {path} can't be read as UTF-8 text: {error}") from None
