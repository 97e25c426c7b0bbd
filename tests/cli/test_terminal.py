"""Texts from outside on a terminal: escape sequences, control characters and direction marks are spelt out,
wherever they come from."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from kbsync.cli import show
from kbsync.cli.log import set_up
from kbsync.cli.main import cli
from tests.cli.conftest import Call, url_of
from tests.stores import chosen, execute

# Clears the screen; sets the window's title; the same in one character; overprints; turns the line round; rings.
EVIL = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\re\u202ef\u2066g\x7fh\x00i"
STORED = EVIL if chosen().name == "sqlite" else EVIL.replace("\x00", "")  # PostgreSQL keeps no NUL in a text
ESCAPE = "char(27)" if chosen().name == "sqlite" else "chr(27)"
STEERS = {"\x1b", "\x9b", "\x07", "\r", "\u202e", "\u2066", "\x7f", "\x00", "\x85", "\u2028"}


@pytest.fixture
def evil(told: Call, config: Path) -> Call:
    """A store in which an item, an object and a run's reason are called EVIL."""
    for sql in (
        "UPDATE entities SET label = :evil",
        "UPDATE edit_requests SET subject_label = :evil, target_new = :evil",
        "UPDATE runs SET reason = :evil",
    ):
        execute(url_of(config), sql, evil=STORED)
    return told


@pytest.mark.parametrize(
    "words",
    [
        ("sql", "SELECT label FROM entities"),
        ("sql", "SELECT label FROM entities", "--json"),
        ("sql", f"SELECT {ESCAPE} || '[2J' AS \"a\x1b[2J\""),
        ("sql", "SELECT nothing_\x9b31m FROM entities"),
        ("history", "Q30"),
        ("history", "Q30", "--json"),
        ("status",),
        ("status", "--json"),
        ("held",),
        ("held", "--json"),
        ("config", "show"),
        ("trigger", "--nope\x1b[2J"),
        ("checkpoint", "list"),
    ],
    ids=" ".join,
)
def test_no_command_prints_what_steers_a_terminal(
    evil: Call, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables, JSON, TOML and error lines alike, on stdout and on stderr."""
    monkeypatch.setenv("KBSYNC_SOURCE__CONTACT", EVIL.replace("\x00", ""))
    result = evil(*words)
    assert result.stdout or result.stderr
    assert not STEERS & set(result.stdout + result.stderr)


@pytest.mark.parametrize("there", [True, False])
def test_a_file_s_name_does_not_either(there: bool, tmp_path: Path) -> None:
    """A config that is there and wrong, and one that is not there."""
    file = tmp_path / EVIL.replace("\x00", "").replace("/", "")
    if there:
        file.write_text("[watch]\nnothing = 1\n")
    result = CliRunner().invoke(cli, ["-c", str(file), "config", "show", "--json"])
    assert result.exit_code == 2
    assert "2Jb" in result.stderr
    assert "2Jb" in result.stdout
    assert not STEERS & set(result.stdout + result.stderr)


def test_json_and_toml_read_back_what_was_there(evil: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs nothing is lost: the escapes are those of the format."""
    rows = json.loads(evil("sql", "SELECT label FROM entities LIMIT 1", "--json").stdout)["rows"]
    assert rows == [[STORED]]
    contact = EVIL.replace("\x00", "") + "\U000e0001"
    monkeypatch.setenv("KBSYNC_SOURCE__CONTACT", contact)
    assert tomllib.loads(evil("config", "show").stdout)["source"]["contact"] == contact
    assert json.loads(show.json_text(["\U000e0001 é"])) == ["\U000e0001 é"]


def test_csv_is_whole_in_a_pipe_and_harmless_on_a_terminal(evil: Call, config: Path) -> None:
    """A program reads every byte; a person's terminal gets none that steers it."""
    query = "SELECT label FROM entities LIMIT 1"
    piped = evil("sql", query, "--csv").stdout
    assert next(csv.reader(io.StringIO(piped.partition("\n")[2], newline=""))) == [STORED]
    master, slave = pty.openpty()
    line = [sys.executable, "-m", "kbsync.cli.main", "-c", str(config), "sql", query, "--csv"]
    subprocess.run(line, stdout=slave, check=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    os.close(slave)
    shown = os.read(master, 65536).decode().replace("\r\n", "\n")
    os.close(master)
    assert "a\\x1b[2Jb" in shown
    assert not STEERS & set(shown)


@pytest.fixture
def _log_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("kbsync")
    before = list(root.handlers), root.level, own.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level, own.level = before


@pytest.mark.parametrize("on_terminal", [True, False])
@pytest.mark.usefixtures("_log_as_before")
def test_no_log_line_steers_a_terminal(
    on_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Values, nested ones, library's words and what an exception says; on a terminal and in a file."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal, raising=False)
    set_up(1)
    log = structlog.get_logger("kbsync")
    log.info("label", label=EVIL, labels=[EVIL, {"a": EVIL}])
    logging.getLogger("library").warning("it says %s", EVIL)
    hidden = "a local variable"
    try:
        raise ValueError(EVIL)
    except ValueError:
        log.exception("it broke")
    told = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().err)  # the renderer's own colours
    assert told.count("2Jb") >= 5
    assert "ValueError" in told
    assert hidden not in told
    assert not (STEERS & set(told))
