"""One prompt, asked of the base model and of the synced one."""

from __future__ import annotations

from dataclasses import dataclass

from kbsync.sync.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Answer:
    """Greedy continuations of a prompt. `checkpoint` is the published one; None: the base model is live."""

    prompt: str
    base: str
    synced: str
    checkpoint: str | None


def answer(bench: Workbench, prompt: str, tokens: int = 20, chat: bool = False) -> Answer:
    """Continue `prompt` with both models; `chat` asks it as a user's turn in the model's chat template.

    Where the model can read no further, the answer ends. Raises ModelError when the model has no chat template, or
    can't read so long a prompt, and ConfigError for an empty one.
    """
    from kbsync.checkpoint.tensors import apply_tensors
    from kbsync.errors import ConfigError, ModelError
    from kbsync.facts import Prompt
    from kbsync.lm.score import say

    text = prompt.strip()
    if not text:
        raise ConfigError("the prompt is empty")
    base = bench.base
    whole = Prompt(text, 0, len(text))
    row = base.encoder.chat(whole) if chat else base.encoder.plain(whole)
    if row is None:
        raise ModelError(f"{base.spec} has no chat template; ask without --chat")
    if base.encoder.longest is not None:  # the last token is said, and not read
        tokens = min(tokens, base.encoder.longest - len(row.ids) + 1)
    before = say(base.model, base.tokenizer, [row], tokens)[0]
    originals, live = bench.load_live()
    if live is None:
        return Answer(text, before, before, None)
    try:
        after = say(base.model, base.tokenizer, [row], tokens)[0]
    finally:
        apply_tensors(base.model, originals)
    return Answer(text, before, after, live.name)
