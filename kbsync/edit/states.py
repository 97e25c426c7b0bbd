"""A model's states, to be read and to be put back: hidden states, MLP outputs, attention outputs.

A layer adds the outputs of its attention and of its MLP to what it was given; the sum is its hidden state. They are
reached by hooks, which see whole batches (R, T, d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from torch import Tensor, nn

from kbsync.edit.adapters import Adapter
from kbsync.errors import ModelError

Change = Callable[[Tensor], Tensor | None]


class StateKind(StrEnum):
    """Which of a layer's states at a token."""

    HIDDEN = "hidden"  # the layer's output
    MLP = "mlp"  # what its MLP adds
    ATTENTION = "attention"  # what its attention adds


def state_module(adapter: Adapter, kind: StateKind, layer: int) -> nn.Module:
    """The module whose output is this state.

    The MLP's output is that of its last matrix, the down-projection, in every family. The attention is the one
    part of a layer whose class says so. Raises ModelError when a layer has none, or several.
    """
    if kind is StateKind.MLP:
        return adapter.down(layer)
    module = adapter.layers[layer]
    if kind is StateKind.HIDDEN:
        return module
    found = [part for part in module.children() if "attention" in type(part).__name__.lower()]
    if len(found) != 1:
        raise ModelError(
            f"layer {layer} of this {adapter.model.config.model_type} model has {len(found)} attention modules "
            "instead of one, so attention outputs can't be traced"
        )
    return found[0]


@contextmanager
def changed(changes: Iterable[tuple[nn.Module, Change]]) -> Iterator[None]:
    """While open, a module's output is what its function makes of it; None leaves it as it is."""
    handles = []
    try:
        for module, change in changes:
            handles.append(module.register_forward_hook(_hook(change)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(change: Change) -> Any:
    def hook(module: nn.Module, args: Any, out: Any) -> Any:
        del module, args
        several = isinstance(out, tuple)  # attention gives its weights besides
        new = change(out[0] if several else out)
        if new is None:
            return None
        return (new, *out[1:]) if several else new

    return hook


def record(states: dict[int, Tensor], layer: int, first: int) -> Change:
    """Keep the output in `states[layer]`, from column `first` on: (R, T - first, d)."""

    def change(out: Tensor) -> None:
        states[layer] = out[:, first:]

    return change


def put(values: Tensor) -> Change:
    """Replace the output's first columns by `values` (R, columns, d)."""

    def change(out: Tensor) -> Tensor:
        out = out.clone()
        out[:, : values.shape[1]] = values
        return out

    return change
