"""docs/cli.md and docs/configuration.md say what is there: no command, option, code or setting is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from kbsync import errors
from kbsync.cli.failures import UNEXPECTED
from kbsync.cli.main import cli
from kbsync.errors import KbsyncError
from kbsync.settings import Settings
from tests.cli.test_main import COMMAND_LINES

DOCS = Path(__file__).parents[2] / "docs"
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
_SECTION = re.compile(r"^#{2,3} `(kbsync[^`]*)`\n(.*?)(?=^#{2,3} `kbsync|\Z)", re.DOTALL | re.MULTILINE)
SECTIONS = {name: text.split("\n## ")[0].split("\n### ")[0] for name, text in _SECTION.findall(CLI)}
OPTIONS = [
    pytest.param(name, option, id=f"{name} {option.name}")
    for name, command in COMMAND_LINES.items()
    for option in command.params
    if isinstance(option, click.Option) and option.show_default
]


def options_of(command: click.Command) -> set[str]:
    """The long options, but for --help."""
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {name for one in options for name in one.opts if name.startswith("--")}


def test_every_command_has_a_section() -> None:
    """The page's commands are the program's."""
    assert set(SECTIONS) == {"kbsync", *COMMAND_LINES}


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_every_option_is_in_its_command_s_table(name: str) -> None:
    """Options, arguments and an example of each command are there, and none that it hasn't."""
    section, command = SECTIONS[name], COMMAND_LINES[name]
    rows = re.findall(r"^\| `(--[\w-]+)`", section, re.MULTILINE)
    assert set(rows) == options_of(command)
    arguments = [str(one.name).upper() for one in command.params if isinstance(one, click.Argument)]
    assert all(f"`{argument}`" in section for argument in arguments)
    example = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert example is not None
    assert name in example[1].replace("kbsync -c kbsync.toml", "kbsync")


def test_the_root_s_options() -> None:
    """So are those that come before the command."""
    rows = set(re.findall(r"`(--\w+)`(?=[^|]*\|[^|]*\|$)", SECTIONS["kbsync"], re.MULTILINE))
    assert rows == options_of(cli)


@pytest.mark.parametrize(("name", "one"), OPTIONS)
def test_defaults_that_the_page_names_are_the_program_s(name: str, one: click.Option) -> None:
    """A default that the help shows stands in the page's row, in brackets."""
    default = f"{one.default:g}" if isinstance(one.default, float) else str(one.default)
    row = next(line for line in SECTIONS[name].splitlines() if f"`{one.opts[0]}`" in line)
    assert re.search(rf"\(`?{re.escape(default)}`?\)", row), row


def test_exit_codes_are_the_error_tree_s() -> None:
    """Each kind of error with its code, done, and the unexpected; nothing else."""
    table = dict(re.findall(r"^\| (\d+) \| (\w*) ?\|", CLI, re.MULTILINE))
    kinds = [KbsyncError, *KbsyncError.__subclasses__()]
    assert table == {"0": "", str(UNEXPECTED): "", **{str(cls.exit_code): cls.__name__ for cls in kinds}}


def test_finer_kinds_are_named() -> None:
    """The classes below the table's are mentioned, since `kind` may name them."""
    finer = [cls.__name__ for kind in KbsyncError.__subclasses__() for cls in kind.__subclasses__()]
    assert len(finer) == 6
    assert all(f"`{name}`" in CLI for name in [*finer, "UsageError"])
    assert errors.Throttled.__name__ in finer


def test_the_error_object_is_valid_json() -> None:
    """The page's example has the shape that is printed."""
    found = re.search(r"```json\n(.*?)```", CLI, re.DOTALL)
    assert found is not None
    assert set(json.loads(found[1])["error"]) == {"kind", "message", "exit_code"}


def documented(section: str) -> dict[str, tuple[str, str]]:
    """key → (default, meaning) of one section of the settings' page."""
    text = CONFIGURATION.split(f"\n## [{section}]\n")[1].split("\n## ")[0]
    return {k: (d, m) for k, d, m in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", text, re.MULTILINE)}


def in_words(default: Any) -> str:
    """A default as the page writes it: TOML in backquotes."""
    if default is None:
        return "not set"
    if isinstance(default, Path):
        default = str(default)
    return f"`{json.dumps(default)}`"


def test_sections_are_the_settings_sections() -> None:
    """Every table of the TOML file has its section, in the same order."""
    assert re.findall(r"^## \[(\w+)\]$", CONFIGURATION, re.MULTILINE) == list(Settings.model_fields)


@pytest.mark.parametrize("section", Settings.model_fields)
def test_every_setting_is_documented_with_its_default(section: str) -> None:
    """The page's keys and defaults are the program's, in the same order, and each has a meaning."""
    table = Settings.model_fields[section].annotation
    assert table is not None
    found = documented(section)
    assert {key: default for key, (default, _) in found.items()} == {
        key: in_words(field.default) for key, field in table.model_fields.items()
    }
    assert list(found) == list(table.model_fields)
    assert all(meaning.strip() for _, meaning in found.values())


@pytest.mark.parametrize("section", Settings.model_fields)
def test_meanings_say_what_the_program_says(section: str) -> None:
    """The page may say more than a field's description, but begins as it does."""
    table = Settings.model_fields[section].annotation
    assert table is not None
    for key, (_, meaning) in documented(section).items():
        description = table.model_fields[key].description or ""
        assert meaning.replace("`", "").split()[:2] == description.replace("`", "").split()[:2], key
