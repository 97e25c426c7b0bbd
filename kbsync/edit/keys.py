"""Keys k: what a down-projection reads, at the subject's last token, averaged over a request's contexts."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.lm.batch import Batch, align, by_length
from kbsync.lm.rows import Row


class KeyTap:
    """Records the inputs of some layers' down-projections while it is open: `keys[layer]`, (R, T, d_in)."""

    def __init__(self, adapter: Adapter, layers: Sequence[int]) -> None:
        self.adapter = adapter
        self.layers = layers
        self.keys: dict[int, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> KeyTap:
        for layer in self.layers:
            hook = self.adapter.down(layer).register_forward_pre_hook(self._record(layer))
            self._handles.append(hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _record(self, layer: int) -> Any:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            del module
            self.keys[layer] = args[0]

        return hook


@torch.inference_mode()
def bystander_moments(
    adapter: Adapter, rows: Sequence[Row], layers: Sequence[int], batch_size: int = 64
) -> dict[int, Tensor]:
    """Σ k kᵀ per layer, (d_in, d_in) float64, over every token of `rows` but the subjects' last ones.

    These keys stand in the very prompts that an edit is asked with; an update that moves their values undoes at
    the words after the subject what it does at the subject.
    """
    device = adapter.parameter(0).device
    d = adapter.d_in
    sums = {layer: torch.zeros(d, d, dtype=torch.float64, device=device) for layer in layers}
    for indices in by_length([len(row.inputs) for row in rows], batch_size):
        part = [rows[i] for i in indices]
        batch = align([row.inputs for row in part], [row.subject_last for row in part], device)
        others = batch.real.clone()
        others[:, batch.anchor] = False
        with KeyTap(adapter, layers) as tap:
            adapter.run(batch, (0, batch.ids.shape[1]), (0, max(layers) + 1))
            for layer in layers:
                keys = tap.keys[layer][others].float()  # (tokens, d_in)
                sums[layer] += (keys.T @ keys).double()
    return sums


class SubjectPass:
    """The requests' rows up to the subject's last token, carried upwards layer by layer while weights change.

    Nothing after the subject's last token can change its key (attention is causal), so rows end there. The
    hidden states that enter the current layer are kept; each layer is run once to read keys with its old
    weight, and once more with its new weight when the next layer is reached.
    """

    def __init__(self, adapter: Adapter, rows: Sequence[Sequence[Row]], chunk: int = 32) -> None:
        self.adapter = adapter
        device = adapter.parameter(0).device
        self._parts: list[_Part] = []
        for at in range(0, len(rows), chunk):
            part = rows[at : at + chunk]
            flat = [row for contexts in part for row in contexts]
            batch = align(
                [row.ids[: row.subject_last + 1] for row in flat], [row.subject_last for row in flat], device
            )
            self._parts.append(_Part(batch, [len(contexts) for contexts in part]))
        self._at = 0

    @torch.inference_mode()
    def climb(self, layer: int) -> None:
        """Bring the rows to the input of `layer`, through the weights as they are now."""
        if layer > self._at:
            for part in self._parts:
                part.hidden = self._run(part, (self._at, layer), part.hidden)
        self._at = layer

    @torch.inference_mode()
    def keys_and_hidden(self, last: int) -> tuple[Tensor, Tensor]:
        """Keys of the current layer (d_in, n), and the hidden state after layer `last` of each request's
        first context (d, n), both float32."""
        keys, hidden = [], []
        for part in self._parts:
            with KeyTap(self.adapter, [self._at]) as tap:
                out = self._run(part, (self._at, self._at + 1), part.hidden)
                columns = tap.keys[self._at][:, -1].float()  # (R, d_in)
            keys += [piece.mean(0) for piece in torch.split(columns, part.contexts)]
            firsts = part.firsts
            rows = _Part(part.batch_of(firsts), [1] * len(firsts))
            top = out[firsts]
            if last > self._at:
                top = self._run(rows, (self._at + 1, last + 1), top)
            hidden += list(top[:, -1].float())
        return torch.stack(keys, dim=1), torch.stack(hidden, dim=1)

    def _run(self, part: _Part, layers: tuple[int, int], hidden: Tensor | None) -> Tensor:
        return self.adapter.run(part.batch, (0, part.batch.ids.shape[1]), layers, hidden)


class _Part:
    """Some requests' rows as one batch: `contexts[i]` rows for request i, in order."""

    def __init__(self, batch: Batch, contexts: list[int]) -> None:
        self.batch = batch
        self.contexts = contexts
        self.hidden: Tensor | None = None

    @property
    def firsts(self) -> list[int]:
        """Each request's first row: the prompt itself."""
        starts, at = [], 0
        for count in self.contexts:
            starts.append(at)
            at += count
        return starts

    def batch_of(self, rows: list[int]) -> Batch:
        """The same columns for some rows only."""
        b = self.batch
        return Batch(b.ids[rows], b.positions[rows], b.real[rows], b.anchor)
