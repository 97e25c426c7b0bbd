"""Other subjects in a request's own words: what is said of them is watched while z is solved.

Keys of like subjects are alike in a small model, so what is written for one is heard at others, in part. A δ that
says its object in full dose and nothing under a part of it, at a subject that is not its own, does them less harm.
"""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.facts import EditRequest, Prompt, digest


class Others:
    """True facts in plain sentences ("The capital of Japan is Tokyo."), by the words around their subjects.

    z depends on them, so they must not change while z are kept: `hash`, over all of them, is part of what a z is
    kept under. It is None where there are none. It is asked for with each z, so it is taken once.
    """

    def __init__(self, sentences: Sequence[str] = ()) -> None:
        self.sentences = tuple(sentences)
        self.hash = digest(list(self.sentences)) if self.sentences else None
        self._found: dict[tuple[str, str], list[Prompt]] = {}

    def like(self, request: EditRequest) -> Prompt | None:
        """A request's prompt with another subject, of the sentences, in it; None where no sentence has its words.

        Which one depends on the request's content alone.
        """
        own = request.rewrite
        prompts = self._in_words(own.text[: own.start], own.text[own.end :])
        if not prompts:
            return None
        first = int(request.content_hash[:8], 16)
        for shift in range(2):  # a subject stands in one relation's words once, but for namesakes
            prompt = prompts[(first + shift) % len(prompts)]
            if prompt.subject != own.subject:
                return prompt
        return None

    def beside(self, requests: Sequence[EditRequest], most: int) -> list[Prompt]:
        """Prompts with other subjects in the words of these requests: all there are, or `most` from all over them.

        They are the same in whatever order the requests are.
        """
        words = {(one.rewrite.text[: one.rewrite.start], one.rewrite.text[one.rewrite.end :]) for one in requests}
        prompts = list(dict.fromkeys(prompt for own in sorted(words) for prompt in self._in_words(*own)))
        if len(prompts) <= most:
            return prompts
        return [prompts[i * len(prompts) // most] for i in range(most)]

    def _in_words(self, head: str, tail: str) -> list[Prompt]:
        """Each sentence of the form `head` subject `tail` object, without its object; none where nothing tells the
        subject's end from the object."""
        found = self._found.get((head, tail))
        if found is None:
            found = []
            for sentence in self.sentences if tail.strip() else ():
                end = sentence.find(f"{tail} ", len(head) + 1)
                if sentence.startswith(head) and end > 0:
                    found.append(Prompt(sentence[:end] + tail, len(head), end))
            self._found[head, tail] = found
        return found
