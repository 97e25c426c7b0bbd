"""Token rows as prefix trees: what rows have in common is read once.

Prompts repeat themselves: the template around a question, the words before a subject, a prompt before each of its
objects. Here rows become trees of tokens, and several trees one sequence in preorder, in which a token sees its
ancestors and nothing else. A subtree is then a run of columns, so the mask is two comparisons, and there is no
padding but at the end of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kbsync.lm.batch import additive, by_length, near

SIZE = 256  # columns of one sequence: attention's share grows with it, what is shared does too
_ROOM = {"cpu": 2048}  # tokens of one forward pass; more on other devices
_MUCH_ROOM = 8192


@dataclass(frozen=True, slots=True)
class Grove:
    """Trees as padded sequences, ready for a forward pass.

    `ids`, `positions` (depth in the tree): (P, T) int64. `ends`: (P, T), the column behind each token's subtree.
    `real`: (P, T) bool, False at padding. `places[row]`: the flat indices (sequence · T + column) of that row's
    tokens, for each row that is here.
    """

    ids: Tensor
    positions: Tensor
    ends: Tensor
    real: Tensor
    places: dict[int, tuple[int, ...]]

    def mask(self, first: int, last: int, dtype: torch.dtype, window: int | None = None) -> Tensor:
        """Additive mask (P, 1, Q, last) for the queries in columns `first:last` over keys `0:last`.

        With `window`, a token sees that many positions back, its own included.
        """
        columns = torch.arange(last, device=self.ids.device)
        query = columns[None, first:last, None]
        seen = (columns[None, None] <= query) & (query < self.ends[:, None, :last])  # (P, Q, last)
        if window is not None:
            seen = seen & near(self.positions, first, last, window)
        return additive(seen, dtype)


class _Sequence:
    """One sequence under construction, rows being added in lexicographic order."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.ends: list[int] = []
        self.places: dict[int, tuple[int, ...]] = {}
        self._last: Sequence[int] = ()
        self._path: tuple[int, ...] = ()

    def shared(self, row: Sequence[int]) -> int:
        """How many of the row's first tokens are here already."""
        count = 0
        for mine, its in zip(self._last, row, strict=False):
            if mine != its:
                break
            count += 1
        return count

    def add(self, number: int, row: Sequence[int]) -> None:
        shared = self.shared(row)
        first = len(self.ids)
        path = self._path[:shared] + tuple(range(first, first + len(row) - shared))
        for depth in range(shared, len(row)):
            self.ids.append(row[depth])
            self.positions.append(depth)
            self.ends.append(0)
        for column in path:  # every ancestor's subtree now reaches to here
            self.ends[column] = len(self.ids)
        self.places[number] = path
        self._last, self._path = row, path


def plant(
    rows: Sequence[Sequence[int]], device: torch.device, size: int = SIZE, room: int | None = None
) -> list[Grove]:
    """Every row in a grove. Rows may not be empty; equal rows share all their tokens.

    A sequence has at most `size` columns unless one row is longer (0: every distinct row stands alone); a grove
    has at most `room` padded tokens unless one sequence is longer. Equal input makes equal groves.
    """
    sequences: list[_Sequence] = []
    for number in sorted(range(len(rows)), key=lambda i: (rows[i], i)):
        row = rows[number]
        if sequences:
            here = sequences[-1]
            fresh = len(row) - here.shared(row)
            if fresh and len(here.ids) + fresh > size:
                sequences.append(_Sequence())
        else:
            sequences.append(_Sequence())
        sequences[-1].add(number, row)
    if room is None:
        room = _ROOM.get(device.type, _MUCH_ROOM)
    groups = by_length([len(one.ids) for one in sequences], len(sequences), room)
    return [_grove([sequences[i] for i in group], device) for group in groups]


def _grove(sequences: Sequence[_Sequence], device: torch.device) -> Grove:
    width = max(len(one.ids) for one in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    positions = torch.zeros_like(ids)
    ends = torch.arange(1, width + 1).repeat(len(sequences), 1)  # padding is seen by itself alone
    real = torch.zeros_like(ids, dtype=torch.bool)
    places: dict[int, tuple[int, ...]] = {}
    for p, one in enumerate(sequences):
        length = len(one.ids)
        ids[p, :length] = torch.tensor(one.ids)
        positions[p, :length] = torch.tensor(one.positions)
        ends[p, :length] = torch.tensor(one.ends)
        real[p, :length] = True
        for number, path in one.places.items():
            places[number] = tuple(p * width + column for column in path)
    ids, positions, ends, real = (tensor.to(device) for tensor in (ids, positions, ends, real))
    return Grove(ids, positions, ends, real, dict(sorted(places.items())))
