"""Text that is at hand everywhere, and dealt out so that drift is not measured on what the solve preserves."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from kbsync.errors import ConfigError
from kbsync.lm import text
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


def test_the_line_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    """A large file is not searched by hand; what comes before is given."""
    path = tmp_path / "text.txt"
    path.write_bytes(b"One.\n\nTwo.\n\nThree \xff.\n")
    read = user_text([path])
    assert next(read) == "One."
    with pytest.raises(ConfigError, match=r"text\.txt can't be read as UTF-8, line 5: invalid start byte"):
        list(read)
    path.write_bytes("Ł".encode()[:1])
    with pytest.raises(ConfigError, match=r"line 1: unexpected end of data"):
        list(user_text([path]))


@pytest.mark.parametrize("piece", [1, 2, 5, 16, 64])
def test_long_lines_and_paragraphs_lose_no_word(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come in pieces, cut between words, also where a letter lies across two reads."""
    monkeypatch.setattr(text, "_PIECE", piece)
    words = ["Ein", "langer", "Satz", "über", "Łódź,", "東京", "und", "Αθήνα;", "dann", "noch", "einer."]
    path = tmp_path / "text.txt"
    path.write_text(" ".join(words) + "\r\n  " + " ".join(words) + "\n \t\nNeu.", encoding="utf-8")
    found = list(user_text([path]))
    longest = max(len(word.encode()) for word in words)
    if piece > longest:
        assert " ".join(found).split() == [*words, *words, "Neu."]
        assert found[-1] == "Neu."
    assert "".join("".join(found).split()) == "".join([*words, *words, "Neu."])


def test_a_file_is_not_read_whole(tmp_path: Path) -> None:
    """One long line of many megabytes: the first piece is there before the rest is read."""
    path = tmp_path / "text.txt"
    path.write_bytes(b"word " * 2_000_000)
    first = next(iter(user_text([path])))
    assert len(first) < 100_000
