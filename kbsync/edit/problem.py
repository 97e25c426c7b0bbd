"""The loss of z for a batch of requests, set up so that one evaluation runs only what δ can change.

Everything below the last critical layer and before the subject's last token is constant, so it is computed once:
evaluations run only the layers above, over the tokens from the subject's last one on, and project to the vocabulary
only where something is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  the library's own habit

from kbsync.edit.adapters import Adapter, Top
from kbsync.edit.prefix import PrefixCache
from kbsync.edit.repeatable import add_at
from kbsync.lm.batch import Batch, align, one_below_the_other
from kbsync.lm.rows import Row

# Rows are set up together when their tokens after the subject differ by less than the first, and those before it
# (a chat template puts dozens there) by less than the second.
_BUCKET, _PREFIX_BUCKET = 4, 24
# What it costs to run a group by itself, in tokens: weights are read anew, and a kernel has its own start. And the
# tokens that a token attends to for as much again as its own products cost. Measured on two cores; see `_merged`.
# On other devices groups stay apart: batches are cut there by what rows take in memory without more padding.
_APART, _ATTENTION = 64, 256


class Member(NamedTuple):
    """A row of request number `owner`, which is given `dose` times δ. A context has no `weight`: it is asked for
    the object. The others are asked for their last token's distribution, whose KL from the base model's counts
    this much in the loss."""

    row: Row
    owner: int
    dose: float = 1.0
    weight: float | None = None


class _Group:
    """Rows of like length after the subject, set up so that a step costs only what δ can change.

    `owner[r]` is the request of row r, `members[r]` what it is there for.
    """

    def __init__(
        self,
        top: Top,
        members: Sequence[Member],
        owner: Tensor,
        batch: Batch,
        cache: PrefixCache,
        suffix: Tensor,
        base_logp: Tensor | None = None,
    ) -> None:
        self.top = top
        self.device = top.device
        self.members = list(members)
        self.owner = owner
        self.batch = batch
        self.cache = cache
        self.suffix = suffix  # (R, S, d): hidden states below, from the subject's last token on
        self._index()
        self.base_logp = self._base_logp() if base_logp is None else base_logp

    @classmethod
    @torch.no_grad()
    def frozen(cls, adapter: Adapter, top: Top, layer: int, members: Sequence[Member]) -> _Group:
        """With all that is constant run: all columns up to `layer`, and the prefix through the layers above."""
        rows = [member.row for member in members]
        batch = align([row.inputs for row in rows], [row.subject_last for row in rows], top.device)
        owner = torch.tensor([member.owner for member in members], device=top.device)
        cache, anchor = PrefixCache(), batch.anchor
        below = adapter.run(batch, (0, batch.ids.shape[1]), (0, layer + 1))  # (R, P+S, d)
        if anchor:
            top.run(batch, (0, anchor), below[:, :anchor], cache)
        cache.frozen = True
        return cls(top, members, owner, batch, cache, below[:, anchor:])

    @classmethod
    def joined(cls, groups: Sequence[_Group]) -> _Group:
        """The rows of several groups as one."""
        behind = max(group.suffix.shape[1] for group in groups)
        return cls(
            groups[0].top,
            [member for group in groups for member in group.members],
            torch.cat([group.owner for group in groups]),
            one_below_the_other([group.batch for group in groups]),
            PrefixCache.joined([group.cache for group in groups], [len(group.members) for group in groups]),
            torch.cat([F.pad(g.suffix, (0, 0, 0, behind - g.suffix.shape[1])) for g in groups]),
            torch.cat([group.base_logp for group in groups if len(group.base_logp)] or [groups[0].base_logp]),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, and their padded tokens before and from the subject's last one on."""
        return len(self.members), self.batch.anchor, self.suffix.shape[1]

    def _index(self) -> None:
        """Where the logits are needed: (row, column) of each object token, and of the end of each other row."""
        spots, targets, owners, weights, ends, end_owners, end_weights = [], [], [], [], [], [], []
        for i, (member, owner) in enumerate(zip(self.members, self.owner.tolist(), strict=True)):
            row = member.row
            if member.weight is not None:
                ends.append((i, len(row.inputs) - 1 - row.subject_last))
                end_owners.append(owner)
                end_weights.append(member.weight)
                continue
            for j, token in enumerate(row.targets):
                spots.append((i, row.first_scored + j - row.subject_last))
                targets.append(token)
                owners.append(owner)
                weights.append(1.0 / row.target_len)
        whole = partial(torch.tensor, device=self.device, dtype=torch.long)
        self.spots, self.ends = whole(spots).reshape(-1, 2).T, whole(ends).reshape(-1, 2).T
        self.targets, self.spot_owner, self.end_owner = whole(targets), whole(owners), whole(end_owners)
        real = partial(torch.tensor, device=self.device, dtype=torch.float32)
        self.spot_weight, self.end_weight = real(weights), real(end_weights)
        self.dose = real([member.dose for member in self.members])[:, None]

    def _forward(self, delta_rows: Tensor) -> Tensor:
        """Hidden states (R, S, d) after the final norm, with δ added at the subject's last token."""
        first = self.suffix[:, :1].float() + delta_rows[:, None]
        hidden = torch.cat([first.to(self.suffix.dtype), self.suffix[:, 1:]], dim=1)
        return self.top.run(self.batch, (self.batch.anchor, self.batch.ids.shape[1]), hidden, self.cache)

    @torch.no_grad()
    def _base_logp(self) -> Tensor:
        """What the model as it is says where only a distribution is asked for, (E, V); nothing is run where it is
        not."""
        if not len(self.end_owner):
            return torch.empty(0, device=self.device)
        return self._end_logp(self._forward(torch.zeros_like(self.suffix[:, 0])))

    def _end_logp(self, hidden: Tensor) -> Tensor:
        """Log-probabilities at the end of each row that has a weight, (E, V)."""
        return self.top.logits(hidden[self.ends[0], self.ends[1]]).log_softmax(-1)

    def add_losses(self, delta: Tensor, nll: Tensor, kl: Tensor) -> tuple[Tensor, Tensor]:
        """`nll` and `kl` (requests,) with this group's share added: NLL summed over contexts, mean over tokens; KL
        by its weights."""
        hidden = self._forward(delta[self.owner] * self.dose)
        if len(self.targets):
            logits = self.top.logits(hidden[self.spots[0], self.spots[1]])
            per_token = F.cross_entropy(logits, self.targets, reduction="none") * self.spot_weight
            nll = add_at(nll, self.spot_owner, per_token)
        if len(self.end_owner):
            logp = self._end_logp(hidden)
            away = (logp.exp() * (logp - self.base_logp)).sum(-1)  # KL(edited ‖ base)
            kl = add_at(kl, self.end_owner, away * self.end_weight)
        return nll, kl

    def keep(self, renumber: dict[int, int]) -> bool:
        """Drop the rows of requests that are not in `renumber` (old number → new); False when none is left."""
        rows = [i for i, owner in enumerate(self.owner.tolist()) if owner in renumber]
        if not rows or len(rows) == len(self.members):
            self.owner = torch.tensor([renumber.get(o, 0) for o in self.owner.tolist()], device=self.device)
            self._index()
            return bool(rows)
        index = torch.tensor(rows, device=self.device)
        kept = set(rows)
        ends = [row for row, member in enumerate(self.members) if member.weight is not None]
        self.base_logp = self.base_logp[[i for i, row in enumerate(ends) if row in kept]]
        self.owner = torch.tensor([renumber[o] for o in self.owner[index].tolist()], device=self.device)
        self.members = [self.members[i] for i in rows]
        self.cache.take(index)
        batch = self.batch
        last = int(batch.real[index].any(0).nonzero().max()) + 1  # columns that only dropped rows used go too
        self.suffix = self.suffix[index, : last - batch.anchor]
        self.batch = Batch(
            batch.ids[index, :last], batch.positions[index, :last], batch.real[index, :last], batch.anchor
        )
        self._index()
        return True


class Problem:
    """One batch of requests as groups of rows; every step runs each group once. Without rows that have a weight
    there is no KL term: it is 0."""

    def __init__(self, adapter: Adapter, top: Top, members: Sequence[Member], layer: int) -> None:
        buckets: dict[tuple[int, int], list[Member]] = {}
        for member in members:
            row = member.row
            size = (len(row.inputs) - row.subject_last) // _BUCKET, row.subject_last // _PREFIX_BUCKET
            buckets.setdefault(size, []).append(member)
        self._merges = top.device.type == "cpu"
        self.groups = self._put([_Group.frozen(adapter, top, layer, buckets[size]) for size in sorted(buckets)])
        contexts = Counter(member.owner for member in members if member.weight is None)
        self.contexts = torch.tensor([float(contexts[i]) for i in sorted(contexts)], device=top.device)

    def losses(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """NLL (mean over contexts) and KL (by its weights) per request, each (B,), for δ of (B, d)."""
        nll = torch.zeros(len(delta), device=delta.device)
        kl = torch.zeros_like(nll)
        for group in self.groups:
            nll, kl = group.add_losses(delta, nll, kl)
        return nll / self.contexts, kl

    def keep(self, requests: Tensor) -> None:
        """Drop all other requests; the kept ones are numbered anew."""
        renumber = {old: new for new, old in enumerate(requests.tolist())}
        self.groups = self._put([group for group in self.groups if group.keep(renumber)])
        self.contexts = self.contexts[requests]

    def _put(self, groups: list[_Group]) -> list[_Group]:
        """The groups as they are run."""
        return _merged(groups) if self._merges else groups


def _cost(rows: int, before: int, behind: int) -> float:
    """What an evaluation of a group takes, in tokens."""
    return _APART + rows * behind * (1 + (before + behind) / _ATTENTION)


def _both(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of two groups as one."""
    return one[0] + other[0], max(one[1], other[1]), max(one[2], other[2])


def _saved(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """What is saved when two groups of these shapes are run as one."""
    return _cost(*one) + _cost(*other) - _cost(*_both(one, other))


def _merged(groups: list[_Group]) -> list[_Group]:
    """Groups that cost less together than apart, put together, the greatest gain first.

    Many rows are best run with others of their length, since padding costs. Few rows are best run with any others,
    since it is the same for one row and for ten.
    """
    shapes = [group.shape for group in groups]
    parts = [[i] for i in range(len(groups))]
    while len(parts) > 1:
        i, j = max(combinations(range(len(parts)), 2), key=lambda pair: _saved(*(shapes[k] for k in pair)))
        if _saved(shapes[i], shapes[j]) <= 0:
            break
        shapes[i] = _both(shapes[i], shapes.pop(j))
        parts[i] += parts.pop(j)
    return [groups[own[0]] if len(own) == 1 else _Group.joined([groups[i] for i in own]) for own in parts]
