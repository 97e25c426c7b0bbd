"""Text that base model and candidate write about edited subjects: is it fluent, does it speak of the new object.

Both models are given the same prompts and the same luck. What the text is compared with is said by facts that are
at hand: the sentences of those that have the new object as their object or subject.
"""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.bench.edits import descriptions
from kbsync.evaluate.fluency import TfIdf, entropy
from kbsync.facts import EditRequest
from kbsync.request.catalogue import Catalogue
from kbsync.sync.workbench import Workbench

TOKENS = 60  # of one text
TOP = 5  # most likely tokens that are drawn from, as ROME's evaluation does


class Writing:
    """A text about each of some edits' subjects, with `seed` for luck."""

    def __init__(
        self, catalogue: Catalogue, requests: Sequence[EditRequest], seed: int, real: bool = False
    ) -> None:
        self._requests = tuple(requests)
        self._seed = seed
        self._about = descriptions(catalogue, real)
        self._words = TfIdf(self._about.values())

    def measure(self, bench: Workbench) -> dict[str, dict[str, float]]:
        """`fluency` and `consistency` of the model as it is now, each by content hash.

        An edit whose new object nothing is known of has no consistency.
        """
        from kbsync.lm.score import sample

        base = bench.base
        rows = [base.encoder.plain(request.generation) for request in self._requests]
        with bench.progress.stage("write"):
            said = sample(base.model, base.tokenizer, rows, TOKENS, TOP, self._seed)
        found: dict[str, dict[str, float]] = {"fluency": {}, "consistency": {}}
        for request, more in zip(self._requests, said, strict=True):
            text = request.generation.text + more
            found["fluency"][request.content_hash] = entropy(text)
            about = self._about.get(request.fact.value.text)
            if about is not None:
                found["consistency"][request.content_hash] = self._words.similarity(text, about)
        return found
