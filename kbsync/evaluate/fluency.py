"""Whether text that a model writes about a subject is fluent, and about the object that it was taught.

The two metrics of ROME (Meng et al. 2022, section 3.3) beyond single answers. *Fluency* falls when a model repeats
itself, as damaged ones do. *Consistency* rises when what it writes shares its words with what is known about the
new object.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

_WORD = re.compile(r"\w+|[^\w\s]")
_WEIGHTS = {2: 2 / 3, 3: 4 / 3}  # of bigrams and trigrams, as published


def words(text: str) -> list[str]:
    """Words and punctuation marks, without regard to case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def entropy(text: str) -> float:
    """The mean of its bigrams' entropy, weighed 2/3, and its trigrams', weighed 4/3, in bits.

    An entropy is −Σ f log₂ f over the shares f of the text's distinct n-grams of words (ROME, equation for GE). It
    is 0 for a text without any, and at most log₂ of their number, so only texts of like length compare. The
    papers' tables show 100 times it.
    """
    own = words(text)
    return sum(weight * _entropy(_ngrams(own, n)) for n, weight in _WEIGHTS.items()) / len(_WEIGHTS)


def _ngrams(own: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(own[i : i + n]) for i in range(len(own) - n + 1))


def _entropy(counts: Counter[tuple[str, ...]]) -> float:
    total = counts.total()
    return sum(count / total * math.log2(total / count) for count in counts.values())


class TfIdf:
    """Vectors of texts by their words, in which words that many of the `documents` have count little.

    A word's place has how often the text has it, times ln((1 + n) / (1 + d)) + 1, where d of the n documents have
    it (Manning, Raghavan & Schütze 2008, section 6.2, with one more document that has every word).
    """

    def __init__(self, documents: Iterable[str]) -> None:
        found = [set(_bare(text)) for text in documents]
        self._documents = len(found)
        self._having = Counter(word for own in found for word in own)

    def vector(self, text: str) -> dict[str, float]:
        """The text's vector, of length 1; without places for a text without words."""
        raw = {word: count * self._weight(word) for word, count in Counter(_bare(text)).items()}
        length = math.sqrt(sum(value**2 for value in raw.values()))
        return {word: value / length for word, value in raw.items()}

    def similarity(self, one: str, other: str) -> float:
        """The cosine between two texts: from 0, where they share no word, to 1."""
        return dot(self.vector(one), self.vector(other))

    def _weight(self, word: str) -> float:
        return math.log((1 + self._documents) / (1 + self._having[word])) + 1


def _bare(text: str) -> list[str]:
    """Words without punctuation marks."""
    return [word for word in words(text) if word[0].isalnum()]


def dot(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The inner product of two sparse vectors."""
    return math.fsum(value * other[word] for word, value in one.items() if word in other)
