"""Causal tracing as the paper writes it (Meng et al. 2022, section 2, eq. 1-4): serial, whole prompts, plain hooks.

Slow and short, so that it can be checked by eye; it shares nothing with the tracer but rows and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from kbsync.lm.rows import Row

PLACES = {  # the embeddings, the layers, and in a layer its MLP and its attention
    "llama": ("model.embed_tokens", "model.layers", "mlp", "self_attn"),
    "gpt2": ("transformer.wte", "transformer.h", "mlp", "attn"),
    "gptj": ("transformer.wte", "transformer.h", "mlp", "attn"),
    "gpt_neox": ("gpt_neox.embed_in", "gpt_neox.layers", "mlp", "attention"),
}
PLACES |= dict.fromkeys(("mistral", "olmo", "qwen2", "qwen3", "smollm3", "stablelm"), PLACES["llama"])
KINDS = ("hidden", "mlp", "attention")


def place(model: Any, kind: str, layer: int) -> str:
    """The name of the module whose output is this state."""
    _, layers, mlp, attention = PLACES[model.config.model_type]
    part = {"hidden": "", "mlp": f".{mlp}", "attention": f".{attention}"}[kind]
    return f"{layers}.{layer}{part}"


def forward(model: Any, row: Row, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> float:
    """P(object) of one whole prompt, with the outputs (T, d) of some modules changed."""
    with ExitStack() as stack:
        for name, change in changes.items():

            def hook(module: Any, args: Any, out: Any, change: Callable[[Tensor], Tensor] = change) -> Any:
                if isinstance(out, tuple):
                    return (change(out[0][0])[None], *out[1:])
                return change(out[0])[None]

            handle = model.get_submodule(name).register_forward_hook(hook)
            stack.callback(handle.remove)
        logp = model(torch.tensor([row.ids]), use_cache=False).logits[0].double().log_softmax(-1)
    start = len(row.ids) - row.target_len
    return float(sum(logp[i - 1, row.ids[i]] for i in range(start, len(row.ids))).exp())


def clean_states(model: Any, row: Row) -> tuple[dict[str, Tensor], float]:
    """Every state of the clean run by module name, and P(object)."""
    states: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Tensor], Tensor]:
        def change(out: Tensor) -> Tensor:
            states[name] = out
            return out

        return change

    names = [place(model, kind, layer) for kind in KINDS for layer in range(model.config.num_hidden_layers)]
    return states, forward(model, row, {name: keep(name) for name in names})


def trace(model: Any, row: Row, noise: Tensor, window: int) -> tuple[float, float, Tensor]:
    """P(o), P*(o), and the indirect effects (kinds, tokens, layers): means over the samples of `noise`
    (samples, tokens of the subject, d)."""
    layers = model.config.num_hidden_layers
    first, last = row.subject_last - row.subject_len + 1, len(row.ids) - row.target_len
    states, clean = clean_states(model, row)
    corrupted = 0.0
    effects = torch.zeros(len(KINDS), last - first, layers, dtype=torch.float64)
    for drawn in noise:

        def corrupt(out: Tensor, drawn: Tensor = drawn) -> Tensor:
            out = out.clone()
            out[first : row.subject_last + 1] += drawn
            return out

        embed = {PLACES[model.config.model_type][0]: corrupt}
        low = forward(model, row, embed)
        corrupted += low / len(noise)
        for number, kind in enumerate(KINDS):
            for token in range(first, last):

                def restore(name: str, token: int = token) -> Callable[[Tensor], Tensor]:
                    def change(out: Tensor) -> Tensor:
                        out = out.clone()
                        out[token] = states[name][token]
                        return out

                    return change

                for layer in range(layers):
                    here = [layer]
                    if kind != "hidden":
                        begin = layer - window // 2
                        here = [one for one in range(begin, begin + window) if 0 <= one < layers]
                    names = [place(model, kind, one) for one in here]
                    high = forward(model, row, {**embed, **{name: restore(name) for name in names}})
                    effects[number, token - first, layer] += (high - low) / len(noise)
    return clean, corrupted, effects
