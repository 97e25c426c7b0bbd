"""Labels and literals: what can stand in a prompt, and how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.facts import Value, ValueKind
from kbsync.request import words
from kbsync.request.words import label_fault, object_text, quantity_text, time_text
from tests.request.facts_of import shipped


@pytest.mark.parametrize(
    ("label", "fault"),
    [
        (None, words.NO_LABEL),
        ("", words.NO_LABEL),
        ("\u200d", words.NO_LABEL),
        ("\u200c \u200c", words.NO_LABEL),
        ("   ", words.NO_LABEL),
        ("Jo\x00hn", words.CONTROL_CHARACTERS),
        ("two\nlines", words.CONTROL_CHARACTERS),
        ("tab\there", words.CONTROL_CHARACTERS),
        ("\u200eMark", words.CONTROL_CHARACTERS),
        ("Mark\u200f", words.CONTROL_CHARACTERS),
        ("a\u202eb", words.CONTROL_CHARACTERS),
        ("a\u2066b\u2069", words.CONTROL_CHARACTERS),
        ("\ufeffBOM", words.CONTROL_CHARACTERS),
        ("zero\u200bwidth", words.CONTROL_CHARACTERS),
        ("line\u2028end", words.CONTROL_CHARACTERS),
        ("lone \ud800 surrogate", words.CONTROL_CHARACTERS),
        (" Paris", words.STRAY_SPACES),
        ("Paris\u00a0", words.STRAY_SPACES),
        ("x" * 201, words.TOO_LONG),
        ("x" * 200, None),
        ("Paris", None),
        ("{}", None),
        ("{0.__class__} %s ${HOME}", None),
        ("محمد بن سلمان", None),
        ("می\u200cخواهم", None),
        ("東京都", None),
        ("O'Brien–Smith, Jr.", None),
    ],
)
def test_label_faults(label: str | None, fault: str | None) -> None:
    """A label that can't be read as it looks has a named fault; braces and right-to-left text have none."""
    assert label_fault(label) == fault


@given(st.text(max_size=250))
def test_a_label_without_fault_is_short_and_visible(label: str) -> None:
    """Whatever comes from outside: no fault means trimmed, non-empty, at most 200 characters on one line."""
    if label_fault(label) is None:
        assert label == label.strip()
        assert 0 < len(label) <= 200
        assert len(label.splitlines()) == 1
        label.encode()


@pytest.mark.parametrize(
    ("iso", "text"),
    [
        ("1952-01-01T00:00:00Z", "1952"),
        ("1952-03-11T00:00:00Z", "11 March 1952"),
        ("+1952-03-11T00:00:00Z", "11 March 1952"),
        ("1952-03-01T00:00:00Z", "1 March 1952"),
        ("1952-01-02T00:00:00Z", "2 January 1952"),
        ("1952-03-00T00:00:00Z", "March 1952"),
        ("1952-00-00T00:00:00Z", "1952"),
        ("1952-12-31", "31 December 1952"),
        ("0797-01-01", "797"),
        ("-0043-03-15T00:00:00Z", "15 March 44 BC"),
        ("0000-01-01T00:00:00Z", "1 BC"),
        ("1952", "1952"),
        ("2000-02-29", "29 February 2000"),
        ("1900-02-29", "29 February 1900"),
        ("2001-02-29", None),
        ("1952-13-01", None),
        ("1952-02-30", None),
        ("1952-01-32", None),
        ("around 1952", None),
        ("1952-03-11T00:00:00Z; DROP", None),
        ("", None),
    ],
)
def test_times_are_said_as_exactly_as_they_are_known(iso: str, text: str | None) -> None:
    """1 January at midnight stands for a year, 00 for an unknown part; anything else is a day or no time."""
    assert time_text(iso) == text


def test_a_year_relation_says_only_the_year() -> None:
    """Inception (P571) is said as its year even where the day is known."""
    inception = shipped().relation("P571", None)
    value = Value(ValueKind.TIME, "1998-09-04T00:00:00Z")
    assert object_text(value, None, inception) == ("1998", None)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("8336817", "8,336,817"),
        ("+8336817", "8,336,817"),
        ("-12", "-12"),
        ("3.50", "3.5"),
        ("100", "100"),
        ("100.00", "100"),
        ("1E+3", "1,000"),
        ("0", "0"),
        ("NaN", None),
        ("Infinity", None),
        ("1E+999999", None),
        ("many", None),
        ("", None),
    ],
)
def test_quantities_are_said_in_english(number: str, text: str | None) -> None:
    """Thousands are grouped and trailing zeros of the fraction dropped; what is no number is not said."""
    assert quantity_text(number) == text


@pytest.mark.parametrize(
    ("value", "label", "expected"),
    [
        (Value(ValueKind.ITEM, "Q145"), "United Kingdom", ("the United Kingdom", None)),
        (Value(ValueKind.ITEM, "Q17"), "Japan", ("Japan", None)),
        (Value(ValueKind.ITEM, "Q17"), None, (None, words.NO_LABEL)),
        (Value(ValueKind.UNKNOWN, ""), None, (None, words.UNKNOWN_VALUE)),
        (Value(ValueKind.UNKNOWN, "t123"), "Japan", (None, words.UNKNOWN_VALUE)),
        (Value(ValueKind.STRING, "United Kingdom"), None, ("United Kingdom", None)),
        (Value(ValueKind.STRING, "a\u202eb"), None, (None, words.CONTROL_CHARACTERS)),
        (Value(ValueKind.MONOLINGUAL, "Liberté"), None, ("Liberté", None)),
        (Value(ValueKind.TIME, "soon"), None, (None, words.BAD_TIME)),
        (Value(ValueKind.QUANTITY, "lots"), None, (None, words.BAD_QUANTITY)),
    ],
)
def test_objects_by_kind(value: Value, label: str | None, expected: tuple[str | None, str | None]) -> None:
    """Items get their article, literals stay as they are, and what can't be said comes with its reason."""
    assert object_text(value, label, shipped().relation("P17", None)) == expected
