"""What counts as a model's answer: the first words that it says, up to where they end."""

from __future__ import annotations

ANSWER_TOKENS = 5  # most tokens of a neighbor's answer: enough to tell objects apart, too few for a new thought

_STOPS = '.,;:!?\n("'


def answer_of(said: str) -> str:
    """A greedy continuation up to its first punctuation mark, spaces made single."""
    cut = min((said.find(c) for c in _STOPS if c in said), default=len(said))
    return " ".join(said[:cut].split())
