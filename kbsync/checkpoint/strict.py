"""JSON taken for exactly what it has to be. Every function raises ValueError with one line that names `where`."""

from __future__ import annotations

import math
import re
from collections.abc import Set
from datetime import UTC, datetime
from typing import Any

from kbsync.lm.json_file import parse as parse

_HASH = re.compile(r"[0-9a-f]{64}")


def table(value: object, where: str) -> dict[str, Any]:
    """A table with whatever keys."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not a table")
    return value


def exact(value: object, keys: Set[str], where: str) -> dict[str, Any]:
    """A table with these keys, no more and no fewer."""
    found = table(value, where)
    odd = sorted(keys ^ found.keys())
    if odd:
        raise ValueError(f"{where} has {'no' if odd[0] in keys else 'an unknown'} key {odd[0]!r}")
    return found


def items(value: object, where: str) -> list[Any]:
    """A list with whatever in it."""
    if not isinstance(value, list):
        raise ValueError(f"{where} is not a list")
    return value


def text(value: object, where: str) -> str:
    """A text that UTF-8 can carry."""
    if not isinstance(value, str):
        raise ValueError(f"{where} is not a text")
    value.encode()  # JSON can hold half a surrogate pair; UTF-8 can't, and says so with a ValueError
    return value


def sha256_hex(value: object, where: str) -> str:
    """64 hex digits in lower case."""
    if not isinstance(value, str) or _HASH.fullmatch(value) is None:
        raise ValueError(f"{where} is not a sha256 in hex")
    return value


def count(value: object, where: str) -> int:
    """A whole number from 0; a boolean is none."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{where} is not a whole number from 0")
    return value


def moment(value: object, where: str) -> datetime:
    """An ISO 8601 time with a zone, in UTC. A time that leaves the calendar on the way is an OverflowError."""
    time = datetime.fromisoformat(text(value, where))
    if time.tzinfo is None:
        raise ValueError(f"{where} has no time zone")
    return time.astimezone(UTC)


def plain(value: Any, where: str) -> Any:
    """`value` itself, when its numbers are finite (`1e999` parses as infinity) and its texts are UTF-8."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} has a number that is not finite")
    if isinstance(value, str):
        text(value, where)
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        plain(one, where)
    return value
