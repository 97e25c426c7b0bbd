"""MEMIT as the paper writes it (Meng et al. 2023, eq. 14-20, algorithm 1): serial, whole prompts, hooks, numpy.

Slow and short, so that it can be checked by eye; it shares nothing with the editor but the rows that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kbsync.lm.rows import Row
from kbsync.settings import EditSettings

PLACES = {
    "llama": ("model.layers", "mlp.down_proj"),
    "gpt2": ("transformer.h", "mlp.c_proj"),
    "gptj": ("transformer.h", "mlp.fc_out"),
    "gpt_neox": ("gpt_neox.layers", "mlp.dense_4h_to_h"),
}


def down_of(model: Any, layer: int) -> Any:
    """A layer's down-projection."""
    return model.get_submodule(f"{PLACES[model.config.model_type][0]}.{layer}.{PLACES[model.config.model_type][1]}")


def forward(model: Any, ids: Sequence[int], layer: int, at: int, delta: Any = None) -> tuple[Tensor, Tensor]:
    """Logits (T, V) of one prompt, and the output of `layer` at token `at`, with `delta` added there."""
    seen: list[Tensor] = []

    def hook(module: Any, args: Any, out: Any) -> Any:
        hidden = out[0] if isinstance(out, tuple) else out
        seen.append(hidden[0, at])
        if delta is None:
            return None
        hidden = hidden.index_add(1, torch.tensor([at]), delta[None, None])
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

    place = f"{PLACES[model.config.model_type][0]}.{layer}"
    handle = model.get_submodule(place).register_forward_hook(hook)
    logits = model(torch.tensor([list(ids)]), use_cache=False).logits[0]
    handle.remove()
    return logits, seen[0]


def key(model: Any, row: Row, layer: int) -> Tensor:
    """What the down-projection reads at the subject's last token of the whole prompt."""
    seen: list[Tensor] = []
    handle = down_of(model, layer).register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    model(torch.tensor([list(row.ids)]), use_cache=False)
    handle.remove()
    return seen[0].reshape(len(row.ids), -1)[row.subject_last]


def nll_of(model: Any, rows: Sequence[Row], layer: int, delta: Tensor | None = None) -> Tensor:
    """Mean over the contexts of the object's mean NLL."""
    means = []
    for row in rows:
        logp = forward(model, row.ids, layer, row.subject_last, delta)[0].log_softmax(-1)
        first = len(row.ids) - row.target_len
        means.append(-torch.stack([logp[i - 1, row.ids[i]] for i in range(first, len(row.ids))]).mean())
    return torch.stack(means).mean()


def solve_z(model: Any, rows: Sequence[Row], essence: Row, layer: int, settings: EditSettings) -> tuple[Any, int]:
    """z of one request, and the number of evaluations: the paper's loss, by L-BFGS in Adagrad's metric."""
    h = forward(model, rows[0].ids, layer, rows[0].subject_last)[1].double()
    base = forward(model, essence.ids, layer, essence.subject_last)[0][-1].log_softmax(-1)

    def loss(x: Tensor) -> tuple[float, float, Tensor]:
        delta = x.float().requires_grad_(True)
        nll = nll_of(model, rows, layer, delta)
        now = forward(model, essence.ids, layer, essence.subject_last, delta)[0][-1].log_softmax(-1)
        kl = (now.exp() * (now - base)).sum()
        total = nll + settings.kl_weight * kl + settings.decay * delta.norm() / h.float().norm() ** 2
        total.backward()
        assert delta.grad is not None
        return nll.item(), total.item(), delta.grad.double()

    x, radius, pairs = torch.zeros_like(h), 0.3 * h.norm(), []
    nll, value, g = loss(x)
    seen, step = g**2, 1
    while nll >= settings.stop_loss and step < settings.steps:
        D = 1 / (seen.sqrt() + 1e-3 * seen.mean().sqrt())
        q, shares = g, []
        for s, y in reversed(pairs):
            shares.append((s @ q) / (s @ y))
            q = q - shares[-1] * y
        q = q * D
        q = q * (
            (pairs[-1][0] @ pairs[-1][1]) / (pairs[-1][1] @ (D * pairs[-1][1])) if pairs else radius / q.norm()
        )
        for (s, y), share in zip(pairs, reversed(shares), strict=True):
            q = q + (share - (y @ q) / (s @ y)) * s
        to = x - q * min(1.0, float(radius / q.norm()))
        to = to * min(1.0, float(settings.clamp * h.norm() / to.norm()))
        nll_to, value_to, g_to = loss(to)
        s, y = to - x, g_to - g
        if s @ y > 1e-4 * s.norm() * y.norm():
            pairs = [*pairs, (s, y)][-8:]
        seen = seen + g_to**2
        if value_to >= value:
            radius = 0.4 * s.norm()
        else:
            if value - value_to > -0.25 * (g @ s):
                radius = min(1.5 * radius, 0.4 * h.norm())
            x, nll, value, g = to, nll_to, value_to, g_to
        step += 1
    return (h + x).float(), step


@torch.no_grad()
def update(
    model: Any, rows: Sequence[Sequence[Row]], z: Sequence[Tensor], layers: Sequence[int], C: Any, weight: float
) -> None:
    """Edit `model` in place: W += R Kᵀ (λC + KKᵀ)⁻¹ at each critical layer, upwards. `C`: layer → (d_in, d_in)."""
    for i, layer in enumerate(layers):
        K = np.stack([np.mean([key(model, r, layer).double().numpy() for r in part], axis=0) for part in rows], 1)
        now = [forward(model, part[0].ids, layers[-1], part[0].subject_last)[1] for part in rows]
        R = np.stack([(a - b).double().numpy() for a, b in zip(z, now, strict=True)], 1) / (len(layers) - i)
        delta = torch.tensor(R @ K.T @ np.linalg.inv(weight * np.asarray(C[layer]) + K @ K.T))
        W = down_of(model, layer).weight
        W += (delta.T if W.shape != delta.shape else delta).to(W.dtype)
