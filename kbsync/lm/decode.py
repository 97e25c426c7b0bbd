"""What a model says after many prompts at once, token by token.

Prompts are read as prefix trees whose attention keys and values are kept. What is said at a prompt grows as new
columns of its tree, each of which sees its own prompt and what was said there before; a token that stands in the
tree already (as a row's object, say) is not read again. So no prompt is padded to another one's length, and one
that has ended takes no more time. Models that go by columns get ordinary batches instead, padded on the left.

Index tensors stay in memory: keys and values of a model that is spread out lie on several devices.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from kbsync.lm.batch import Batch, align, near
from kbsync.lm.forest import Grove
from kbsync.lm.reader import Head, Reader

Asked = tuple[tuple[int, ...], int]
"""A prompt's token ids, and how many more are asked for."""

Pick = Callable[[Tensor, Sequence[Asked]], Tensor]
"""From logits (n, V) and the prompts that they belong to, to a token for each. It is called once for each token
that a prompt says."""


def greedy(logits: Tensor, asked: Sequence[Asked]) -> Tensor:
    """The most likely token of each."""
    del asked
    return logits.argmax(-1)


class Sampler:
    """Draws among the `top` most likely tokens, by their probabilities.

    Each prompt has its own random numbers, which depend on its tokens and the seed alone: what is said at it is
    not changed by who else is asked, and two models are asked with the same luck.
    """

    def __init__(self, top: int, seed: int) -> None:
        self.top = top
        self.seed = seed
        self._luck: dict[Asked, random.Random] = {}

    def __call__(self, logits: Tensor, asked: Sequence[Asked]) -> Tensor:
        for one in asked:
            if one not in self._luck:
                self._luck[one] = random.Random(f"{self.seed} {one[0]}")  # noqa: S311  no secret hangs on it
        drawn = torch.tensor([[self._luck[one].random()] for one in asked], device=logits.device)
        likely, tokens = logits.topk(min(self.top, logits.shape[-1]))  # (n, top), most likely first
        below = likely.softmax(-1).cumsum(-1) < drawn  # not the last one, whatever rounding does to the sum
        chosen = below[:, :-1].sum(-1, keepdim=True)
        return tokens.gather(1, chosen)[:, 0]


def end_ids(model: Any) -> frozenset[int]:
    """The tokens that end what the model says, by its generation config, which may name none, one or several."""
    ends: int | Sequence[int] | None = model.generation_config.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset([ends] if isinstance(ends, int) else ends)


class Prompts(Protocol):
    """Prompts that have been read, and take what is said after them."""

    def hidden(self, prompts: Sequence[int]) -> Tensor:
        """The last hidden states (n, d) of these prompts' last tokens."""
        ...

    def append(self, prompts: Sequence[int], tokens: Sequence[int]) -> None:
        """Put a token behind each of these prompts, and drop the others."""
        ...


def go_on(
    read: Prompts,
    head: Head,
    asked: Sequence[Asked],
    ends: frozenset[int],
    pick: Pick = greedy,
    enough: Callable[[Sequence[int]], bool] | None = None,
) -> list[list[int]]:
    """The tokens that follow each prompt: up to its limit, up to one of `ends` (which comes last), or until what
    was said is `enough`."""
    said: list[list[int]] = [[] for _ in asked]
    limits = [limit for _, limit in asked]
    going = [i for i, limit in enumerate(limits) if limit > 0]
    step = 0
    while going:
        tokens: list[int] = pick(head(read.hidden(going)), [asked[i] for i in going]).tolist()
        for i, token in zip(going, tokens, strict=True):
            said[i].append(token)
        step += 1
        going = [i for i in going if step < limits[i] and said[i][-1] not in ends]
        going = [i for i in going if enough is None or not enough(said[i])]
        if going:
            read.append(going, [said[i][-1] for i in going])
    return said


@dataclass(frozen=True, slots=True)
class _Grown:
    """The columns of a grove that has grown. `seen`: (P, Q, T) bool, what the newest Q columns see."""

    positions: Tensor
    seen: Tensor

    @property
    def real(self) -> Tensor:
        """A model that goes by columns reads no groves that grow."""
        raise NotImplementedError

    def mask(self, first: int, last: int, dtype: torch.dtype, window: int | None = None) -> Tensor:
        """Additive mask (P, 1, Q, T)."""
        seen = self.seen
        if window is not None:
            seen = seen & near(self.positions, first, last, window)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


class Tree:
    """A grove whose every token has been read (`read`: (P · T, d), last hidden states), and grows at `paths`: the
    flat indices of each prompt's tokens."""

    def __init__(self, reader: Reader, grove: Grove, paths: Sequence[Sequence[int]]) -> None:
        self._reader = reader
        self._cache = DynamicCache() if paths else None
        self.read = reader.hidden(grove.ids, grove, self._cache).flatten(0, 1)
        if not paths:
            return
        width = grove.ids.shape[1]
        device = grove.ids.device
        flat = grove.ids.flatten().tolist()
        self._child = {  # what stands behind each token of the grove, by token
            (a, flat[b]): b for path in grove.places.values() for a, b in pairwise(path)
        }
        self._width = width
        self._at: list[int | None] = [path[-1] for path in paths]  # None once a prompt has left the grove
        self._sequence = [path[-1] // width for path in paths]
        self._length = [len(path) for path in paths]
        self._kept = list(range(len(grove.ids)))  # the sequences that are still in the cache
        self._positions = grove.positions
        self._last = self.read[torch.tensor(self._at)]  # (n, d)
        self._seen = torch.zeros(len(paths), width, dtype=torch.bool, device=device)
        for row, path in enumerate(paths):
            self._seen[row, torch.tensor(path) % width] = True

    def hidden(self, prompts: Sequence[int]) -> Tensor:
        """The last hidden states (n, d) of these prompts' last tokens."""
        return self._last[torch.tensor(prompts)]

    def append(self, prompts: Sequence[int], tokens: Sequence[int]) -> None:
        """Put a token behind each of these prompts: one that stands there already, or a new column."""
        new: dict[int, int] = {}
        for prompt, token in zip(prompts, tokens, strict=True):
            here = self._at[prompt]
            there = None if here is None else self._child.get((here, token))
            self._at[prompt] = there
            self._length[prompt] += 1
            if there is None:
                new[prompt] = token
            else:
                self._last[prompt] = self.read[there]
                self._seen[prompt, there % self._width] = True
        self._keep(sorted({self._sequence[prompt] for prompt in prompts}))
        if new:
            self._grow(list(new), list(new.values()))

    def _keep(self, sequences: Sequence[int]) -> None:
        """Drop the sequences in which nothing more is said."""
        if len(sequences) < len(self._kept):
            chosen = torch.tensor([self._kept.index(one) for one in sequences])
            assert self._cache is not None
            self._cache.batch_select_indices(chosen)
            self._positions = self._positions[chosen]
            self._kept = list(sequences)

    def _grow(self, prompts: Sequence[int], tokens: Sequence[int]) -> None:
        device = self._positions.device
        place = {sequence: i for i, sequence in enumerate(self._kept)}
        lines = [place[self._sequence[prompt]] for prompt in prompts]
        count: Counter[int] = Counter()
        slots = []  # the prompts of one sequence stand side by side
        for line in lines:
            slots.append(count[line])
            count[line] += 1
        fresh, old = max(count.values()), self._positions.shape[1]
        where, row = (torch.tensor(lines), torch.tensor(slots)), torch.tensor(prompts)
        ids = torch.zeros(len(self._kept), fresh, dtype=torch.long, device=device)
        ids[where] = torch.tensor(tokens, device=device)
        positions = torch.zeros_like(ids)
        positions[where] = torch.tensor([self._length[prompt] - 1 for prompt in prompts], device=device)
        self._positions = torch.cat([self._positions, positions], 1)
        self._seen = torch.nn.functional.pad(self._seen, (0, fresh))
        self._seen[row, old + where[1]] = True
        seen = torch.zeros(*ids.shape, old + fresh, dtype=torch.bool, device=device)
        seen[:, :, old:] = torch.eye(fresh, dtype=torch.bool, device=device)  # padding sees itself
        seen[where] = self._seen[row]
        out = self._reader.hidden(ids, _Grown(self._positions, seen), self._cache)  # (P, Q, d)
        self._last[row] = out[where]


class Padded:
    """Prompts as one batch, padded on the left, for a model that goes by columns."""

    def __init__(self, reader: Reader, prompts: Sequence[Sequence[int]], device: torch.device) -> None:
        self._reader = reader
        self._cache = DynamicCache()
        self._batch = align(prompts, [len(prompt) - 1 for prompt in prompts], device)
        self._kept = list(range(len(prompts)))
        self._last = reader.hidden(self._batch.ids, self._batch, self._cache)[:, -1]

    def hidden(self, prompts: Sequence[int]) -> Tensor:
        """The last hidden states (n, d) of these prompts' last tokens."""
        return self._last[torch.tensor([self._kept.index(one) for one in prompts])]

    def append(self, prompts: Sequence[int], tokens: Sequence[int]) -> None:
        """Put a token behind each of these prompts, and drop the others."""
        batch = self._batch
        kept = torch.tensor([self._kept.index(one) for one in prompts])
        if len(prompts) < len(self._kept):
            self._cache.batch_select_indices(kept)
        self._kept = list(prompts)
        ids = torch.tensor(tokens, device=batch.ids.device)[:, None]
        positions, real = batch.positions[kept], batch.real[kept]
        self._batch = Batch(
            torch.cat([batch.ids[kept], ids], 1),
            torch.cat([positions, positions[:, -1:] + 1], 1),
            torch.cat([real, torch.ones_like(real[:, -1:])], 1),
            batch.anchor,
        )
        self._last = self._reader.hidden(ids, self._batch, self._cache)[:, -1]
