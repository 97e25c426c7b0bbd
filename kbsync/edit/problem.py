"""The loss of z for a batch of requests, set up so that one evaluation runs only what δ can change.

Everything below the last critical layer and before the subject's last token is constant, so it is computed once:
evaluations run only the layers above, over the tokens from the subject's last one on, and project to the vocabulary
only where something is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  the library's own habit

from kbsync.edit.adapters import Adapter, Top
from kbsync.edit.prefix import PrefixCache
from kbsync.edit.repeatable import add_at
from kbsync.lm.batch import Batch, align
from kbsync.lm.rows import Row

# Rows are padded together when their tokens after the subject differ by less than the first, and those before it
# (a chat template puts dozens there) by less than the second.
_BUCKET, _PREFIX_BUCKET = 4, 24


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

    def __init__(self, adapter: Adapter, top: Top, layer: int, members: Sequence[Member]) -> None:
        self.top = top
        self.device = top.device
        self.members = list(members)
        self.rows = [member.row for member in members]
        rows = [member.row for member in members]
        self.batch = align([row.inputs for row in rows], [row.subject_last for row in rows], self.device)
        self.owner = torch.tensor([member.owner for member in members], device=self.device)
        self.cache = PrefixCache()
        self.suffix = self._freeze(adapter, layer)
        self._index()
        self.base_logp = self._base_logp()

    def _freeze(self, adapter: Adapter, layer: int) -> Tensor:
        """Run what is constant: all columns up to `layer`, and the prefix through the layers above. Returns the
        hidden states (R, S, d) after `layer` from the subject's last token on."""
        batch, anchor = self.batch, self.batch.anchor
        with torch.no_grad():
            below = adapter.run(batch, (0, batch.ids.shape[1]), (0, layer + 1))  # (R, P+S, d)
            if anchor:
                self.top.run(batch, (0, anchor), below[:, :anchor], self.cache)
        self.cache.frozen = True
        return below[:, anchor:]

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
        self.groups = [_Group(adapter, top, layer, buckets[size]) for size in sorted(buckets)]
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
        self.groups = [group for group in self.groups if group.keep(renumber)]
        self.contexts = self.contexts[requests]
