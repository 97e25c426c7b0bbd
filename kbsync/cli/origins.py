"""Where each setting's value comes from, and the settings as a TOML file."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbsync.cli.show import printable
from kbsync.settings import Settings, secrets_of


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective setting. `origin` is `default`, the file's path, or `environment`."""

    section: str
    key: str
    value: Any
    origin: str
    meaning: str


def effective(settings: Settings, config: Path | None) -> Iterator[Setting]:
    """All settings in their order, as plain values, with passwords masked. `config` is the file they came from."""
    in_file = tomllib.loads(config.read_text(encoding="utf-8")) if config is not None else {}
    in_environment = set(_environment())
    values = settings.model_dump(mode="json")
    secrets = secrets_of(settings)
    for section, field in Settings.model_fields.items():
        table = field.annotation
        assert table is not None
        for key, inner in table.model_fields.items():
            if (section, key) in in_environment:
                origin = "environment"
            else:
                origin = str(config) if key in in_file.get(section, {}) else "default"
            yield Setting(section, key, secrets.mask_all(values[section][key]), origin, inner.description or "")


def _environment() -> Iterator[tuple[str, str]]:
    """(section, key) of what is set in the environment: `KBSYNC_MODEL__BASE`, or `KBSYNC_MODEL` as JSON."""
    for name, value in os.environ.items():
        if not name.upper().startswith("KBSYNC_"):
            continue
        section, mark, key = name.lower().removeprefix("kbsync_").partition("__")
        if section in Settings.model_fields and mark:
            yield section, key
        elif section in Settings.model_fields:
            for one in json.loads(value):  # the settings were read, so it is an object
                yield section, one


def as_toml(settings: list[Setting]) -> str:
    """The settings as a TOML file that gives the same settings again (but for masked passwords)."""
    by_key = {(one.section, one.key): one for one in settings}
    lines: list[str] = []
    section = ""
    for one in settings:
        if one.section != section:
            section = one.section
            lines += ["", f"[{section}]"]
        lines.append(_line(one, by_key))
    return "\n".join(lines[1:])


def _line(one: Setting, all_settings: Mapping[tuple[str, str], Setting]) -> str:
    note = f"# {printable(one.origin)}"
    if one.section == "gate" and one.value is None:
        return f'{one.key} = "off"  {note}'
    if (one.section, one.key) == ("source", "token") and one.value is not None:
        return f"# {one.key} is set, and not shown  {note}"
    if one.section == "source" and one.value is None and one.key.endswith("_per_minute"):
        return f'{one.key} = "off"  {note}'
    if one.value is None:
        return f"# {one.key} is not set  {note}"
    cron = all_settings.get(("schedule", "cron"))
    if (one.section, one.key) == ("schedule", "interval_minutes") and cron is not None and cron.value:
        return f"# {one.key}: the cron line counts  {note}"  # the file may give one of the two
    return f"{one.key} = {_toml(one.value)}  {note}"


def _toml(value: Any) -> str:
    """JSON's strings, numbers, booleans and arrays of them are TOML's. What doesn't print is an escape."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    made = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in made)
