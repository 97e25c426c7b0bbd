"""JSON is taken for exactly what it has to be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kbsync.checkpoint import strict


@pytest.mark.parametrize(
    "content", ['{"a": 1, "a": 1}', '{"x": {"a": 1, "b": 2, "a": 3}}', "NaN", "[-Infinity]", "{"]
)
def test_what_python_lets_through_is_refused(content: str) -> None:
    """Doubled keys at any depth, NaN and infinity are no JSON."""
    with pytest.raises(ValueError, match=r"'a' is written twice|is not JSON|Expecting"):
        strict.parse(content)


def test_plain_json_is_parsed() -> None:
    """Tables, lists, texts and numbers come out as Python's."""
    assert strict.parse('{"a": [1, 2.5, null, true, "é"]}') == {"a": [1, 2.5, None, True, "é"]}


def test_exact_names_the_key_that_is_missing_or_too_many() -> None:
    """The first odd key is told, and whether it is missing or unknown."""
    assert strict.exact({"a": 1}, {"a"}, "here") == {"a": 1}
    with pytest.raises(ValueError, match="here has no key 'b'"):
        strict.exact({"a": 1}, {"a", "b"}, "here")
    with pytest.raises(ValueError, match="here has an unknown key 'c'"):
        strict.exact({"a": 1, "c": 1}, {"a"}, "here")


REFUSED: list[tuple[Callable[[Any, str], Any], Any]] = [
    (strict.table, []),
    (strict.table, None),
    (strict.items, {}),
    (strict.items, "ab"),
    (strict.text, 1),
    (strict.text, None),
    (strict.text, "\udc80"),
    (strict.sha256_hex, "0" * 63),
    (strict.sha256_hex, "0" * 64 + "\n"),
    (strict.sha256_hex, "٠" * 64),
    (strict.count, -1),
    (strict.count, 1.0),
    (strict.count, True),
    (strict.count, "1"),
    (strict.moment, "2026-01-01"),
    (strict.moment, "2026-13-01T00:00:00Z"),
    (strict.moment, 1_700_000_000),
    (strict.plain, {"a": [{"b": float("inf")}]}),
    (strict.plain, {"\ud800": 1}),
]


@pytest.mark.parametrize(("read", "value"), REFUSED)
def test_what_only_looks_right_is_refused(read: Callable[[Any, str], Any], value: object) -> None:
    """No value is converted, rounded or guessed."""
    with pytest.raises(ValueError, match=r"here|isoformat|month|surrogates"):
        read(value, "here")


def test_a_moment_is_read_in_utc() -> None:
    """An offset is turned into UTC."""
    read = strict.moment("2026-03-01T14:30:00+02:00", "here")
    assert read == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert read.tzinfo is UTC


def test_plain_values_pass_unchanged() -> None:
    """What is finite and UTF-8 comes back as the same object."""
    value = {"a": [1, 2.5, None, True, "é"], "b": {}}
    assert strict.plain(value, "here") is value
