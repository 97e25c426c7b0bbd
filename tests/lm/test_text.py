"""Text that is at hand everywhere, and dealt out so that drift is not measured on what the solve preserves."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from kbsync.errors import ConfigError
from kbsync.lm.text import drift_text, english, user_text


def test_drift_and_covariance_share_no_paragraph() -> None:
    """The held-out topics are not in the other text."""
    held_out = set(drift_text().split("\n"))
    assert len(held_out) > 50
    assert not held_out & set(english())


def test_the_texts_are_the_same_each_time() -> None:
    """Nothing in them is random."""
    assert drift_text() == drift_text()
    assert list(islice(english(), 200)) == list(islice(english(), 200))


def test_there_is_enough_of_both() -> None:
    """More than the default settings ask for, at four characters a token."""
    assert len(drift_text()) > 4 * 4000
    assert sum(map(len, english())) > 4 * 40_000


def test_the_users_files_are_read_by_paragraph(tmp_path: Path) -> None:
    """Empty lines part paragraphs; line breaks inside one are spaces."""
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("Ein Satz\nin zwei Zeilen.\n\n\n  \nŁódź.\n", encoding="utf-8")
    two.write_text("東京", encoding="utf-8")
    assert list(user_text([one, two])) == ["Ein Satz in zwei Zeilen.", "Łódź.", "東京"]


@pytest.mark.parametrize("data", [None, b"\xff\xfe\x00"])
def test_a_file_that_is_no_text_is_named(data: bytes | None, tmp_path: Path) -> None:
    """Missing, or not UTF-8."""
    path = tmp_path / "text.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"text\.txt can't be read as UTF-8"):
        list(user_text([path]))
