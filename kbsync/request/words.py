"""Labels and literals as they read in a sentence, or the named reason why they can't be said.

A label is never repaired: a name with something invisible in it would be taught to the model as it is, so
the fact is held under a name that says what is wrong with the label.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from decimal import Decimal, InvalidOperation

from kbsync.facts import UNTOLD_UNIT, Value, ValueKind
from kbsync.request.articles import takes_article
from kbsync.request.catalogue import ObjectForm, Relation
from kbsync.request.units import NO_UNIT, with_unit

MAX_LABEL = 200  # characters; Wikidata allows 250, names that long are titles of papers and treaties

NO_LABEL = "no label"
CONTROL_CHARACTERS = "label has control characters"
STRAY_SPACES = "label has stray spaces"
TOO_LONG = f"label over {MAX_LABEL} characters"
UNKNOWN_VALUE = "unknown value"
BAD_TIME = "time can't be read"
BAD_QUANTITY = "quantity can't be read"
ROUGH_TIME = "time known too roughly"
UNIT_NOT_KNOWN = "unit not known"
UNIT_WITHOUT_LABEL = "unit has no label"

YEAR, MONTH = 9, 10  # Wikidata's precisions of a time; 11 is the day, less than 9 a decade and more

# Joiners are part of how Persian and Indic names are spelled; every other format character is invisible.
_JOINERS = frozenset("\u200c\u200d")
_HIDDEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])

_TIME = re.compile(r"^([+-]?\d{1,9})-(\d\d)-(\d\d)(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?)?$")
_YEAR = re.compile(r"^([+-]?\d{1,9})$")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def label_fault(label: str | None) -> str | None:
    """Why `label` can't stand in a prompt, or None when it can."""
    if label is None or all(c.isspace() or c in _JOINERS for c in label):
        return NO_LABEL
    if any(unicodedata.category(c) in _HIDDEN and c not in _JOINERS for c in label):
        return CONTROL_CHARACTERS
    if label != label.strip():
        return STRAY_SPACES
    if len(label) > MAX_LABEL:
        return TOO_LONG
    return None


def object_text(value: Value, label: str | None, relation: Relation) -> tuple[str | None, str | None]:
    """(how `value` reads right after the prompt, None), or (None, the reason why it can't be said).

    `label` is the item's, or the unit's of a quantity; other literals need none. An item gets its article: "the
    United Kingdom".
    """
    if value.kind is ValueKind.UNKNOWN:
        return None, UNKNOWN_VALUE
    if value.kind is ValueKind.TIME:
        precision = int(value.detail) if value.detail.isdecimal() else None
        if precision is not None and precision < YEAR:
            return None, ROUGH_TIME
        text = time_text(value.text, relation.object is ObjectForm.YEAR, precision)
        return text, None if text else BAD_TIME
    if value.kind is ValueKind.QUANTITY:
        return _measure(value, label)
    name = label if value.kind is ValueKind.ITEM else value.text
    fault = label_fault(name)
    if fault is not None or name is None:
        return None, fault
    if value.kind is ValueKind.ITEM and takes_article(name, relation.object_article):
        return f"the {name}", None
    return name, None


def _measure(value: Value, unit: str | None) -> tuple[str | None, str | None]:
    number = quantity_text(value.text)
    if number is None:
        return None, BAD_QUANTITY
    if value.detail == UNTOLD_UNIT:
        return None, UNIT_NOT_KNOWN
    if value.detail in ("", NO_UNIT):
        return number, None
    fault = label_fault(unit)
    if fault is not None or unit is None:
        return None, UNIT_WITHOUT_LABEL if fault == NO_LABEL else fault
    return with_unit(number, unit), None


def time_text(iso: str, year_only: bool = False, precision: int | None = None) -> str | None:
    """A time in words: "1952", "March 1952", "11 March 1952", "44 BC"; None when it is not a time.

    `precision` is Wikidata's: 9 the year, 10 the month, 11 and more the day. Where it is not told, 1 January at
    midnight is how a source writes a time that is known to the year, so it is said as the year. Month or day 00
    are read the same way. Years are astronomical, as in XSD 1.1: 0 is 1 BC.
    """
    only = _YEAR.match(iso)
    match = _TIME.match(iso)
    if only is not None:
        return _year_text(int(only.group(1)))
    if match is None:
        return None
    year, month, day = (int(part) for part in match.groups())
    if month > 12 or not _is_day(year, month, day):
        return None
    if year_only or month == 0 or precision == YEAR or (precision is None and month == 1 and day <= 1):
        return _year_text(year)
    name = f"{_MONTHS[month - 1]} {_year_text(year)}"
    return name if day == 0 or precision == MONTH else f"{day} {name}"


def _year_text(year: int) -> str:
    return str(year) if year > 0 else f"{1 - year} BC"


def _is_day(year: int, month: int, day: int) -> bool:
    """Whether the day is in the calendar; Julian dates keep a 29 February that the Gregorian year lacks."""
    if month == 0 or day == 0:
        return True
    if (month, day) == (2, 29):
        return year % 4 == 0
    try:
        date(2001, month, day)
    except ValueError:
        return False
    return True


def quantity_text(number: str) -> str | None:
    """A decimal number in English: "8336817" → "8,336,817"; None when it is not a finite number."""
    try:
        value = Decimal(number)
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value.adjusted()) > 30:
        return None
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
