"""z, the hidden state that makes the model say the object: solved for many requests at once.

Meng et al. 2023, eq. 16: δ at the last critical layer and the subject's last token minimises the mean NLL of the
object over the contexts, plus a KL term that keeps what the subject is, plus a penalty on its size; z = h + δ.

Everything below the last critical layer and before the subject's last token is constant, so it is computed once
per batch: the steps run only the layers above, over the tokens from the subject's last one on, and project to
the vocabulary only where the object is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  the library's own habit

from kbsync.edit.adapters import Adapter, Top, solve_dtype
from kbsync.edit.contexts import Contexts
from kbsync.edit.prefix import PrefixCache
from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.lm.batch import Batch, align
from kbsync.lm.rows import Encoder, Row
from kbsync.settings import EditSettings

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


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


class _Problem:
    """One batch of requests, set up so that a step costs only what δ can change.

    Rows: every context of every request, then one essence row each; `owner[r]` is the row's request.
    """

    def __init__(
        self, adapter: Adapter, top: Top, rows: Sequence[Row], owner: Sequence[int], essence: int, layer: int
    ) -> None:
        self.adapter = adapter
        self.top = top
        self.layer = layer
        self.device = top.device
        self.batch = align([row.inputs for row in rows], [row.subject_last for row in rows], self.device)
        self.owner = torch.tensor(owner, device=self.device)
        self.is_essence = torch.arange(len(rows), device=self.device) >= len(rows) - essence
        self.rows = list(rows)
        self._freeze()

    def _freeze(self) -> None:
        """Run what is constant: all columns up to the layer, and the prefix through the layers above."""
        batch, anchor = self.batch, self.batch.anchor
        with torch.no_grad():
            below = self.adapter.run(batch, (0, batch.ids.shape[1]), (0, self.layer + 1))  # (R, P+S, d)
            self.cache = PrefixCache()
            if anchor:
                self.top.run(batch, (0, anchor), below[:, :anchor], self.cache)
            self.cache.frozen = True
        self.suffix = below[:, anchor:]  # (R, S, d)
        self._index()
        with torch.no_grad():
            hidden = self._forward(torch.zeros_like(self.suffix[:, 0]))
            self.base_essence = self._essence_logp(hidden)

    def _index(self) -> None:
        """Where the logits are needed: (row, column) of each object token, and of each essence prompt's end."""
        spots, targets, owners, weights = [], [], [], []
        ends = []
        for i, row in enumerate(self.rows):
            if bool(self.is_essence[i]):
                ends.append((i, len(row.inputs) - 1 - row.subject_last))
                continue
            for j, token in enumerate(row.targets):
                spots.append((i, row.first_scored + j - row.subject_last))
                targets.append(token)
                owners.append(int(self.owner[i]))
                weights.append(1.0 / row.target_len)
        self.spots = torch.tensor(spots, device=self.device).T
        self.targets = torch.tensor(targets, device=self.device)
        self.spot_owner = torch.tensor(owners, device=self.device)
        self.spot_weight = torch.tensor(weights, device=self.device)
        self.ends = torch.tensor(ends, device=self.device).T

    def _forward(self, delta_rows: Tensor) -> Tensor:
        """Hidden states (R, S, d) after the final norm, with δ added at the subject's last token."""
        first = self.suffix[:, :1].float() + delta_rows[:, None]
        hidden = torch.cat([first.to(self.suffix.dtype), self.suffix[:, 1:]], dim=1)
        columns = (self.batch.anchor, self.batch.ids.shape[1])
        return self.top.run(self.batch, columns, hidden, self.cache)

    def _logits(self, hidden: Tensor, spots: Tensor) -> Tensor:
        return self.top.logits(hidden[spots[0], spots[1]])

    def _essence_logp(self, hidden: Tensor) -> Tensor:
        return self._logits(hidden, self.ends).log_softmax(-1)

    def losses(self, delta: Tensor, requests: int) -> tuple[Tensor, Tensor]:
        """NLL and KL per request, each (requests,), for δ of (requests, d)."""
        hidden = self._forward(delta[self.owner])
        logits = self._logits(hidden, self.spots)
        nll = F.cross_entropy(logits, self.targets, reduction="none") * self.spot_weight
        contexts = torch.zeros(requests, device=self.device).index_add(
            0, self.owner[~self.is_essence], torch.ones(int((~self.is_essence).sum()), device=self.device)
        )
        mean_nll = torch.zeros(requests, device=self.device).index_add(0, self.spot_owner, nll) / contexts
        logp = self._essence_logp(hidden)
        kl = (logp.exp() * (logp - self.base_essence)).sum(-1)  # KL(edited ‖ base)
        return mean_nll, kl

    def keep(self, requests: Tensor) -> None:
        """Drop the rows of all other requests; the kept ones are numbered anew."""
        rows = torch.isin(self.owner, requests).nonzero()[:, 0]
        renumber = {int(old): new for new, old in enumerate(requests.tolist())}
        self.owner = torch.tensor([renumber[int(o)] for o in self.owner[rows]], device=self.device)
        self.is_essence = self.is_essence[rows]
        self.rows = [self.rows[i] for i in rows.tolist()]
        self.base_essence = self.base_essence[requests]
        self.cache.take(rows)
        batch = self.batch
        # Columns that only the dropped rows used go too.
        last = int(batch.real[rows].any(0).nonzero().max()) + 1
        self.suffix = self.suffix[rows, : last - batch.anchor]
        self.batch = Batch(
            batch.ids[rows, :last], batch.positions[rows, :last], batch.real[rows, :last], batch.anchor
        )
        self._index()


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

    def length(self, request: EditRequest) -> int:
        """Tokens after the subject in the longest context: requests of like length make good batches."""
        return max(len(r.inputs) - r.subject_last for r in self.contexts.rows(self.encoder, request))

    def solve(self, requests: Sequence[EditRequest]) -> list[Target]:
        """z for each request, in the order given. Raises EditError if a δ is not finite."""
        if not requests:
            return []
        started = time.perf_counter()
        problem, hidden = self._problem(requests)
        delta, loss, steps = self._optimise(problem, hidden)
        if not bool(delta.isfinite().all()):
            bad = int((~delta.isfinite().all(-1)).nonzero()[0])
            raise EditError(
                f"z of {requests[bad].rewrite.text!r} is not finite; the learning rate may be too high"
            )
        share = (time.perf_counter() - started) / len(requests)
        return [
            Target(
                content_hash=request.content_hash,
                z=(hidden[i] + delta[i]).cpu(),
                loss=float(loss[i]),
                steps=int(steps[i]),
                delta_norm=float(delta[i].norm()),
                hidden_norm=float(hidden[i].norm()),
                seconds=share,
            )
            for i, request in enumerate(requests)
        ]

    def _problem(self, requests: Sequence[EditRequest]) -> tuple[_Problem, Tensor]:
        rows: list[Row] = []
        owner: list[int] = []
        firsts: list[int] = []
        for i, request in enumerate(requests):
            contexts = self.contexts.rows(self.encoder, request)
            firsts.append(len(rows))
            rows += contexts
            owner += [i] * len(contexts)
        rows += [self.contexts.essence(self.encoder, request) for request in requests]
        owner += list(range(len(requests)))
        problem = _Problem(self.adapter, self.top, rows, owner, len(requests), self.layer)
        return problem, problem.suffix[firsts, 0].float()  # h of the bare prompt, (B, d)

    def _optimise(self, problem: _Problem, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Adam on δ from zero, requests leaving the batch as they converge. Returns δ (B, d), NLL, steps."""
        settings = self.settings
        count = len(hidden)
        norms = hidden.norm(dim=-1)
        result = torch.zeros_like(hidden)
        loss = torch.zeros(count, device=hidden.device)
        steps = torch.zeros(count, dtype=torch.long, device=hidden.device)
        active = torch.arange(count, device=hidden.device)
        delta = torch.zeros_like(hidden)
        m, v = torch.zeros_like(hidden), torch.zeros_like(hidden)
        for step in range(1, settings.steps + 1):
            delta.requires_grad_(True)
            nll, kl = problem.losses(delta, len(active))
            size = delta.norm(dim=-1) / norms[active] ** 2
            total = nll + settings.kl_weight * kl + settings.decay * size
            done = (nll.detach() < settings.stop_loss) | (step == settings.steps)
            result[active], loss[active], steps[active] = delta.detach(), nll.detach(), step
            if bool(done.all()):
                break
            (gradient,) = torch.autograd.grad(total.sum(), delta)
            with torch.no_grad():
                m = _BETAS[0] * m + (1 - _BETAS[0]) * gradient
                v = _BETAS[1] * v + (1 - _BETAS[1]) * gradient**2
                update = (m / (1 - _BETAS[0] ** step)) / ((v / (1 - _BETAS[1] ** step)).sqrt() + _EPSILON)
                delta = delta.detach() - settings.learning_rate * update
                limit = settings.clamp * norms[active]
                delta = delta * (limit / delta.norm(dim=-1).clamp_min(_EPSILON)).clamp_max(1.0)[:, None]
                if bool(done.any()):
                    kept = (~done).nonzero()[:, 0]
                    problem.keep(kept)
                    active, delta, m, v = active[kept], delta[kept], m[kept], v[kept]
        return result, loss, steps
