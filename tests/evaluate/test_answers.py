"""What counts as an answer."""

from __future__ import annotations

import pytest

from kbsync.evaluate.answers import answer_of


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("Paris, the city", "Paris"),
        ("Paris. It", "Paris"),
        ("the  city of\tLight (France)", "the city of Light"),
        ('Łódź"', "Łódź"),
        ("Paris\nLyon", "Paris"),
        ("in Paris and", "in Paris and"),
        (", which", ""),
        ("", ""),
    ],
)
def test_an_answer_ends_at_the_first_punctuation_mark(said: str, answer: str) -> None:
    """Case and words are as they were said; spaces are single."""
    assert answer_of(said) == answer
