"""What counts as a model's answer: the first words that it says, up to where they end; and what an answer names."""

from __future__ import annotations

import unicodedata

ANSWER_TOKENS = 5  # most tokens of a neighbor's answer: enough to tell objects apart, too few for a new thought
CHAT_TOKENS = 24  # most tokens of an answer to a question in the chat template: room for one sentence

_STOPS = '.,;:!?\n("'


def answer_of(said: str) -> str:
    """A greedy continuation up to its first punctuation mark, spaces made single."""
    cut = min((said.find(c) for c in _STOPS if c in said), default=len(said))
    return " ".join(said[:cut].split())


def names(answer: str, label: str) -> bool:
    """Whether `label` stands in `answer` as whole words, whatever their case, spacing and Unicode form.

    A word goes on with letters, digits and the marks upon them, so "Rome" is named by "in rome's" and not by
    "Romeo". A label that is blank is named by nothing.
    """
    text, wanted = _folded(answer), _folded(label)
    if not wanted:
        return False
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        cuts_before = at > 0 and _goes_on(text[at - 1]) and _goes_on(wanted[0])
        cuts_behind = end < len(text) and _goes_on(text[end]) and _goes_on(wanted[-1])
        if not cuts_before and not cuts_behind:
            return True
        at = text.find(wanted, at + 1)
    return False


def _folded(text: str) -> str:
    """Caseless by Unicode's compatibility matching (The Unicode Standard, section 3.13), spaces made single."""
    once = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())
    return " ".join(unicodedata.normalize("NFKC", once.casefold()).split())


def _goes_on(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"
