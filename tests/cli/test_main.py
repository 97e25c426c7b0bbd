"""The command tree: there at once, complete, and loading nothing that it doesn't need."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from kbsync import __version__
from kbsync.cli.main import COMMANDS, cli

HEAVY = (
    "torch",
    "transformers",
    "sqlalchemy",
    "alembic",
    "pydantic",
    "structlog",
    "rich",
    "apscheduler",
    "fastapi",
)


def tree() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full name."""
    yield from walk("kbsync", cli)


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    ctx = click.Context(command)
    for word in command.list_commands(ctx):
        inner = command.get_command(ctx, word)
        assert inner is not None
        yield from walk(f"{name} {word}", inner)


COMMAND_LINES = dict(tree())


def test_every_installed_command_is_listed() -> None:
    """The table of commands and the help agree; a command whose module is not installed is left out."""
    listed = cli.list_commands(click.Context(cli))
    assert listed == [name for name, module in COMMANDS.items() if importlib.util.find_spec(module)]
    assert len(listed) >= 13
    assert CliRunner().invoke(cli, ["no-such"]).exit_code == 2


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_every_command_has_help_with_an_example(name: str) -> None:
    """`--help` of each command explains it, shows a line to type, and says what each option is for."""
    result = CliRunner().invoke(cli, [*name.split()[1:], "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"{name}" in result.stdout.split("Example")[1].replace("kbsync -c kbsync.toml", "kbsync")
    options = [one for one in COMMAND_LINES[name].params if isinstance(one, click.Option)]
    assert all(option.help and option.help.endswith(".") for option in options)


def test_help_imports_nothing_heavy() -> None:
    """The help of the program and of every command loads neither model, database nor table libraries."""
    words = [[*name.split()[1:], "--help"] for name in ("kbsync", *COMMAND_LINES)]
    code = (
        "import sys, json\n"
        "from kbsync.cli.main import cli\n"
        f"codes = [cli.main(words, standalone_mode=False) for words in {words!r}]\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps([codes, loaded]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    codes, loaded = json.loads(done.stderr)
    assert set(codes) == {0}
    assert loaded == []


def test_version() -> None:
    """`--version` is the package's."""
    assert CliRunner().invoke(cli, ["--version"]).stdout == f"kbsync {__version__}\n"


def test_without_a_command_the_help_is_shown() -> None:
    """`kbsync` alone tells what it can do, and ends as a wrong command line does."""
    result = CliRunner().invoke(cli, [])
    assert "doctor" in result.output
    assert result.exit_code == 2


def test_config_is_found_through_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    """KBSYNC_CONFIG names the file as -c does, and a file that isn't there is an error."""
    monkeypatch.setenv("KBSYNC_CONFIG", f"{tmp_path}/none.toml")
    result = CliRunner().invoke(cli, ["config", "show"])
    assert result.exit_code == 2
    assert f"no config file at {tmp_path}/none.toml" in result.stderr
