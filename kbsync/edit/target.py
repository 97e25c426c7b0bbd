"""z, the hidden state that makes the model say the object: solved for many requests at once.

Meng et al. 2023, eq. 16: δ at the last critical layer and the subject's last token minimises the mean NLL of the
object over the contexts, plus a KL term that keeps what the subject is, plus a penalty on its size; z = h + δ.

Everything below the last critical layer and before the subject's last token is constant, so it is computed once
per batch: the steps run only the layers above, over the tokens from the subject's last one on, and project to
the vocabulary only where the object is.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  the library's own habit

from kbsync.edit.adapters import Adapter, Top, solve_dtype
from kbsync.edit.batches import limit_for, request_bytes
from kbsync.edit.contexts import Contexts
from kbsync.edit.descent import Descent
from kbsync.edit.prefix import PrefixCache
from kbsync.edit.repeatable import add_at, repeatable
from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.lm.batch import Batch, align
from kbsync.lm.rows import Encoder, Row

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import EditSettings


@dataclass(frozen=True, slots=True)
class Target:
    """A solved z: (d,) float32 on the CPU, and how the solving went. `seconds` is this request's share."""

    content_hash: str
    z: Tensor
    loss: float
    steps: int
    delta_norm: float
    hidden_norm: float
    seconds: float


# Rows are padded together when their tokens after the subject differ by less than the first, and those before it
# (a chat template puts dozens there) by less than the second.
_BUCKET, _PREFIX_BUCKET = 4, 24


class _Group:
    """Rows of like length after the subject, set up so that a step costs only what δ can change.

    `owner[r]` is the request of row r. `essence[r]` tells `<subject> is a` rows, which are asked for their last
    token's distribution, from context rows, which are asked for the object.
    """

    def __init__(self, adapter: Adapter, top: Top, layer: int, members: Sequence[tuple[Row, int, bool]]) -> None:
        self.top = top
        self.device = top.device
        self.rows = [row for row, _, _ in members]
        anchors = [row.subject_last for row in self.rows]
        self.batch = align([row.inputs for row in self.rows], anchors, self.device)
        self.owner = torch.tensor([owner for _, owner, _ in members], device=self.device)
        self.essence = torch.tensor([essence for _, _, essence in members], device=self.device)
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
        """Where the logits are needed: (row, column) of each object token, and of each essence prompt's end."""
        spots, targets, owners, weights, ends, end_owners = [], [], [], [], [], []
        for i, (row, owner, essence) in enumerate(
            zip(self.rows, self.owner.tolist(), self.essence.tolist(), strict=True)
        ):
            if essence:
                ends.append((i, len(row.inputs) - 1 - row.subject_last))
                end_owners.append(owner)
                continue
            for j, token in enumerate(row.targets):
                spots.append((i, row.first_scored + j - row.subject_last))
                targets.append(token)
                owners.append(owner)
                weights.append(1.0 / row.target_len)
        whole = partial(torch.tensor, device=self.device, dtype=torch.long)
        self.spots, self.ends = whole(spots).reshape(-1, 2).T, whole(ends).reshape(-1, 2).T
        self.targets, self.spot_owner, self.end_owner = whole(targets), whole(owners), whole(end_owners)
        self.spot_weight = torch.tensor(weights, device=self.device, dtype=torch.float32)

    def _forward(self, delta_rows: Tensor) -> Tensor:
        """Hidden states (R, S, d) after the final norm, with δ added at the subject's last token."""
        first = self.suffix[:, :1].float() + delta_rows[:, None]
        hidden = torch.cat([first.to(self.suffix.dtype), self.suffix[:, 1:]], dim=1)
        return self.top.run(self.batch, (self.batch.anchor, self.batch.ids.shape[1]), hidden, self.cache)

    @torch.no_grad()
    def _base_logp(self) -> Tensor:
        """What the model as it is says after each essence prompt, (E, V); nothing is run where there is none."""
        if not len(self.end_owner):
            return torch.empty(0, device=self.device)
        return self._end_logp(self._forward(torch.zeros_like(self.suffix[:, 0])))

    def _end_logp(self, hidden: Tensor) -> Tensor:
        """Log-probabilities after each essence prompt, (E, V)."""
        return self.top.logits(hidden[self.ends[0], self.ends[1]]).log_softmax(-1)

    def add_losses(self, delta: Tensor, nll: Tensor, kl: Tensor) -> tuple[Tensor, Tensor]:
        """`nll` and `kl` (requests,) with this group's share added: NLL summed over contexts, mean over tokens."""
        hidden = self._forward(delta[self.owner])
        if len(self.targets):
            logits = self.top.logits(hidden[self.spots[0], self.spots[1]])
            per_token = F.cross_entropy(logits, self.targets, reduction="none") * self.spot_weight
            nll = add_at(nll, self.spot_owner, per_token)
        if len(self.end_owner):
            logp = self._end_logp(hidden)
            away = (logp.exp() * (logp - self.base_logp)).sum(-1)  # KL(edited ‖ base)
            kl = add_at(kl, self.end_owner, away)
        return nll, kl

    def keep(self, renumber: dict[int, int]) -> bool:
        """Drop the rows of requests that are not in `renumber` (old number → new); False when none is left."""
        rows = [i for i, owner in enumerate(self.owner.tolist()) if owner in renumber]
        if not rows or len(rows) == len(self.rows):
            self.owner = torch.tensor([renumber.get(o, 0) for o in self.owner.tolist()], device=self.device)
            self._index()
            return bool(rows)
        index = torch.tensor(rows, device=self.device)
        ends = [i for i, row in enumerate(self.essence.nonzero()[:, 0].tolist()) if row in set(rows)]
        self.base_logp = self.base_logp[ends]
        self.owner = torch.tensor([renumber[o] for o in self.owner[index].tolist()], device=self.device)
        self.essence = self.essence[index]
        self.rows = [self.rows[i] for i in rows]
        self.cache.take(index)
        batch = self.batch
        last = int(batch.real[index].any(0).nonzero().max()) + 1  # columns that only dropped rows used go too
        self.suffix = self.suffix[index, : last - batch.anchor]
        self.batch = Batch(
            batch.ids[index, :last], batch.positions[index, :last], batch.real[index, :last], batch.anchor
        )
        self._index()
        return True


class _Problem:
    """One batch of requests as groups of rows; every step runs each group once. Without `essences` there is no KL
    term: it is 0."""

    def __init__(
        self, adapter: Adapter, top: Top, contexts: Sequence[Sequence[Row]], essences: Sequence[Row], layer: int
    ) -> None:
        rows = [(row, i, False) for i, own in enumerate(contexts) for row in own]
        rows += [(row, i, True) for i, row in enumerate(essences)]
        buckets: dict[tuple[int, int], list[tuple[Row, int, bool]]] = {}
        for row, owner, essence in rows:
            size = (len(row.inputs) - row.subject_last) // _BUCKET, row.subject_last // _PREFIX_BUCKET
            buckets.setdefault(size, []).append((row, owner, essence))
        self.groups = [_Group(adapter, top, layer, buckets[size]) for size in sorted(buckets)]
        self.contexts = torch.tensor([float(len(own)) for own in contexts], device=top.device)

    def losses(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """NLL (mean over contexts) and KL per request, each (B,), for δ of (B, d)."""
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


class TargetSolver:
    """Solves z for batches of requests on one model (the base model, or a candidate under repair)."""

    def __init__(
        self, adapter: Adapter, encoder: Encoder, contexts: Contexts, layer: int, settings: EditSettings
    ) -> None:
        self.adapter = adapter
        self.encoder = encoder
        self.contexts = contexts
        self.layer = layer
        self.settings = settings
        self.top = adapter.top(layer + 1, solve_dtype(adapter, settings.solve_dtype))
        self.limit = limit_for(adapter, self.top, settings)

    def with_settings(self, settings: EditSettings) -> TargetSolver:
        """One with other settings; the layers above, as they were read for this one, serve both."""
        other = copy.copy(self)
        other.settings = settings
        other.limit = limit_for(self.adapter, self.top, settings)
        return other

    def at_the_prompt(self) -> TargetSolver:
        """One that asks for the object at the prompt alone, in no other context."""
        other = copy.copy(self)
        other.contexts = Contexts()
        return other

    def cut(self, requests: Sequence[EditRequest]) -> list[slice]:
        """`requests`, in the order given, as batches that are solved together."""
        return self.cut_groups([[request] for request in requests])

    def cut_groups(self, groups: Sequence[Sequence[EditRequest]]) -> list[slice]:
        """Groups that share a δ each, in the order given, as batches that are solved together."""
        return self.limit.cut(len(groups), lambda i: sum(map(self._bytes, groups[i])))

    def _bytes(self, request: EditRequest) -> int:
        rows = self.contexts.rows(self.encoder, request)
        if self.settings.kl_weight > 0:
            rows.append(self.contexts.essence(self.encoder, request))
        return request_bytes(self.adapter, self.top, self.layer, rows)

    def length(self, request: EditRequest) -> int:
        """Tokens after the subject in the longest context: requests of like length make good batches."""
        return max(len(r.inputs) - r.subject_last for r in self.contexts.rows(self.encoder, request))

    def place(self, request: EditRequest) -> tuple[int, str]:
        """Where a request stands in the order that batches are cut from: by length, then by content."""
        return self.length(request), request.content_hash

    def solve(self, requests: Sequence[EditRequest], steps: int | None = None) -> list[Target]:
        """z for each request, in the order given, in at most `steps` steps (the settings' own number without).

        Raises EditError if a z or its loss is not finite.
        """
        return self.solve_groups([[request] for request in requests], steps)

    def solve_groups(self, groups: Sequence[Sequence[EditRequest]], steps: int | None = None) -> list[Target]:
        """z for each request of each group, in the order given, where one δ serves a group: z = h + δ with each
        request's own h, and δ says all the group's objects. No group may be empty.

        Facts of one subject have nearly the same key, which can't carry different values (MEMIT-Merge, arXiv
        2502.07322). Raises what `solve` raises.
        """
        requests = [request for group in groups for request in group]
        if not requests:
            return []
        started = time.perf_counter()
        owners = [i for i, group in enumerate(groups) for _ in group]
        with repeatable(self.top.device):
            problem = self._problem(groups)
            hidden = self._hidden([self.contexts.rows(self.encoder, request)[0] for request in requests])
            whose = torch.tensor(owners, device=hidden.device)
            mean = torch.stack([hidden[whose == i].mean(0) for i in range(len(groups))])
            delta, loss, taken = self._optimise(problem, mean, steps or self.settings.steps)
        z = hidden + delta[whose]
        finite = z.isfinite().all(-1) & loss.isfinite()[whose]
        if not bool(finite.all()):
            bad = int((~finite).nonzero()[0])
            raise EditError(f"z of {requests[bad].rewrite.text!r} is not finite; is the base model whole?")
        share = (time.perf_counter() - started) / len(requests)
        return [
            Target(
                content_hash=request.content_hash,
                z=z[i].cpu(),
                loss=float(loss[owner]),
                steps=int(taken[owner]),
                delta_norm=float(delta[owner].norm()),
                hidden_norm=float(hidden[i].norm()),
                seconds=share,
            )
            for i, (request, owner) in enumerate(zip(requests, owners, strict=True))
        ]

    def _problem(self, groups: Sequence[Sequence[EditRequest]]) -> _Problem:
        contexts = [[row for one in group for row in self.contexts.rows(self.encoder, one)] for group in groups]
        essences = []
        if self.settings.kl_weight > 0:
            essences = [self.contexts.essence(self.encoder, group[0]) for group in groups]
        return _Problem(self.adapter, self.top, contexts, essences, self.layer)

    @torch.no_grad()
    def _hidden(self, rows: Sequence[Row]) -> Tensor:
        """h of the bare prompts: the hidden states after the layer at the subject's last token, (B, d)."""
        ids = [row.ids[: row.subject_last + 1] for row in rows]
        batch = align(ids, [row.subject_last for row in rows], self.top.device)
        return self.adapter.run(batch, (0, batch.ids.shape[1]), (0, self.layer + 1))[:, -1].float()

    def _optimise(self, problem: _Problem, hidden: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """L-BFGS on δ from zero, requests leaving the batch as they converge. Returns δ (B, d), NLL, steps."""
        settings = self.settings
        count, device = len(hidden), hidden.device
        norms = hidden.norm(dim=-1)
        result = torch.zeros_like(hidden)
        loss = torch.zeros(count, device=device)
        taken = torch.zeros(count, dtype=torch.long, device=device)
        active = torch.arange(count, device=device)
        descent = Descent(norms, settings.clamp * norms, hidden.shape[1])
        best = torch.full_like(loss, torch.inf)  # the object's NLL at each request's best δ
        for step in range(1, most + 1):
            delta = descent.point.detach().requires_grad_(True)
            nll, kl = problem.losses(delta)
            size = delta.norm(dim=-1) / norms[active] ** 2
            total = nll + settings.kl_weight * kl + settings.decay * size
            (gradient,) = torch.autograd.grad(total.sum(), delta)
            moved = descent.tell(total.detach(), gradient)
            best = torch.where(moved, nll.detach(), best)
            done = ~(best >= settings.stop_loss) | (step == most)  # what is not a number is done, and refused
            if not bool(done.any()):
                continue
            left = active[done]
            result[left], loss[left], taken[left] = descent.best[done], best[done], step
            if bool(done.all()):
                break
            kept = (~done).nonzero()[:, 0]
            problem.keep(kept)
            descent.keep(kept)
            active, best = active[kept], best[kept]
        return result, loss, taken
