"""JSON from files that a stranger may have written: no more bytes than it may have, and no deeper than a
parser goes.

Every function raises ValueError with one line; the caller names the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MOST_JSON = 16_000_000  # bytes of a configuration


def read_json(path: Path, most_bytes: int) -> object:
    """The document in `path`, of at most `most_bytes` bytes. Python's NaN and Infinity are let through, as
    they are by whatever wrote such files. Raises ValueError, and OSError for a file that can't be read."""
    size = path.stat().st_size
    if size > most_bytes:
        raise ValueError(f"it has {size} bytes, and {most_bytes} are the most that such a file may have")
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None


def parse(content: str | bytes) -> object:
    """JSON without what Python lets through: a key written twice, NaN, Infinity."""
    return json.loads(content, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is written twice")
        found[key] = value
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
