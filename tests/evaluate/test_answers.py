"""What an answer is, and what it names."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.evaluate.answers import answer_of, names


@pytest.mark.parametrize(
    ("said", "answer"),
    [("Lyon, the city", "Lyon"), ("  the \n city", "the"), ("Łódź (Poland)", "Łódź"), ("", ""), (". Lyon", "")],
)
def test_an_answer_ends_at_its_first_punctuation_mark(said: str, answer: str) -> None:
    """What comes after is another thought."""
    assert answer_of(said) == answer_of(f"{said}.") == answer


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("The capital is Rome.", "Rome"),
        ("Rome", "Rome"),
        ("ROME!", "rome"),
        ("Rome's mayor", "Rome"),
        ("Romeo lives in Rome", "Rome"),
        ("in New\n  York City", "New York"),
        ("the Straße of", "STRASSE"),
        ("cafe\u0301 owner", "caf\u00e9"),
        ("he works for Yahoo!", "Yahoo!"),
        ("Yahoo!s", "Yahoo!"),
        ("(Łódź)", "łódź"),
        ("ΑΘΉΝΑ.", "Αθήνα"),
        ("ﬁnance", "finance"),
    ],
)
def test_a_label_is_named_as_whole_words(answer: str, label: str) -> None:
    """Whatever its case, spacing, Unicode form, and the punctuation around it."""
    assert names(answer, label)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Romeo", "Rome"),
        ("Jerome", "Rome"),
        ("Rom", "Rome"),
        ("Newcastle York", "New York"),
        ("route 66b", "66"),
        ("हिन्दी", "हिन्द"),
        ("cafe\u0301", "cafe"),
        ("", "Rome"),
        ("Rome", ""),
        ("Rome", "  "),
    ],
)
def test_a_part_of_a_word_names_nothing(answer: str, label: str) -> None:
    """Nor does a word whose last letter bears another mark, nor anything a blank label."""
    assert not names(answer, label)


@given(st.text(max_size=20), st.text(max_size=8), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_the_form_does_not_matter(answer: str, label: str, form: str) -> None:
    """Two texts that look the same count the same, and every label that is not blank names itself."""
    again = unicodedata.normalize(form, answer)
    assert names(answer, label) == names(again, label) == names(answer, unicodedata.normalize(form, label))
    assert names(label, label) == bool(label.split())
