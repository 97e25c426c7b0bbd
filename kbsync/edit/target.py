"""z, the hidden state that makes the model say the object: solved for many requests at once.

Meng et al. 2023, eq. 16: δ at the last critical layer and the subject's last token minimises the mean NLL of the
object over the contexts, plus a KL term that keeps what the subject is, plus a penalty on its size; z = h + δ. A
second KL term is ours: a part of δ at another subject, in the same words, should change nothing that is said there.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter, solve_dtype
from kbsync.edit.batches import limit_for, request_bytes
from kbsync.edit.contexts import Contexts
from kbsync.edit.descent import Descent
from kbsync.edit.problem import Member, Problem
from kbsync.edit.repeatable import repeatable
from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.lm.batch import align
from kbsync.lm.rows import Encoder, Row

if TYPE_CHECKING:  # the editor runs without what reads the settings
    from kbsync.settings import EditSettings

# What is heard of an edit at subjects like its own, as a share of ‖δ‖: 0.30 to 0.34 with 196 edits of the embedded
# model (docs/quality.md).
_HEARD = 0.3


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

    def in_contexts(self, contexts: Contexts) -> TargetSolver:
        """One that asks for the object in other contexts."""
        other = copy.copy(self)
        other.contexts = contexts
        return other

    def cut(self, requests: Sequence[EditRequest]) -> list[slice]:
        """`requests`, in the order given, as batches that are solved together."""
        return self.cut_groups([[request] for request in requests])

    def cut_groups(self, groups: Sequence[Sequence[EditRequest]]) -> list[slice]:
        """Groups that share a δ each, in the order given, as batches that are solved together."""
        return self.limit.cut(len(groups), lambda i: sum(map(self._bytes, groups[i])))

    def _bytes(self, request: EditRequest) -> int:
        return request_bytes(self.adapter, self.top, self.layer, self.rows(request))

    def rows(self, request: EditRequest) -> list[Row]:
        """All that is run for a request in one evaluation of its loss."""
        return [member.row for member in self.members(0, [request])]

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

    def _problem(self, groups: Sequence[Sequence[EditRequest]]) -> Problem:
        members = [member for i, group in enumerate(groups) for member in self.members(i, group)]
        return Problem(self.adapter, self.top, members, self.layer)

    def members(self, number: int, group: Sequence[EditRequest]) -> list[Member]:
        """The rows of a group that shares one δ: its contexts, what its subject is, and what is said of others."""
        contexts, encoder, settings = self.contexts, self.encoder, self.settings
        members = [Member(row, number) for one in group for row in contexts.rows(encoder, one)]
        if settings.kl_weight > 0:
            members.append(Member(contexts.essence(encoder, group[0]), number, 1.0, settings.kl_weight))
        if settings.others_weight > 0:
            others = [row for one in group if (row := contexts.other(encoder, one)) is not None]
            share = settings.others_weight / len(group)
            members += [Member(row, number, _HEARD, share) for row in others]
        return members

    @torch.no_grad()
    def _hidden(self, rows: Sequence[Row]) -> Tensor:
        """h of the bare prompts: the hidden states after the layer at the subject's last token, (B, d)."""
        ids = [row.ids[: row.subject_last + 1] for row in rows]
        batch = align(ids, [row.subject_last for row in rows], self.top.device)
        return self.adapter.run(batch, (0, batch.ids.shape[1]), (0, self.layer + 1))[:, -1].float()

    def _optimise(self, problem: Problem, hidden: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
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
            total = nll + kl + settings.decay * size
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
