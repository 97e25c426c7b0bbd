"""Labels: which one is believed, and what no name looks like."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kbsync.trust.labels import Named, believed_label, strange
from tests.trust.lines import hour

DAY = timedelta(hours=24)

NAMES = (
    "Angela Merkel", "1984", "2001: A Space Odyssey", "Yahoo!", "AT&T", "Panic! at the Disco", "C++", "Ødegård",
    "Élisabeth Borne", "東京", "AKB48", "Tシャツ", "Москва", "β-carotene", "S.S.C. Napoli", "(433) Eros", "M*A*S*H",
    "Llanfairpwllgwyngyll", "Amazon.com", "Sigur Rós", "O'Neill", "Wilhelm II.", "President of Chile", "Apollo 11",
    "...And Justice for All", "Kazakhstan Premier League 2024", "XXX", "Angstschweiß", "Hawaiʻi", "Дом-2 (TV)",
)  # fmt: skip
ODD = {
    "aaaaaaaaa": "repeated", "hahahahaha": "repeated", "Bob!!!!": "repeated", "<b>Bob</b>": "markup",
    "[[Bob]]": "markup", "{{Bob}}": "markup", "'''Bob'''": "markup", "https://bob.example": "address",
    "www.bob.example": "address", "write bob@bob.example": "address", "?!": "without letters",
    "+49 170 12345678": "digits", "B-_*;:~/(o)b": "punctuation", "Вob": "alphabets", "pаypal": "alphabets",
    "a\x07b": "control", "x" * 4 + " y" * 70: "long",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name(name: str) -> None:
    """Real names of many kinds pass."""
    assert strange(name, 120) is None


@pytest.mark.parametrize("label", ODD)
def test_what_no_name_looks_like(label: str) -> None:
    """Each is told by what makes it odd; with the checks off nothing is."""
    found = strange(label, 120)
    assert found is not None
    assert ODD[label] in found
    assert strange(label, None) is None


def test_a_new_label_settles() -> None:
    """The old one is used for a day; a revert in that time leaves nothing."""
    past = [("Bob", hour(0))]
    assert believed_label(past, "Rob", DAY, hour(5), 120) == Named("Bob", "label settling", hour(24), hour(0))
    assert believed_label(past, "Rob", DAY, hour(24), 120) == Named("Rob", None, None, hour(0))
    back = [*past, ("Rob", hour(5))]
    assert believed_label(back, "Bob", DAY, hour(6), 120).label == "Bob"
    assert believed_label(back, "Bob", DAY, hour(6), 120).reason is None
    assert believed_label(past, "Rob", timedelta(0), hour(0), 120).label == "Rob"


def test_an_odd_label_is_never_used() -> None:
    """However long it stands, the last one that looks like a name is; where there is none, nothing is."""
    assert believed_label([("Bob", hour(0))], "Bobbbbbbb", DAY, hour(500), 120) == Named(
        "Bob", "label with repeated characters", None, hour(0)
    )
    assert believed_label([], "[[Bob]]", DAY, hour(0), 120) == Named(None, "label with markup", None, None)
    assert believed_label([], "[[Bob]]", DAY, hour(0), 120, approved=True).label == "[[Bob]]"


def test_a_new_item_waits_for_its_name() -> None:
    """An item that came with its label a moment ago has none to fall back on."""
    assert believed_label([(None, hour(0))], "Bob", DAY, hour(1), 120) == Named(
        None, "label settling", hour(24), hour(0)
    )
    assert believed_label([(None, hour(0))], "Bob", DAY, hour(24), 120).label == "Bob"
    assert believed_label([("Bob", hour(0))], None, DAY, hour(1), 120).label is None
