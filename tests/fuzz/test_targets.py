"""Whatever comes from outside ends in a value or in a named error, at every place that reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings

from kbsync.errors import ConfigError
from tests.fuzz.draw import Draw, Target, named
from tests.fuzz.drive import Watched
from tests.fuzz.strategies import inputs
from tests.fuzz.targets import TARGETS

EXAMPLES = 50


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_named_errors_gets_through(name: str) -> None:
    """The seeds, and inputs that are nearly right."""
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)

    @settings(max_examples=EXAMPLES, derandomize=True, database=None)
    @given(inputs(target))
    def run(data: bytes) -> None:
        target.run(data[: target.most])

    run()


def test_an_error_of_several_lines_is_a_finding() -> None:
    """An error with a line break, without words, or with what can't be printed does not get through; others do."""
    for said in ("a\nb", "", "\ud800"):
        with pytest.raises((AssertionError, UnicodeEncodeError)), named():
            raise ConfigError(said)
    with named(KeyError):
        raise ConfigError("one line")
    with named(KeyError):
        raise KeyError
    with pytest.raises(KeyError), named():
        raise KeyError


def test_bytes_are_read_from_front_to_back() -> None:
    """Choices and texts; past the end all is 0 or empty."""
    draw = Draw(b"\x05ab\x1f\xff\x1f")
    assert (draw.number(4), draw.text(), draw.text(), draw.more) == (1, "ab", "\udcff", False)
    assert (draw.pick("xyz"), draw.text()) == ("x", "")


class Ended(Exception):
    """In place of the end of the process."""


def test_a_finding_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The driver goes on after one, keeps one input for each place, and ends with code 1."""

    def run(data: bytes) -> None:
        if data.startswith(b"x"):
            raise KeyError(data)

    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", end)
    watched = Watched(Target("mine", run, (b"",)), tmp_path, inputs=4, seconds=60)
    for data in (b"a", b"x1", b"x2"):
        watched(data)
    with pytest.raises(Ended, match="1"):
        watched(b"b")
    said = json.loads(capsys.readouterr().out)
    assert (said["target"], said["inputs"], len(said["found"])) == ("mine", 4, 1)
    (file,) = tmp_path.iterdir()
    assert file.read_bytes() == b"x1"
