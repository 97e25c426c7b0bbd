"""Keys k: what a down-projection reads, at the subject's last token, averaged over a request's contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.lm.forest import Grove
from kbsync.lm.rows import Row


class KeyTap:
    """Records the inputs of some layers' down-projections while it is open: `keys[layer]`, (R · T, d_in)."""

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
            self.keys[layer] = args[0].flatten(0, -2).to(self.adapter.device)

        return hook


_SUMS = 4 * 1024**3  # bytes of second moments that are summed up at a time on CUDA


@torch.inference_mode()
def bystander_moments(adapter: Adapter, rows: Sequence[Row], layers: Sequence[int]) -> dict[int, Tensor]:
    """Σ k kᵀ per layer, (d_in, d_in) float64 on the CPU, over every token of `rows` but the subjects' last ones.

    These keys stand in the very prompts that an edit is asked with; an update that moves their values undoes at
    the words after the subject what it does at the subject. A token that several rows share counts for each.
    """
    groves = adapter.reader.plant([row.inputs for row in rows], adapter.device)
    together = len(layers)
    if adapter.device.type == "cuda":  # the sums of a large model's layers don't all fit beside it
        together = max(1, _SUMS // (8 * adapter.d_in**2))
    sums = {}
    for at in range(0, len(layers), together):
        part = _moments(adapter, rows, groves, layers[at : at + together])
        sums.update({layer: moment.cpu() for layer, moment in part.items()})
    return sums


def _moments(
    adapter: Adapter, rows: Sequence[Row], groves: Sequence[Grove], layers: Sequence[int]
) -> dict[int, Tensor]:
    """The sums of some layers, on the device, in one pass."""
    device, d = adapter.device, adapter.d_in
    sums = {layer: torch.zeros(d, d, dtype=torch.float64, device=device) for layer in layers}
    for grove in groves:
        weight = torch.zeros(grove.ids.numel())
        for number, place in grove.places.items():
            weight[list(place)] += 1
            weight[place[rows[number].subject_last]] -= 1
        others = weight.nonzero()[:, 0]
        root = weight[others].sqrt()[:, None].to(device)
        others = others.to(device)
        with KeyTap(adapter, layers) as tap:
            adapter.run(grove, (0, grove.ids.shape[1]), (0, max(layers) + 1))
            for layer in layers:
                keys = tap.keys[layer][others].float() * root  # (tokens, d_in)
                sums[layer] += (keys.T @ keys).double()
    return sums


def mean_keys(adapter: Adapter, rows: Sequence[Row], layers: Sequence[int]) -> dict[int, Tensor]:
    """The mean key of these rows at their subjects' last tokens, per layer, (d_in,) float64 on the CPU.

    Keys of names have much in common in a small model, which is no name's own.
    """
    subject = SubjectPass(adapter, [[row] for row in rows], layers[0])
    means = {}
    for layer in layers:
        subject.climb(layer)
        means[layer] = subject.read(layer).keys.double().mean(1).cpu()
    return means


class Reading(NamedTuple):
    """What one layer has at the subjects' last tokens, float32.

    `keys` (d_in, n): means over the contexts. Of each request's first context: `hidden` (d, n), the hidden state
    after the last critical layer, and `values` (d, n), the down-projection's output.
    """

    keys: Tensor
    hidden: Tensor
    values: Tensor


class SubjectPass:
    """The requests' rows up to the subject's last token, carried upwards layer by layer while weights change.

    Nothing after the subject's last token can change its key (attention is causal), so rows end there. The
    hidden states that enter the current layer are kept; each layer is run once to read keys with its old
    weight, and once more with its new weight when the next layer is reached. Layers below `first` are never
    edited: what they hand on is computed once, for every pass that begins with `rewind`.
    """

    def __init__(self, adapter: Adapter, rows: Sequence[Sequence[Row]], first: int) -> None:
        self.adapter = adapter
        self._first = first
        self._counts = torch.tensor([len(contexts) for contexts in rows])
        prompts = [_Place(i, 0, contexts[0]) for i, contexts in enumerate(rows)]
        others = [_Place(i, j, row) for i, own in enumerate(rows) for j, row in enumerate(own[1:], start=1)]
        # The prompts themselves are apart: their hidden states are wanted at the last critical layer, too.
        self._prompts = _plant(adapter, prompts)
        self._others = _plant(adapter, others)
        self._at = 0
        self.climb(first)
        self._entry = [part.hidden for part in self._parts]

    @property
    def _parts(self) -> list[_Part]:
        return [*self._prompts, *self._others]

    def rewind(self) -> None:
        """Go back to the first edited layer."""
        for part, hidden in zip(self._parts, self._entry, strict=True):
            part.hidden = hidden
        self._at = self._first

    @torch.inference_mode()
    def climb(self, layer: int) -> None:
        """Bring the rows to the input of `layer`, through the weights as they are now."""
        if layer > self._at:
            for part in self._parts:
                part.hidden = part.run(self.adapter, (self._at, layer), part.hidden)
        self._at = layer

    @torch.inference_mode()
    def read(self, last: int) -> Reading:
        """Keys and values of the current layer, and the hidden states after layer `last`."""
        at, n = self._at, len(self._counts)
        device = self.adapter.device
        keys = torch.zeros(n, self.adapter.d_in, device=device)
        columns: dict[int, list[tuple[Tensor, Tensor]]] = {}  # by context, so that sums have one order everywhere
        hidden: list[tuple[Tensor, Tensor, Tensor]] = []
        for part in self._parts:
            with KeyTap(self.adapter, [at]) as tap:
                out = part.run(self.adapter, (at, at + 1), part.hidden)
            read = tap.keys[at][part.spots]  # (rows, d_in)
            found = read.float()
            for context in sorted(set(part.contexts.tolist())):
                mine = part.contexts == context
                columns.setdefault(context, []).append((part.owners[mine], found[mine]))
            if part in self._prompts:
                top = part.run(self.adapter, (at + 1, last + 1), out) if last > at else out
                values = self.adapter.project(at, read)
                hidden.append((part.owners, top.flatten(0, 1)[part.spots].float(), values.float()))
        for context in sorted(columns):
            for owners, found in columns[context]:
                keys[owners] += found
        keys /= self._counts[:, None].to(device)
        order = torch.cat([owners for owners, _, _ in hidden]).argsort()
        whole = [torch.cat(rows)[order].T.contiguous() for rows in list(zip(*hidden, strict=True))[1:]]
        return Reading(keys.T.contiguous(), *whole)


@dataclass(frozen=True, slots=True)
class _Place:
    """Context number `context` of request `owner`."""

    owner: int
    context: int
    row: Row


@dataclass(eq=False, slots=True)
class _Part:
    """One grove of rows. `spots`: the flat index of each row's last token, the subject's; `owners`, `contexts`:
    whose it is."""

    grove: Grove
    spots: Tensor
    owners: Tensor
    contexts: Tensor
    hidden: Tensor | None = None

    def run(self, adapter: Adapter, layers: tuple[int, int], hidden: Tensor | None) -> Tensor:
        """Hidden states (P, T, d) after these layers."""
        return adapter.run(self.grove, (0, self.grove.ids.shape[1]), layers, hidden)


def _plant(adapter: Adapter, places: Sequence[_Place]) -> list[_Part]:
    device = adapter.device
    parts = []
    rows = [place.row.ids[: place.row.subject_last + 1] for place in places]
    for grove in adapter.reader.plant(rows, device):
        here = [places[number] for number in grove.places]
        whole = partial(torch.tensor, device=device)
        parts.append(
            _Part(
                grove,
                whole([place[-1] for place in grove.places.values()]),
                whole([place.owner for place in here]),
                whole([place.context for place in here]),
            )
        )
    return parts
