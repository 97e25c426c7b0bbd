"""What a model says at a prompt: log-probabilities of objects, greedy answers, perplexity of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kbsync.lm.batch import by_length
from kbsync.lm.decode import Asked, Padded, Pick, Sampler, Tree, end_ids, go_on, greedy
from kbsync.lm.place import main_device
from kbsync.lm.reader import Head, Reader
from kbsync.lm.rows import Row

_PADDED = 32  # prompts of one padded batch
_LONG = 32  # tokens from which on what is said outweighs what prompts have in common: each gets its own columns


@dataclass(frozen=True, slots=True)
class Score:
    """`logp`: mean natural-log probability per token of the row's object (its length does not count against it);
    `greedy`: greedy decoding from the prompt says exactly the object."""

    logp: float
    greedy: bool


def score_rows(model: Any, rows: Sequence[Row], on_batch: Callable[[int], None] | None = None) -> list[Score]:
    """Score each row's object; what rows have in common is read once, and so is each position's vocabulary.

    Rows must have an object. Each distinct row is scored once; `on_batch` is told how many rows were done.
    """
    return _score_and_go_on(model, rows, [], on_batch=on_batch)[0]


def say(model: Any, tokenizer: Any, rows: Sequence[Row], tokens: int, one_line: bool = True) -> list[str]:
    """Greedy continuations of up to `tokens` tokens; objects in the rows are ignored.

    With `one_line`, the first line that is not blank, without spaces around it; else all that was said. Nothing
    but the most likely token counts, whatever the model's own generation config asks for; that config's EOS tokens
    end a continuation.
    """
    return score_and_say(model, tokenizer, [], [(row, tokens) for row in rows], one_line=one_line)[1]


def score_and_say(
    model: Any,
    tokenizer: Any,
    scored: Sequence[Row],
    asked: Sequence[tuple[Row, int]],
    on_batch: Callable[[int], None] | None = None,
    one_line: bool = True,
) -> tuple[list[Score], list[str]]:
    """`score_rows` of `scored`, and what `say` gives for each row of `asked` in up to so many tokens.

    All is read together, so a prompt costs nothing where its objects are scored too, nor do the tokens of an
    object that is also what the model says. `on_batch` is told how many rows were scored.
    """
    prompts = [(row.ids[: len(row.ids) - row.target_len], tokens) for row, tokens in asked]
    enough = _line_is_complete(tokenizer) if one_line else None
    scores, said = _score_and_go_on(model, scored, prompts, enough=enough, on_batch=on_batch)
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in said]
    return scores, [_first_line(text) for text in texts] if one_line else texts


def sample(model: Any, tokenizer: Any, rows: Sequence[Row], tokens: int, top: int, seed: int) -> list[str]:
    """Continuations of up to `tokens` tokens, each drawn among the `top` most likely ones; else as `say`, all of
    what was said. The same seed draws the same text at a prompt, whoever else is asked."""
    prompts = [(row.ids[: len(row.ids) - row.target_len], tokens) for row in rows]
    said = _score_and_go_on(model, [], prompts, Sampler(top, seed))[1]
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in said]


@torch.inference_mode()
def _score_and_go_on(
    model: Any,
    rows: Sequence[Row],
    prompts: Sequence[Asked],
    pick: Pick = greedy,
    enough: Callable[[Sequence[int]], bool] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[list[Score], list[list[int]]]:
    """Scores of `rows`, and the tokens that follow each of `prompts`; each distinct one once."""
    device = main_device(model)
    distinct, asked = list(dict.fromkeys(rows)), list(dict.fromkeys(prompts))
    scores: dict[Row, Score] = {}
    said: dict[Asked, list[int]] = {}
    reader, head, ends = Reader(model), Head(model), end_ids(model)
    planted = [] if reader.by_column else asked
    apart = any(limit > _LONG for _, limit in asked)
    for grove in reader.plant([*(row.inputs for row in distinct), *(ids for ids, _ in planted)], device, apart):
        part = {distinct[number]: place for number, place in grove.places.items() if number < len(distinct)}
        here = {asked[n - len(distinct)]: place for n, place in grove.places.items() if n >= len(distinct)}
        tree = Tree(reader, grove, list(here.values()))
        if part:
            scores.update(_score(head, tree.read, part))
        said.update(zip(here, go_on(tree, head, list(here), ends, pick, enough), strict=True))
        if on_batch is not None and part:
            on_batch(len(part))
    left = [] if planted else asked
    for batch in by_length([len(ids) for ids, _ in left], _PADDED):
        some = [left[i] for i in batch]
        read = Padded(reader, [ids for ids, _ in some], device)
        said.update(zip(some, go_on(read, head, some, ends, pick, enough), strict=True))
    return [scores[row] for row in rows], [said[prompt] for prompt in prompts]


def _score(head: Head, hidden: Tensor, part: Mapping[Row, tuple[int, ...]]) -> dict[Row, Score]:
    """Scores of rows; `part` has the index in `hidden` (n, d) of each of their input tokens."""
    spots = [spot for row, place in part.items() for spot in place[row.first_scored :]]
    read, which = torch.tensor(spots, device=hidden.device).unique(return_inverse=True)  # type: ignore[no-untyped-call]
    targets = torch.tensor([token for row in part for token in row.targets], device=hidden.device)
    logits = head(hidden[read])  # (distinct positions, V)
    logp = logits[which, targets] - logits.logsumexp(-1)[which]
    right = logits.argmax(-1)[which] == targets
    lengths = [row.target_len for row in part]
    return {
        row: Score(float(a.mean()), bool(b.all()))
        for row, a, b in zip(part, torch.split(logp, lengths), torch.split(right, lengths), strict=True)
    }


@torch.inference_mode()
def perplexity(model: Any, ids: Sequence[int], bos: int | None, chunk: int = 256) -> float:
    """exp of the mean NLL per token of a text, read in chunks of `chunk` tokens, each after BOS (if any)."""
    device = main_device(model)
    total, count = 0.0, 0
    for at in range(0, len(ids), chunk):
        piece = ([bos] if bos is not None else []) + list(ids[at : at + chunk])
        if len(piece) < 2:
            continue
        row = torch.tensor([piece], device=device)
        logp = model(input_ids=row, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        total -= float(logp.gather(1, row[0, 1:, None]).sum())
        count += len(piece) - 1
    return float(torch.tensor(total / max(count, 1)).exp())


def _line_is_complete(tokenizer: Any) -> Callable[[Sequence[int]], bool]:
    """Whether the first line of what was said is there to its end: nothing after it will be looked at."""
    breaks: dict[int, bool] = {}

    def enough(said: Sequence[int]) -> bool:
        last = said[-1]
        if last not in breaks:
            breaks[last] = "\n" in tokenizer.decode([last])
        return breaks[last] and "\n" in tokenizer.decode(said, skip_special_tokens=True).lstrip()

    return enough


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0].strip()
