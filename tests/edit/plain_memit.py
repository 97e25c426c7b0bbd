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

LAYERS = {
    "bloom": "transformer.h",
    "codegen": "transformer.h",
    "falcon": "transformer.h",
    "gpt2": "transformer.h",
    "gpt_bigcode": "transformer.h",
    "gpt_neo": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "gptj": "transformer.h",
    "mpt": "transformer.blocks",
    "opt": "model.decoder.layers",
}
DOWN = {
    "bloom": "mlp.dense_4h_to_h",
    "codegen": "mlp.fc_out",
    "falcon": "mlp.dense_4h_to_h",
    "gpt2": "mlp.c_proj",
    "gpt_bigcode": "mlp.c_proj",
    "gpt_neo": "mlp.c_proj",
    "gpt_neox": "mlp.dense_4h_to_h",
    "gptj": "mlp.fc_out",
    "mpt": "ffn.down_proj",
    "opt": "fc2",
    "phi": "mlp.fc2",
    "starcoder2": "mlp.c_proj",
}

NORM_AFTER = {
    "exaone4": "post_feedforward_layernorm",
    "gemma2": "post_feedforward_layernorm",
    "gemma3_text": "post_feedforward_layernorm",
    "glm4": "post_mlp_layernorm",
    "olmo2": "post_feedforward_layernorm",
    "olmo3": "post_feedforward_layernorm",
}


def layer_of(model: Any, layer: int) -> Any:
    """A layer."""
    return model.get_submodule(f"{LAYERS.get(model.config.model_type, 'model.layers')}.{layer}")


def down_of(model: Any, layer: int) -> Any:
    """A layer's down-projection."""
    return layer_of(model, layer).get_submodule(DOWN.get(model.config.model_type, "mlp.down_proj"))


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

    handle = layer_of(model, layer).register_forward_hook(hook)
    logits = model(torch.tensor([list(ids)]), use_cache=False).logits[0]
    handle.remove()
    return logits, seen[0]


def key(model: Any, row: Row, layer: int) -> Tensor:
    """What the down-projection reads at the subject's last token of the whole prompt."""
    seen: list[Tensor] = []
    handle = down_of(model, layer).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
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


def kl_of(model: Any, row: Row, layer: int, delta: Tensor) -> Tensor:
    """KL(with `delta` ‖ without) of what is said at the end of a row."""
    base, now = (forward(model, row.ids, layer, row.subject_last, d)[0][-1].log_softmax(-1) for d in (None, delta))
    return (now.exp() * (now - base)).sum()


def solve_z(
    model: Any, rows: Sequence[Row], essence: Row, layer: int, settings: EditSettings, other: Row | None = None
) -> tuple[Any, int]:
    """z of one request, and the number of evaluations: the paper's loss, and three tenths of δ at another subject,
    by L-BFGS in Adagrad's metric."""
    h = forward(model, rows[0].ids, layer, rows[0].subject_last)[1].double()

    def loss(x: Tensor) -> tuple[float, float, Tensor]:
        delta = x.float().requires_grad_(True)
        nll = nll_of(model, rows, layer, delta)
        total = nll + settings.kl_weight * kl_of(model, essence, layer, delta)
        if other is not None:
            total = total + settings.others_weight * kl_of(model, other, layer, 0.3 * delta)
        total = total + settings.decay * delta.norm() / h.float().norm() ** 2
        total.backward()
        assert delta.grad is not None
        return nll.item(), total.item(), delta.grad.double()

    x, radius, pairs = torch.zeros_like(h), 0.3 * h.norm(), []
    limit = float(settings.clamp * h.norm())
    room = 0.5 * limit
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
        to = to * min(1.0, room / float(to.norm()))
        nll_to, value_to, g_to = loss(to)
        s, y = to - x, g_to - g
        if s @ y > 0.1 * s.norm() * y.norm():
            pairs = [*pairs, (s, y)][-8:]
        seen = seen + g_to**2
        if value_to >= value:
            radius = 0.4 * s.norm()
        else:
            if value - value_to > -0.25 * (g @ s):
                radius = min(1.5 * radius, 0.4 * h.norm())
            x, nll, value, g = to, nll_to, value_to, g_to
        if float(x.norm()) > 0.98 * room:
            room = min(1.05 * room, limit)
        step += 1
    return (h + x).float(), step


def nearest(axes: Any, wanted: Any) -> Any:
    """The point u of the sphere of radius √d for which axes · u is nearest to `wanted`; where that is inside the
    ellipsoid, the point in its direction."""
    d = len(axes)
    if np.sum((wanted / axes) ** 2) < d:
        return wanted / axes * np.sqrt(d / np.sum((wanted / axes) ** 2))
    low, high = -60.0, 60.0  # log of the multiplier
    for _ in range(200):
        middle = (low + high) / 2
        u = axes * wanted / (axes**2 + np.exp(middle))
        low, high = (middle, high) if u @ u > d else (low, middle)
    return u


def through(model: Any, row: Row, layer: int, residual: Any) -> tuple[Any, Any]:
    """What must be added to the down-projection's output so that the layer's moves by `residual`, as far as a norm
    behind it lets it; and what of it it does not."""
    name = NORM_AFTER.get(model.config.model_type)
    if name is None:
        return residual / getattr(model.config, "residual_multiplier", 1.0), 0 * residual
    norm, v = (
        layer_of(model, layer).get_submodule(name),
        down_of(model, layer)(key(model, row, layer)).double().numpy(),
    )
    w = norm.weight.double().numpy() + (1 if model.config.model_type.startswith("gemma") else 0)
    size, eps = np.sqrt(np.mean(v**2)), model.config.rms_norm_eps
    axes = w * size / np.sqrt(size**2 + eps)
    wanted = axes * v / size + residual
    u = nearest(axes, wanted)
    return size * u - v, wanted - axes * u


@torch.no_grad()
def update(
    model: Any, rows: Sequence[Sequence[Row]], z: Sequence[Tensor], layers: Sequence[int], C: Any, weight: float
) -> None:
    """Edit `model` in place: W += R Kᵀ (λC + KKᵀ)⁻¹ at each critical layer, upwards. `C`: layer → (d_in, d_in).

    Behind a norm, what the last layer could not be asked for is asked of all of them once more, up to five times.
    """
    target, last = [one.double().numpy() for one in z], []
    for _ in range(6):
        for i, layer in enumerate(layers):
            K = np.stack(
                [np.mean([key(model, r, layer).double().numpy() for r in part], axis=0) for part in rows], 1
            )
            now = [forward(model, part[0].ids, layers[-1], part[0].subject_last)[1].double() for part in rows]
            gaps = [(a - b.numpy()) / (len(layers) - i) for a, b in zip(target, now, strict=True)]
            asked = [through(model, part[0], layer, gap) for part, gap in zip(rows, gaps, strict=True)]
            R = np.stack([change for change, _ in asked], 1)
            delta = torch.tensor(R @ K.T @ np.linalg.inv(weight * np.asarray(C[layer]) + K @ K.T))
            W = down_of(model, layer).weight
            W += (delta.T if W.shape != delta.shape else delta).to(W.dtype)
        missing = [m for _, m in asked]
        last.append(np.mean([np.linalg.norm(m) / float(a.norm()) for m, a in zip(missing, z, strict=True)]))
        if last[-1] <= 0.001 or (len(last) > 1 and last[-1] >= 0.9 * last[-2]):
            break
        now = [forward(model, part[0].ids, layers[-1], part[0].subject_last)[1].double() for part in rows]
        target = [b.numpy() + m for b, m in zip(now, missing, strict=True)]
