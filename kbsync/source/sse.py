"""Server-sent events from bytes, as the WHATWG's HTML standard (9.2.6) reads them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kbsync.errors import BadAnswer

MOST_BYTES = 64_000_000  # of one event; the largest entities' mutations have some megabytes


@dataclass(frozen=True, slots=True)
class Message:
    """One event that carried data. `id` is the last id that the stream has given, "" before the first."""

    id: str
    kind: str
    data: str


def messages(blocks: Iterable[bytes], most: int = MOST_BYTES) -> Iterator[Message]:
    """The events of a body that comes in blocks of any size.

    An event that the body ends in the middle of is not one. Raises BadAnswer when one is over `most` bytes.
    """
    last_id, kind, data = "", "", list[str]()
    size = 0
    for line in _lines(blocks, most):
        size += len(line)
        if size > most:
            raise BadAnswer(f"an event of the stream is over {most} bytes")
        if not line:
            if data:
                yield Message(last_id, kind or "message", "\n".join(data))
            kind, data, size = "", [], 0
            continue
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "event":
            kind = value


def _lines(blocks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Lines without their ends, which are CR, LF or both. What follows the last end is dropped."""
    left, held_cr = bytearray(), False
    for block in blocks:
        if held_cr and block.startswith(b"\n"):
            block = block[1:]
        held_cr = block.endswith(b"\r")
        left += block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" in left:
            *whole, rest = left.split(b"\n")
            yield from (bytes(line) for line in whole)
            left = bytearray(rest)
        if len(left) > most:
            raise BadAnswer(f"an event of the stream is over {most} bytes")
