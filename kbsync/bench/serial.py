"""MEMIT as its authors published it, to be measured beside ours: one request after the other, whole prompts.

Meng et al. 2023, section 4 and appendix B: the prompt and five sampled prefixes as contexts, Adam at rate 0.5 for
up to 25 steps, stop below 0.05, ‖δ‖ ≤ 0.75 ‖h‖, every step through the whole model with the vocabulary at every
position; then keys and residuals layer by layer through the whole model, and one solve for each. Nothing is shared
between requests and nothing is cached. It is written plainly and reads each prompt's logits once, where the
published code projects them twice, so a ratio against it is a lower bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.edit.contexts import Contexts, sample_prefixes
from kbsync.edit.keys import KeyTap
from kbsync.edit.memit import Editor
from kbsync.errors import ModelError
from kbsync.facts import EditRequest
from kbsync.lm.batch import align
from kbsync.lm.rows import Encoder, Row

PREFIXES, STEPS, RATE, STOP, CLAMP, KL, DECAY = 5, 25, 0.5, 0.05, 0.75, 0.0625, 0.5


@dataclass(frozen=True, slots=True)
class Serial:
    """What the serial method took: seconds in all for z and for the update, and mean steps."""

    edits: int
    solve_s: float
    update_s: float
    steps: float

    @property
    def per_edit(self) -> float:
        """Seconds per edit, z and update."""
        return (self.solve_s + self.update_s) / self.edits


def run_serial(editor: Editor, requests: Sequence[EditRequest], weight: float, seed: int) -> Serial:
    """Edit `requests` with the serial method, leaving the candidate in the model; `weight` is λ.

    Raises ModelError for a family with a norm behind the down-projection, which the published method knows not of.
    """
    adapter, encoder = editor.adapter, editor.encoder
    if not adapter.exact:
        raise ModelError(f"{adapter.family.name} has a norm behind its down-projection; no serial method edits it")
    contexts = Contexts(sample_prefixes(adapter.model, encoder, PREFIXES, seed))
    last = editor.layers[-1]
    started = time.perf_counter()
    solved = [_solve(adapter, encoder, contexts, request, last) for request in requests]
    between = time.perf_counter()
    _update(editor, [contexts.rows(encoder, request) for request in requests], [z for z, _ in solved], weight)
    ended = time.perf_counter()
    steps = sum(taken for _, taken in solved) / len(solved)
    return Serial(len(requests), between - started, ended - between, steps)


def _solve(
    adapter: Adapter, encoder: Encoder, contexts: Contexts, request: EditRequest, layer: int
) -> tuple[Tensor, int]:
    """z (d,) of one request, and the steps taken."""
    rows = contexts.rows(encoder, request)
    essence = contexts.essence(encoder, request)
    whole = [*rows, essence]
    batch = align([row.inputs for row in whole], [0] * len(whole), adapter.device)
    columns = torch.tensor([row.subject_last for row in whole], device=batch.ids.device)
    with torch.no_grad(), _watch(adapter, layer, columns, None) as seen:
        logits = _logits(adapter, batch)
        hidden = seen[0][0]
        base = logits[-1, len(essence.inputs) - 1].log_softmax(-1)
    delta = torch.zeros_like(hidden, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=RATE)
    for step in range(1, STEPS + 1):
        adam.zero_grad()
        with _watch(adapter, layer, columns, delta):
            logp = _logits(adapter, batch).log_softmax(-1)
        nll = torch.stack([_nll(logp[i], row) for i, row in enumerate(rows)]).mean()
        if float(nll.detach()) < STOP or step == STEPS:
            break
        now = logp[-1, len(essence.inputs) - 1]
        kl = (now.exp() * (now - base)).sum()
        loss = nll + KL * kl + DECAY * delta.norm() / hidden.norm() ** 2
        torch.autograd.backward(loss)
        adam.step()
        with torch.no_grad():
            delta *= (CLAMP * hidden.norm() / delta.norm()).clamp_max(1.0)
    return (hidden + delta).detach(), step


def _logits(adapter: Adapter, batch: Any) -> Tensor:
    """The whole model on whole rows, the vocabulary at every position, (R, T, V) float32."""
    width = batch.ids.shape[1]
    out: Tensor = adapter.model(
        input_ids=batch.ids,
        use_cache=False,
        **adapter.reader.inputs(batch, 0, width, adapter.dtype),
    ).logits
    return out.float()


def _nll(logp: Tensor, row: Row) -> Tensor:
    """Mean NLL of the row's object, from log-probabilities (T, V)."""
    at = torch.arange(row.first_scored, row.first_scored + row.target_len, device=logp.device)
    return -logp[at, torch.tensor(row.targets, device=logp.device)].mean()


@contextmanager
def _watch(adapter: Adapter, layer: int, columns: Tensor, delta: Tensor | None) -> Iterator[list[Tensor]]:
    """Record the output of `layer` at one column of each row, (R, d), with `delta` added there if there is one."""
    seen: list[Tensor] = []
    rows = torch.arange(len(columns), device=columns.device)

    def hook(module: Any, args: Any, out: Any) -> Any:
        del module, args
        hidden = out[0] if isinstance(out, tuple) else out
        seen.append(hidden[rows, columns].float())
        if delta is None:
            return None
        hidden = hidden.index_put((rows, columns), hidden[rows, columns] + delta.to(hidden.dtype))
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

    handle = adapter.layers[layer].register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


@torch.no_grad()
def _update(editor: Editor, rows: Sequence[Sequence[Row]], targets: Sequence[Tensor], weight: float) -> None:
    """Algorithm 1 on the loaded model: keys of all contexts, residual, solve, for each layer upwards."""
    adapter, last = editor.adapter, editor.layers[-1]
    for number, layer in enumerate(editor.layers):
        keys, hidden = [], []
        for own in rows:
            batch = align([row.inputs for row in own], [0] * len(own), adapter.device)
            columns = torch.tensor([row.subject_last for row in own], device=batch.ids.device)
            with KeyTap(adapter, [layer]) as tap, _watch(adapter, last, columns, None) as seen:
                _logits(adapter, batch)
            flat = torch.arange(len(own), device=columns.device) * batch.ids.shape[1] + columns
            keys.append(tap.keys[layer][flat].float().mean(0))
            hidden.append(seen[0][0])
        k = torch.stack(keys, dim=1).double()
        wanted = torch.stack(list(targets), dim=1) - torch.stack(hidden, dim=1)
        residual, _ = adapter.into_values(layer, torch.zeros_like(wanted), wanted.double())
        system = weight * editor.covariance.matrices[layer].to(k) + k @ k.T
        delta = torch.linalg.solve(system, k @ (residual / (len(editor.layers) - number)).T).T
        old = adapter.read_weight(layer)
        adapter.write_weight(layer, (old.double() + delta).to(old.dtype))
