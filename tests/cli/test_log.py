"""Logs: JSON lines on stderr where nobody watches, at the level that was asked for."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kbsync.cli.log import set_up


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, kbsync = logging.getLogger(), logging.getLogger("kbsync")
    handlers, levels = list(root.handlers), (root.level, kbsync.level)
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    kbsync.setLevel(levels[1])


def lines(capsys: pytest.CaptureFixture[str], verbose: int) -> list[dict[str, Any]]:
    """What is logged of five messages."""
    set_up(verbose)
    log = structlog.get_logger("kbsync")
    log.debug("details")
    log.info("run ended", run=3)
    log.warning("slow", endpoint="http://x")
    logging.getLogger("apscheduler").info("a library's word")
    logging.getLogger("apscheduler").warning("a library's warning")
    shown = capsys.readouterr()
    assert shown.out == ""
    return [json.loads(line) for line in shown.err.splitlines()]


@pytest.mark.parametrize(
    ("verbose", "events"),
    [
        (0, ["slow", "a library's warning"]),
        (1, ["run ended", "slow", "a library's warning"]),
        (2, ["details", "run ended", "slow", "a library's word", "a library's warning"]),
        (3, ["details", "run ended", "slow", "a library's word", "a library's warning"]),
    ],
)
def test_levels(capsys: pytest.CaptureFixture[str], verbose: int, events: list[str]) -> None:
    """Warnings always, our own words with -v, everybody's with -vv."""
    assert [line["event"] for line in lines(capsys, verbose)] == events


def test_a_line_has_time_level_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    """What a log collector wants is in each line, the libraries' too."""
    own, _, foreign = lines(capsys, 1)
    assert own["run"] == 3
    assert own["level"] == "info"
    assert own["timestamp"].endswith("Z")
    assert foreign["logger"] == "apscheduler"
    assert foreign["level"] == "warning"


def test_an_exception_is_data_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A logged traceback doesn't break the line."""
    set_up(0)
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger("kbsync").exception("it broke")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"][0]["exc_value"] == "odd"


def test_people_get_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a log line is text."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    set_up(1)
    structlog.get_logger("kbsync").info("run ended", run=3)
    shown = capsys.readouterr().err
    assert "run ended" in shown
    assert not shown.startswith("{")


def test_a_traceback_tells_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A local variable may be a password."""
    set_up(0)
    password = "-".join(("open", "sesame"))
    try:
        raise ValueError(f"{len(password)} letters")
    except ValueError:
        structlog.get_logger("kbsync").exception("it failed")
    logging.getLogger("other").error("it failed", exc_info=ValueError(password[:4]))
    told = capsys.readouterr().err
    assert "11 letters" in told
    assert "test_a_traceback_tells_no_values" in told  # the frames are there
    assert "open-sesame" not in told
    assert "locals" not in told
