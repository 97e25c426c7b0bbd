"""What a model says at a prompt: log-probabilities of objects, greedy answers, perplexity of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kbsync.lm.batch import align, by_length
from kbsync.lm.forest import Grove
from kbsync.lm.place import main_device
from kbsync.lm.reader import Head, Reader
from kbsync.lm.rows import Row


@dataclass(frozen=True, slots=True)
class Score:
    """`logp`: mean natural-log probability per token of the row's object (its length does not count against it);
    `greedy`: greedy decoding from the prompt says exactly the object."""

    logp: float
    greedy: bool


@torch.inference_mode()
def score_rows(model: Any, rows: Sequence[Row], on_batch: Callable[[int], None] | None = None) -> list[Score]:
    """Score each row's object; what rows have in common is read once, and so is each position's vocabulary.

    Rows must have an object. Each distinct row is scored once; `on_batch` is told how many rows were done.
    """
    device = main_device(model)
    distinct = list(dict.fromkeys(rows))
    scores: dict[Row, Score] = {}
    reader, head = Reader(model), Head(model)
    for grove in reader.plant([row.inputs for row in distinct], device):
        part = {distinct[number]: place for number, place in grove.places.items()}
        scores.update(_score_grove(reader, head, grove, part))
        if on_batch is not None:
            on_batch(len(part))
    return [scores[row] for row in rows]


def _score_grove(reader: Reader, head: Head, grove: Grove, part: Mapping[Row, tuple[int, ...]]) -> dict[Row, Score]:
    """Scores of the rows of one grove; `part` has the flat index of each of their input tokens."""
    device = grove.ids.device
    hidden = reader.hidden(grove).flatten(0, 1)  # (P·T, d)
    spots = [spot for row, place in part.items() for spot in place[row.first_scored :]]
    read, which = torch.tensor(spots, device=device).unique(return_inverse=True)  # type: ignore[no-untyped-call]
    targets = torch.tensor([token for row in part for token in row.targets], device=device)
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


@torch.inference_mode()
def say(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    tokens: int,
    batch_size: int = 32,
    on_batch: Callable[[int], None] | None = None,
) -> list[str]:
    """Greedy continuations of up to `tokens` tokens, one line each; objects in the rows are ignored."""
    prompts = [row.ids[: len(row.ids) - row.target_len] for row in rows]
    said: dict[tuple[int, ...], str] = {}
    device = main_device(model)
    distinct = list(dict.fromkeys(prompts))
    for indices in by_length([len(p) for p in distinct], batch_size):
        part = [distinct[i] for i in indices]
        batch = align(part, [len(p) - 1 for p in part], device)
        out = model.generate(
            input_ids=batch.ids,
            attention_mask=batch.real.long(),
            max_new_tokens=tokens,
            do_sample=False,
            repetition_penalty=1.0,  # a model's own generation config may ask for more than greedy decoding
            no_repeat_ngram_size=0,
            pad_token_id=tokenizer.eos_token_id or 0,
        )
        texts = tokenizer.batch_decode(out[:, batch.ids.shape[1] :], skip_special_tokens=True)
        said.update(zip(part, (_first_line(text) for text in texts), strict=True))
        if on_batch is not None:
            on_batch(len(part))
    return [said[prompt] for prompt in prompts]


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0].strip()
