"""Whether a label looks like a name, and which of an item's labels is believed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kbsync.trust.standing import label_stretches

_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|\[\[|\]\]|\{\{|\}\}|'''|&(?:[a-z]+|#\d+);|==")
_ADDRESS = re.compile(r"://|\bwww\.|\S@\S+\.\w")
_REPEATED = re.compile(r"(\w)\1{4,}|([^\w\s.])\2{2,}|([A-Za-z]{2,4})\3{3,}")
_LOOKALIKES = frozenset({"LATIN", "CYRILLIC", "GREEK"})  # alphabets whose letters pass for one another
_DIGITS, _MARKS = 0.6, 0.5  # shares of a label from which on it is no name
_SHORT = 6  # characters: a year or a number alone is a name ("1984")


@dataclass(frozen=True, slots=True)
class Named:
    """The label that is believed (None: none is), and what speaks against the one that the item has now.

    `until` is when that can change by itself; `since` is when the present label came.
    """

    label: str | None
    reason: str | None = None
    until: datetime | None = None
    since: datetime | None = None


def believed_label(
    past: Sequence[tuple[str | None, datetime]],
    label: str | None,
    settling: timedelta,
    now: datetime,
    length: int | None,
    approved: bool = False,
) -> Named:
    """The last label that stood for `settling` and looks like a name. `length` None: any look will do.

    A label that was `approved` by hand is believed at once.
    """
    since = past[-1][1] if past else None
    if label is None or approved:
        return Named(label, None, None, since)
    odd = strange(label, length)
    believed = next(
        (one for one, _ in reversed(label_stretches(past, label, settling, now)) if strange(one, length) is None),
        None,
    )
    if believed == label:
        return Named(label, None, None, since)
    if odd is not None:
        return Named(believed, f"label {odd}", None, since)
    return Named(believed, "label settling", (since or now) + settling, since)


def strange(label: str, length: int | None) -> str | None:
    """What makes `label` unlike a name, in words that go on from "label"; None when nothing does."""
    if length is None:
        return None
    if len(label) > length:
        return "too long"
    if any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp") for c in label):
        return "with control characters"
    if _MARKUP.search(label):
        return "with markup"
    if _ADDRESS.search(label):
        return "with an address"
    if _REPEATED.search(label):
        return "with repeated characters"
    if not any(c.isalnum() for c in label):
        return "without letters or digits"
    if len(label) > _SHORT:
        if sum(c.isdigit() for c in label) > _DIGITS * len(label):
            return "mostly of digits"
        if sum(unicodedata.category(c)[0] in "PS" for c in label) > _MARKS * len(label):
            return "mostly of punctuation"
    if any(len(_alphabets(word) & _LOOKALIKES) > 1 for word in re.split(r"[\W_]+", label)):
        return "of mixed alphabets"
    return None


def _alphabets(word: str) -> set[str]:
    """The alphabets of a word's letters, by the first word of their Unicode names."""
    return {unicodedata.name(c, "").partition(" ")[0] for c in word if c.isalpha()}
