"""Lines of a crontab: what is read, what is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.crontab import crontab_fields


@pytest.mark.parametrize(
    ("line", "field", "values"),
    [
        ("5 * * * *", 0, "5"),
        ("*/20 * * * *", 0, "0,20,40"),
        ("7/20 * * * *", 0, "7,27,47"),
        ("1-9/4,30 * * * *", 0, "1,5,9,30"),
        ("0 0-3 * * *", 1, "0,1,2,3"),
        ("0 0 29 2 *", 2, "29"),
        ("0 0 1 jan,JUL *", 3, "1,7"),
        ("0 4 * * 0", 4, "sun"),
        ("0 4 * * 7", 4, "sun"),
        ("0 4 * * 1-5", 4, "mon,tue,wed,thu,fri"),
        ("0 4 * * fri-sun", 4, "sun,fri,sat"),
        ("0 4 * * 5-0", 4, "sun,fri,sat"),
        ("0 4 * * *", 4, "sun,mon,tue,wed,thu,fri,sat"),
    ],
)
def test_fields(line: str, field: int, values: str) -> None:
    """Numbers, ranges, steps, lists and names."""
    assert crontab_fields(line)[field] == values


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("* * * *", "five fields"),
        ("60 * * * *", "no minute"),
        ("* 24 * * *", "no hour"),
        ("* * 0 * *", "no day"),
        ("* * * 13 *", "no month"),
        ("* * * * 8", "no weekday"),
        ("* * * * mon-xyz", "no weekday"),
        ("*/0 * * * *", "no minute"),
        ("9-3 * * * *", "no minute"),
        ("1, * * * *", "no minute"),
        ("- * * * *", "no minute"),
        ("0 0 last * *", "no day"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
    ],
)
def test_lines_that_can_not_be(line: str, words: str) -> None:
    """Each is refused with what is wrong; nobody waits for a 30th of February."""
    with pytest.raises(ValueError, match=words):
        crontab_fields(line)


@settings(max_examples=60)
@given(st.text(max_size=30) | st.lists(st.text("0123*/,-monja", max_size=6), min_size=5, max_size=5).map(" ".join))
def test_any_text(line: str) -> None:
    """Whatever it is, it is five fields or a ValueError."""
    with suppress(ValueError):
        assert len(crontab_fields(line)) == 5
