"""TOML files: the settings, and the relation catalogue."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kbsync.errors import ConfigError, one_line


def read_toml(path: Path, missing: str, explain: Callable[[ValueError], str] = str) -> dict[str, Any]:
    """The tables of a file.

    Raises ConfigError with one line: `missing` where there is no such file, and why it is not valid TOML in the
    words of `explain`. That is a TOMLDecodeError, or another ValueError for a number of thousands of digits.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(missing) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    except ValueError as error:
        raise ConfigError(one_line(f"{path} is not valid TOML: {explain(error)}")) from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deep") from None
