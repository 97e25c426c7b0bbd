"""Files that a measurement is written to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kbsync.cli import show
from kbsync.errors import ConfigError

out_option = click.option(
    "--out", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Also write the JSON to this file."
)


def check(out: Path | None, option: str = "--out") -> None:
    """Raise ConfigError before minutes of measuring when there is nowhere to write the result."""
    if out is None:
        return
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{option}: there is no folder {out.absolute().parent}")
    new = not out.exists()
    if not new and not out.is_file():  # opening a pipe twice would be an end for its reader
        return
    try:
        with out.open("ab"):  # whoever may do that may write it; what it holds stays
            pass
        if new:
            out.unlink()
    except OSError as error:
        raise _refused(out, option, error) from None


def finish(out: Path | None, result: Mapping[str, Any]) -> None:
    """Write the JSON to the file, if there is to be one. Raises ConfigError where it can't be written."""
    if out is not None:
        write(out, (json.dumps(show.plain(result), indent=2, allow_nan=False) + "\n").encode(), "--out")


def write(path: Path | None, content: bytes, option: str) -> None:
    """Write a file, if there is to be one. Raises ConfigError where it can't be written."""
    if path is None:
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _refused(path, option, error) from None


def _refused(path: Path, option: str, error: OSError) -> ConfigError:
    return ConfigError(f"{option}: {path} can't be written: {error.strerror}")
