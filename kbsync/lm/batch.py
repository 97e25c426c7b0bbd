"""Rows as padded tensors, aligned at a column, with positions and masks that make padding invisible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Batch:
    """Token rows around an anchor column.

    `ids`, `positions`: (R, T) int64; `real`: (R, T) bool, False at padding; column `anchor` holds each row's
    anchor token (the subject's last one), so what is before it is padded on the left, what follows on the right.
    """

    ids: Tensor
    positions: Tensor
    real: Tensor
    anchor: int

    def mask(self, first: int, last: int, dtype: torch.dtype, window: int | None = None) -> Tensor:
        """Additive causal mask (R, 1, Q, last) for the queries in columns `first:last` over keys `0:last`.

        With `window`, a token sees that many positions back, its own included.
        """
        columns = torch.arange(last, device=self.ids.device)
        causal = columns[None, :] <= columns[first:last, None]  # (Q, last)
        seen = causal[None] & self.real[:, None, :last]  # (R, Q, last)
        if window is not None:
            seen = seen & near(self.positions, first, last, window)
        # A padded query sees itself: a row of nothing but the lowest number would be uniform over padding.
        seen = seen | (columns[None, :] == columns[first:last, None])[None]
        return additive(seen, dtype)


def near(positions: Tensor, first: int, last: int, window: int) -> Tensor:
    """Which keys `0:last` lie less than `window` positions before the queries `first:last`, (R, Q, last)."""
    return positions[:, first:last, None] - positions[:, None, :last] < window


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Which key each query sees, (R, Q, last), as what is added to the scores, (R, 1, Q, last)."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def align(rows: Sequence[Sequence[int]], anchors: Sequence[int], device: torch.device, pad: int = 0) -> Batch:
    """Pad `rows` so that each row's token at its anchor index lies in one column. Rows may not be empty."""
    before = max(anchors)
    after = max(len(row) - anchor for row, anchor in zip(rows, anchors, strict=True))
    ids = torch.full((len(rows), before + after), pad, dtype=torch.long)
    positions = torch.zeros_like(ids)
    real = torch.zeros(ids.shape, dtype=torch.bool)
    for i, (row, anchor) in enumerate(zip(rows, anchors, strict=True)):
        first = before - anchor
        ids[i, first : first + len(row)] = torch.tensor(row, dtype=torch.long)
        positions[i, first : first + len(row)] = torch.arange(len(row))
        real[i, first : first + len(row)] = True
    return Batch(ids.to(device), positions.to(device), real.to(device), before)


def one_below_the_other(batches: Sequence[Batch]) -> Batch:
    """The rows of several batches as one, padded to the longest before and behind the anchor."""
    before = max(batch.anchor for batch in batches)
    behind = max(batch.ids.shape[1] - batch.anchor for batch in batches)

    def rows(name: str) -> Tensor:
        parts: list[Tensor] = []
        for batch in batches:
            tensor: Tensor = getattr(batch, name)
            pad = before - batch.anchor, behind - (tensor.shape[1] - batch.anchor)
            parts.append(functional.pad(tensor, pad))  # zeros, which in `real` is False
        return torch.cat(parts)

    return Batch(rows("ids"), rows("positions"), rows("real"), before)


def by_length(lengths: Sequence[int], size: int, tokens: int | None = None) -> list[list[int]]:
    """Indices in batches of similar length, longest first.

    At most `size` rows a batch, and at most `tokens` padded tokens where given. The order depends only on the
    lengths and the given order, so equal input makes equal batches.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        full = not batches or len(batches[-1]) >= size
        if not full and tokens is not None:
            full = (len(batches[-1]) + 1) * lengths[batches[-1][0]] > tokens
        if full:
            batches.append([])
        batches[-1].append(i)
    return batches
