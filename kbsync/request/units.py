"""A number and its unit in English: "1,234 metres", "1 metre", "12 percent", "88 kilometres per hour"."""

from __future__ import annotations

NO_UNIT = "Q199"  # Wikidata's item 1: the number counts or is a ratio

_SAME = frozenset({"baht", "hertz", "lux", "percent", "rand", "renminbi", "siemens", "won", "yen", "yuan"})
_IRREGULAR = {
    "foot": "feet",
    "krona": "kronor",
    "krone": "kroner",
    "person": "people",
    "złoty": "złotys",
}
_HEAD_FIRST = frozenset({"degree", "pound"})  # "degree Celsius", "pound sterling": the first word takes the s
_HEAD_BEFORE = (" per ", " of ")  # "kilometre per hour", "inch of mercury"
_HISSING = ("s", "x", "z", "ch", "sh")


def with_unit(number: str, unit: str) -> str:
    """`number`, as it is written, with the label of its unit behind it: in the plural unless it is one."""
    return f"{number} {unit if number in ('1', '-1') else plural(unit)}"


def plural(unit: str) -> str:
    """The plural of a unit's English label. Symbols and words that have none stay as they are."""
    for mark in _HEAD_BEFORE:
        head, found, rest = unit.partition(mark)
        if found:
            return f"{plural(head)}{found}{rest}"
    words = unit.split(" ")
    place = 0 if words[0] in _HEAD_FIRST else len(words) - 1
    return " ".join([*words[:place], _plural(words[place]), *words[place + 1 :]])


def _plural(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _SAME or not word.isalpha():
        return word
    if word.endswith(_HISSING):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + "s"
