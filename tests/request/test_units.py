"""Numbers and their units in English."""

from __future__ import annotations

import pytest

from kbsync.facts import UNTOLD_UNIT, Value, ValueKind
from kbsync.request import words
from kbsync.request.units import NO_UNIT, plural, with_unit
from kbsync.request.words import object_text
from tests.request.facts_of import shipped


@pytest.mark.parametrize(
    ("unit", "several"),
    [
        ("metre", "metres"),
        ("square kilometre", "square kilometres"),
        ("kilometre per hour", "kilometres per hour"),
        ("gram per cubic metre", "grams per cubic metre"),
        ("inch of mercury", "inches of mercury"),
        ("foot", "feet"),
        ("inch", "inches"),
        ("century", "centuries"),
        ("day", "days"),
        ("degree Celsius", "degrees Celsius"),
        ("pound sterling", "pounds sterling"),
        ("United States dollar", "United States dollars"),
        ("Japanese yen", "Japanese yen"),
        ("euro", "euros"),
        ("percent", "percent"),
        ("hertz", "hertz"),
        ("°C", "°C"),
        ("", ""),
    ],
)
def test_units_in_the_plural(unit: str, several: str) -> None:
    """The noun that counts takes the plural, wherever it stands; symbols and measure words that have none keep."""
    assert plural(unit) == several


def test_one_is_singular() -> None:
    """One metre, and any other number of metres, also a fraction."""
    assert [with_unit(number, "metre") for number in ("1", "-1", "0", "1.5", "1,234")] == [
        "1 metre",
        "-1 metre",
        "0 metres",
        "1.5 metres",
        "1,234 metres",
    ]


@pytest.mark.parametrize(
    ("detail", "label", "expected"),
    [
        ("Q11573", "metre", ("1,234 metres", None)),
        (NO_UNIT, None, ("1,234", None)),
        ("", None, ("1,234", None)),
        ("Q11573", None, (None, words.UNIT_WITHOUT_LABEL)),
        ("Q11573", "me\u200btre", (None, words.CONTROL_CHARACTERS)),
        (UNTOLD_UNIT, None, (None, words.UNIT_NOT_KNOWN)),
    ],
)
def test_a_quantity_is_said_with_its_unit(
    detail: str, label: str | None, expected: tuple[str | None, str | None]
) -> None:
    """A number without its unit would be another fact: where the unit can't be said, the quantity is not."""
    assert (
        object_text(Value(ValueKind.QUANTITY, "1234", detail), label, shipped().relation("P1082", None)) == expected
    )


@pytest.mark.parametrize(
    ("iso", "detail", "expected"),
    [
        ("1879-01-01T00:00:00Z", "9", ("1879", None)),
        ("1879-03-14T00:00:00Z", "9", ("1879", None)),
        ("1879-03-01T00:00:00Z", "10", ("March 1879", None)),
        ("1879-01-01T00:00:00Z", "10", ("January 1879", None)),
        ("1879-03-14T00:00:00Z", "11", ("14 March 1879", None)),
        ("1879-01-01T00:00:00Z", "11", ("1 January 1879", None)),
        ("1879-01-01T00:00:00Z", "", ("1879", None)),
        ("1870-01-01T00:00:00Z", "8", (None, words.ROUGH_TIME)),
        ("1801-01-01T00:00:00Z", "7", (None, words.ROUGH_TIME)),
    ],
)
def test_a_time_is_said_as_exactly_as_its_precision(
    iso: str, detail: str, expected: tuple[str | None, str | None]
) -> None:
    """Year, month or day as Wikidata knows it; what is known to the decade or worse is not said."""
    assert object_text(Value(ValueKind.TIME, iso, detail), None, shipped().relation("P569", None)) == expected
