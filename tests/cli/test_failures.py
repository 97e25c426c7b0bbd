"""Every failure is one line, one code, and with --json one shape."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kbsync import errors
from kbsync.cli.failures import UNEXPECTED
from kbsync.cli.main import Root
from kbsync.cli.state import State, json_option
from kbsync.errors import KbsyncError
from kbsync.store import daemons
from kbsync.store.engine import open_store
from tests.cli.conftest import Call, error, url_of
from tests.stores import Stores

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, KbsyncError)]


class Small(Root):
    """A command line like kbsync's with the commands that it is given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return click.Group.list_commands(self, ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return click.Group.get_command(self, ctx, cmd_name)


def run(problem: BaseException, *words: str, verbose: int = 0) -> Result:
    """Run a command that fails with `problem`."""

    @click.command("fail")
    @json_option
    def fail() -> None:
        raise problem

    @click.pass_obj
    def root(state: State) -> None:
        state.verbose = verbose

    return CliRunner().invoke(Small("kbsync", commands={"fail": fail}, callback=root), ["fail", *words])


@pytest.mark.parametrize("cls", CLASSES)
def test_each_error_is_one_line_and_its_own_code(cls: type[KbsyncError]) -> None:
    """The text of an error is the line, also when it was broken into several."""
    result = run(cls("it broke\n  here"))
    assert result.exit_code == cls.exit_code
    assert result.stderr == "kbsync: it broke here\n"
    assert result.stdout == ""


@pytest.mark.parametrize("cls", CLASSES)
def test_each_error_has_one_shape_in_json(cls: type[KbsyncError]) -> None:
    """kind, message and exit_code on stdout, for a program; the line on stderr stays."""
    assert error(run(cls("it broke"), "--json")) == {
        "kind": cls.__name__,
        "message": "it broke",
        "exit_code": cls.exit_code,
    }


def test_the_unexpected_is_one_line_and_names_the_way_to_its_traceback() -> None:
    """A failure that has no name is told as such, without a traceback."""
    result = run(ZeroDivisionError("by zero"))
    assert result.exit_code == UNEXPECTED == 70
    assert result.stderr.count("\n") == 1
    assert "unexpected ZeroDivisionError: by zero" in result.stderr
    assert "-v" in result.stderr
    assert error(run(ZeroDivisionError("by zero"), "--json"))["kind"] == "ZeroDivisionError"


@pytest.mark.parametrize("problem", [ZeroDivisionError("by zero"), errors.StoreError("no store")])
def test_verbose_shows_the_traceback(problem: Exception) -> None:
    """With -v the traceback comes before the line."""
    result = run(problem, verbose=1)
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("kbsync: ")


def test_an_interrupt_says_what_stays() -> None:
    """Ctrl-C ends with 130 and one line."""
    result = run(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr == "kbsync: stopped; nothing was changed\n"


def test_a_wrong_command_line_is_an_error_like_any_other(call: Call) -> None:
    """An unknown option, a missing argument and a bad value end with 2, and have the shape in JSON."""
    for words in (["sql", "--nope"], ["sql"], ["sql", "SELECT 1", "--limit", "0"], ["checkpoint", "nope"]):
        result = call(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("kbsync: ")
        assert result.stderr.count("\n") == 1
        assert "--help`" in result.stderr
    assert error(call("sql", "--json"))["kind"] == "UsageError"
    assert error(call("sql", "--nope", "--json"))["kind"] == "UsageError"


def test_an_unknown_key_names_the_nearest(call: Call, config: Path) -> None:
    """A typing mistake in the file is told with the right spelling, before anything is opened."""
    config.write_text("[watch]\nrelatoins = []\n")
    result = call("status", "--json")
    assert error(result) == {
        "kind": "ConfigError",
        "message": f"{config}: unknown key watch.relatoins; did you mean watch.relations?",
        "exit_code": 2,
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_signals_end_a_real_command_with_130(config: Path, number: signal.Signals) -> None:
    """A waiting `trigger` that gets Ctrl-C or SIGTERM says in one line that the daemon answers all the same."""
    with open_store(url_of(config)) as store:
        with store.begin() as tx:
            daemons.start(tx, "elsewhere", 1, datetime.now(UTC))
        line = [sys.executable, "-m", "kbsync.cli.main", "-c", str(config), "trigger", "--wait"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            _until_asked(url_of(config), process)
            os.kill(process.pid, number)
            out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert err == "kbsync: stopped; the daemon answers trigger 1 all the same\n"


def _until_asked(url: str, process: subprocess.Popen[str]) -> None:
    from kbsync.store.query import run_sql

    deadline = time.monotonic() + 30
    while not run_sql(url, "SELECT 1 FROM triggers").rows:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)  # from the row to the wait


def test_a_reader_that_leaves_is_no_defect(told: Call, config: Path) -> None:
    """`kbsync sql … | head` ends quietly when head has had enough."""
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200000) SELECT i FROM n"
    line = [sys.executable, "-m", "kbsync.cli.main", "-c", str(config), "sql", query, "--csv", "--limit", "200000"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "i\n"
        process.stdout.close()
        assert process.stderr.read() == ""


def test_json_survives_what_a_store_may_hold(told: Call, stores: Stores) -> None:
    """Not-a-number and text of any kind come out as one valid document."""
    infinite, escape = ("9e999", "char(27)") if stores.name == "sqlite" else ("'inf'::float", "chr(27)")
    result = told("sql", f"SELECT {infinite} AS infinite, {escape} || '[31m' AS red, 'é' AS text", "--json")
    assert json.loads(result.stdout)["rows"] == [[None, "\x1b[31m", "é"]]
