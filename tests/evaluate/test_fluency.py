"""Entropy of n-grams and similarity of texts, against plain computations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.evaluate.fluency import TfIdf, entropy, words

TEXTS = st.lists(st.sampled_from(["the", "city", "of", "Rome", "is", "old", ","]), max_size=30).map(" ".join)


class TestEntropy:
    """Of bigrams and trigrams."""

    def test_by_hand(self) -> None:
        """`a b a b c`: bigrams ab twice, ba and bc once; trigrams aba, bab and abc once each."""
        bigrams = 0.5 * 1 + 2 * 0.25 * 2
        assert entropy("a b a b c") == pytest.approx((2 / 3 * bigrams + 4 / 3 * math.log2(3)) / 2)

    def test_one_word_over_and_over(self) -> None:
        """The worst there is."""
        assert entropy("go " * 40) == 0

    @pytest.mark.parametrize("text", ["", "Rome", " . "])
    def test_too_short_for_any(self, text: str) -> None:
        """Nothing can be told, and nothing is divided by 0."""
        assert entropy(text) == 0

    @given(TEXTS)
    def test_no_text_of_its_length_has_more(self, text: str) -> None:
        """The most is that of as many words which are all different."""
        most = " ".join(f"w{i}" for i in range(len(words(text))))
        assert 0 <= entropy(text) <= entropy(most) + 1e-9

    def test_case_does_not_count(self) -> None:
        """A word at the start of a sentence is the same word."""
        assert entropy("The city. the city. THE CITY.") == entropy("the city. the city. the city.")


class TestTfIdf:
    """Similarity by words."""

    DOCUMENTS = ("the city of Rome", "the opera", "the city of Paris")

    def test_by_hand(self) -> None:
        """`the` is in all three documents, `Rome` in one, `Naples` in none."""
        rome, naples = math.log(4 / 2) + 1, math.log(4 / 1) + 1
        own = TfIdf(self.DOCUMENTS)
        expected = 2 / (math.hypot(2, rome) * math.hypot(1, naples))
        assert own.similarity("The Rome, the", "Naples the!") == pytest.approx(expected)

    def test_a_rare_word_counts_more(self) -> None:
        """Two texts about Rome are more alike than two that share an article."""
        own = TfIdf(self.DOCUMENTS)
        assert own.similarity("the Rome", "a Rome") > own.similarity("the Rome", "the opera")

    @given(TEXTS, TEXTS)
    def test_it_is_a_cosine(self, one: str, other: str) -> None:
        """Symmetric, 1 for the same words in another order, between 0 and 1."""
        own = TfIdf(self.DOCUMENTS)
        assert own.similarity(one, other) == pytest.approx(own.similarity(other, one))
        assert 0 <= own.similarity(one, other) <= 1 + 1e-9
        again = " ".join(reversed(one.split()))
        assert own.similarity(one, again) == pytest.approx(1 if any(w != "," for w in words(one)) else 0)

    def test_no_documents(self) -> None:
        """Every word counts the same then."""
        assert TfIdf([]).similarity("a b", "b c") == pytest.approx(0.5)

    def test_texts_without_words(self) -> None:
        """They are like nothing."""
        assert TfIdf(self.DOCUMENTS).similarity(", .", ", .") == 0
