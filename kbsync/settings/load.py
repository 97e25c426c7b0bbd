"""Settings from a TOML file and the environment, and every mistake in one line."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from kbsync.errors import ConfigError, one_line
from kbsync.redact import mask, mask_url
from kbsync.settings.paths import absolute
from kbsync.settings.secrets import with_password
from kbsync.settings.toml import read_toml
from kbsync.settings.whole import Settings


def load_settings(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read a TOML file (or only the defaults), then the environment.

    `overrides` is a nested dict that wins over the file. Raises ConfigError with one line that names the
    file or the variable, the key, and for an unknown key the nearest known one.
    """
    values: dict[str, Any] = {}
    root = Path.cwd()
    if path is not None:
        values = _without_token(read_toml(path, f"no config file at {path}"), path)
        parent = path.resolve().parent
        root = parent.parent if parent.name == "config" else parent
    for section, keys in (overrides or {}).items():
        table = values.get(section, {})
        values[section] = {**table, **keys} if isinstance(table, dict) else table
    _check_environment()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError(one_line(_explain(error, path))) from None
    except SettingsError as error:
        raise ConfigError(f'{error}; write lists in the environment as JSON, such as ["P36"]') from None
    return with_password(absolute(settings, root))


def _check_environment() -> None:
    """Raise ConfigError for a `KBSYNC_<SECTION>__<KEY>` whose section does not exist: nobody else would."""
    for name in sorted(os.environ):
        section, mark, key = name.upper().removeprefix("KBSYNC_").partition("__")
        if name.upper().startswith("KBSYNC_") and mark and section.lower() not in Settings.model_fields:
            near = _nearest((section.lower(),))
            hint = f"; did you mean KBSYNC_{near.upper()}__{key}?" if near else ""
            raise ConfigError(f"the environment: {name} names no section{hint}")


def _without_token(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file's values. Raises ConfigError when the endpoint's secret is among them."""
    source = values.get("source")
    if isinstance(source, dict) and "token" in source:
        raise ConfigError(
            f"{path}: source.token does not belong into a file that is shared and shown; take it out and set "
            f"KBSYNC_SOURCE__TOKEN in the environment, or name a file in source.token_file"
        )
    return values


def _explain(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if "[" not in str(part) and part != "constrained-int")
    # (of a key that takes several types, the types are left out: `tuple[int, ...]`)
    source = _origin(first["loc"]) or (str(path) if path is not None else "the settings")
    if first["type"] == "extra_forbidden":
        near = _nearest(first["loc"])
        hint = f"; did you mean {near}?" if near else "; `kbsync config show` lists the known keys"
        return f"{source}: unknown key {where}{hint}"
    said = f"{source}: {where}: {first['msg'].removeprefix('Value error, ')}"
    if (
        isinstance(first["input"], dict)
        or "credentials" in first["msg"]
        or where in ("source.token", "source.user")
    ):
        return said  # a whole section, or what must not be shown
    return f"{said} (got {mask(mask_url(repr(first['input'])))})"


def _origin(loc: tuple[int | str, ...]) -> str | None:
    """The variable that set the value at `loc`, where one did: the environment wins over the file."""
    parts = [str(part).upper() for part in loc]
    names = {"KBSYNC_" + "__".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return next((f"{name} in the environment" for name in sorted(os.environ) if name.upper() in names), None)


def _nearest(loc: tuple[int | str, ...]) -> str | None:
    """The known key that is spelled most like the last part of `loc`."""
    section = Settings.model_fields.get(str(loc[0]))
    if len(loc) == 1 or section is None:
        known = list(Settings.model_fields)
        prefix = ""
    else:
        table = section.annotation
        assert isinstance(table, type)
        assert issubclass(table, BaseModel)
        known = list(table.model_fields)
        prefix = f"{loc[0]}."
    match = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    return prefix + match[0] if match else None
