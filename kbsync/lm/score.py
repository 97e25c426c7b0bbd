"""What a model says at a prompt: log-probabilities of objects, greedy answers, perplexity of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kbsync.lm.batch import align, by_length
from kbsync.lm.rows import Row


@dataclass(frozen=True, slots=True)
class Score:
    """`logp`: mean natural-log probability per token of the row's object (its length does not count against it);
    `greedy`: greedy decoding from the prompt says exactly the object."""

    logp: float
    greedy: bool


class _Fork:
    """A prompt once, and behind it every object that is scored there, each blind to the others.

    Tokens: the prompt, then each object without its last token. An object's first token is spoken about by the
    prompt's last position, the others by the object's own tokens.
    """

    def __init__(self, prompt: tuple[int, ...], rows: list[Row]) -> None:
        self.rows = rows
        self.ids = list(prompt)
        self.positions = list(range(len(prompt)))
        self.branch = [0] * len(prompt)  # 0: the prompt, which everything sees
        self.spots: list[list[int]] = []
        for number, row in enumerate(rows, start=1):
            at = len(self.ids)
            self.ids += row.targets[:-1]
            self.positions += range(len(prompt), len(prompt) + row.target_len - 1)
            self.branch += [number] * (row.target_len - 1)
            self.spots.append([len(prompt) - 1, *range(at, at + row.target_len - 1)])


@torch.inference_mode()
def score_rows(
    model: Any, rows: Sequence[Row], batch_size: int = 32, on_batch: Callable[[int], None] | None = None
) -> list[Score]:
    """Score each row's object; a prompt is read once for all of its objects.

    The vocabulary projection is done at the objects' positions only. Rows must have an object. Each distinct row
    is scored once; `batch_size` counts prompts. `on_batch` is told how many rows were done.
    """
    prompts: dict[tuple[int, ...], list[Row]] = {}
    for row in dict.fromkeys(rows):
        prompts.setdefault(row.ids[: len(row.ids) - row.target_len], []).append(row)
    forks = [_Fork(prompt, own) for prompt, own in prompts.items()]
    scores: dict[Row, Score] = {}
    for indices in by_length([len(fork.ids) for fork in forks], batch_size):
        part = [forks[i] for i in indices]
        found = _score_part(model, part)
        scores.update(found)
        if on_batch is not None:
            on_batch(len(found))
    return [scores[row] for row in rows]


def _score_part(model: Any, forks: Sequence[_Fork]) -> dict[Row, Score]:
    head = model.get_output_embeddings()
    device, dtype = head.weight.device, head.weight.dtype
    width = max(len(fork.ids) for fork in forks)
    ids = torch.zeros(len(forks), width, dtype=torch.long)
    positions = torch.zeros_like(ids)
    branch = torch.full_like(ids, -1)  # -1: padding, which only sees itself
    for i, fork in enumerate(forks):
        size = len(fork.ids)
        ids[i, :size] = torch.tensor(fork.ids)
        positions[i, :size] = torch.tensor(fork.positions)
        branch[i, :size] = torch.tensor(fork.branch)
    column = torch.arange(width)
    before = column[None, :] <= column[:, None]  # (T, T): query, key
    seen = before & ((branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None]))  # (R, T, T)
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
    hidden = model.base_model(
        input_ids=ids.to(device),
        position_ids=positions.to(device),
        attention_mask=mask.to(device),
        use_cache=False,
    ).last_hidden_state  # (R, T, d)
    flat = [
        (i, row, spots) for i, fork in enumerate(forks) for row, spots in zip(fork.rows, fork.spots, strict=True)
    ]
    picked = torch.cat([hidden[i, spots] for i, _, spots in flat])  # (Σn, d)
    targets = torch.tensor([t for _, row, _ in flat for t in row.targets], device=device)
    logits = head(picked).float()  # (Σn, V)
    logp = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    right = logits.argmax(-1) == targets
    lengths = [row.target_len for _, row, _ in flat]
    return {
        row: Score(float(a.mean()), bool(b.all()))
        for (_, row, _), a, b in zip(flat, logp.split(lengths), right.split(lengths), strict=True)
    }


@torch.inference_mode()
def perplexity(model: Any, ids: Sequence[int], bos: int | None, chunk: int = 256) -> float:
    """exp of the mean NLL per token of a text, read in chunks of `chunk` tokens, each after BOS (if any)."""
    device = model.get_output_embeddings().weight.device
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
    device = model.get_output_embeddings().weight.device
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
