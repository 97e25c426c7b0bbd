"""What differs between architecture families: where the layers are, and which module is the down-projection.

MEMIT edits the second matrix of each MLP (the "down-projection"). A family is a handful of attribute paths;
everything else in kbsync is written against `Adapter`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from kbsync.edit.families import family_of
from kbsync.edit.postnorm import into_norm
from kbsync.errors import ModelError
from kbsync.lm.batch import Batch
from kbsync.lm.forest import Grove
from kbsync.lm.place import Again, bare, beside, is_offloaded, main_device, real_weight
from kbsync.lm.reader import Head, Reader


class _NoPositions(nn.Module):
    """Stands in for learned positions where hidden states are fed in that hold them already."""

    def forward(self, positions: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.zeros((), device=positions.device)


class Adapter:
    """One model seen as layers with editable down-projections.

    Raises ModelError for a model that is not supported, saying why.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.family = family_of(model.config)
        self.reader = Reader(model)
        self.device = main_device(model)
        self.backbone = getattr(model.base_model, "decoder", model.base_model)  # OPT has a shell around it
        self.layers: nn.ModuleList = getattr(self.backbone, self.family.layers)
        try:
            self._down = [attrgetter(self.family.down)(layer) for layer in self.layers]
        except AttributeError:
            raise ModelError(
                f"this {self.family.name} model has no dense MLP ({self.family.down} is missing in a layer), "
                "so there is no down-projection to edit"
            ) from None
        self._transposed = isinstance(self._down[0], Conv1D)  # GPT-2's stores (d_in, d_out)
        self._scale = float(getattr(model.config, "residual_multiplier", 1.0))
        names = {module: name for name, module in model.named_modules()}
        self._names = [f"{names[module]}.weight" for module in self._down]
        self._views: dict[tuple[int, int], Any] = {}

    @property
    def n_layers(self) -> int:
        """How many layers the model has."""
        return len(self.layers)

    @property
    def d_in(self) -> int:
        """Size of a key: the input of the down-projection."""
        rows, columns = self._down[0].weight.shape
        return int(rows if self._transposed else columns)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self._down[0].weight.dtype  # type: ignore[no-any-return]

    def down(self, layer: int) -> nn.Module:
        """The down-projection module of a layer."""
        module: nn.Module = self._down[layer]
        return module

    def weight_name(self, layer: int) -> str:
        """The state-dict name of a layer's down-projection weight, in the whole model."""
        return self._names[layer]

    def parameter(self, layer: int) -> Tensor:
        """The down-projection's weight as the model stores it, to be changed in place."""
        return real_weight(self.down(layer))

    def read_weight(self, layer: int) -> Tensor:
        """The weight as (d_out, d_in), a view of the parameter."""
        return self.oriented(self.parameter(layer))

    def oriented(self, weight: Tensor) -> Tensor:
        """A weight as the model stores it, seen as (d_out, d_in)."""
        return weight.T if self._transposed else weight

    @torch.no_grad()
    def write_weight(self, layer: int, weight: Tensor) -> None:
        """Replace a layer's weight, given as (d_out, d_in), in the parameter's own type."""
        parameter = self.parameter(layer)
        parameter.copy_(weight.T if self._transposed else weight)

    @property
    def exact(self) -> bool:
        """Whether a down-projection reaches the layer's output without a norm: then any residual can be had."""
        return self.family.after is None

    def into_values(self, layer: int, values: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """How the down-projection's outputs `values` must change so that the layer's output changes by
        `residual`, and what of the residual can't be had at this layer. All are (d, n)."""
        if self.family.after is None:
            return residual / self._scale, torch.zeros_like(residual)
        norm = getattr(self.layers[layer], self.family.after)
        change, missing = into_norm(norm, *(beside(norm, one) for one in (values, residual)))
        return change.to(self.device), missing.to(self.device)

    def project(self, layer: int, keys: Tensor) -> Tensor:
        """The down-projection's outputs (n, d) for keys (n, d_in), on the main device wherever its weights are."""
        out: Tensor = self._down[layer](beside(self._down[layer], keys))
        return out.to(self.device)

    def run(
        self,
        batch: Batch | Grove,
        columns: tuple[int, int],
        layers: tuple[int, int],
        hidden: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Run layers `layers[0]:layers[1]` over the columns `columns[0]:columns[1]` of a batch.

        `hidden` is (R, columns, d), the output of the layer before; None feeds the token ids to layer 0. With
        `cache`, the keys and values of the columns before are read from it (or recorded in it). Returns
        (R, columns, d): the output of the last of these layers, after the final norm when it is the model's
        last.
        """
        first, last = columns
        view = self._view(*layers)
        inputs = {"input_ids": batch.ids[:, first:last]} if hidden is None else {"inputs_embeds": hidden}
        out = view(
            **inputs,
            **self.reader.inputs(batch, first, last, self.dtype),
            cache=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        assert isinstance(out, Tensor)
        return out.to(self.device)

    def top(self, first: int, dtype: torch.dtype) -> Top:
        """The layers from `first` on with the vocabulary projection, in `dtype` (a copy where it differs).

        Edits never touch these layers, so one copy serves every candidate.
        """
        return Top(self, first, dtype)

    def _view(self, first: int, last: int) -> Any:
        """The backbone cut down to some of its layers: a shallow copy that shares every weight."""
        if (first, last) not in self._views:
            view = bare(self.backbone)
            view._modules[self.family.layers] = nn.ModuleList(self.layers[first:last])
            if getattr(self.model.config, "layer_types", None):  # looked up by the layer's place in the view
                view.config = copy.copy(self.backbone.config)
                view.config.layer_types = self.model.config.layer_types[first:last]
            if last < self.n_layers:
                view._modules[self.family.norm] = nn.Identity()
            if first > 0:
                self._skip_embedding(view)
            self._views[first, last] = view
        return self._views[first, last]

    def _skip_embedding(self, view: Any) -> None:
        """What is done to embeddings before the first layer must not be done to hidden states."""
        if self.family.positions is not None:
            view._modules[self.family.positions] = _NoPositions()
        if self.family.embedded is not None:
            view._modules[self.family.embedded] = nn.Identity()
        if hasattr(view, "embedding_multiplier"):
            view.embedding_multiplier = 1.0


class Top:
    """The layers above the last critical one, and the vocabulary projection, to run many times."""

    def __init__(self, adapter: Adapter, first: int, dtype: torch.dtype) -> None:
        view = adapter._view(first, adapter.n_layers)
        own = adapter.model.get_output_embeddings()
        projection = None
        if is_offloaded(adapter.model):
            view = bare(view)
            layers = (Again(layer) for layer in view._modules[adapter.family.layers])
            view._modules[adapter.family.layers] = nn.ModuleList(layers)
        elif dtype != adapter.dtype:
            view, projection = bare(view), _cast(own, dtype)
            for name in (adapter.family.layers, adapter.family.norm):
                view._modules[name] = _cast(view._modules[name], dtype)
        self.dtype = dtype
        self.device = adapter.device
        self._view, self._head, self._reader = view, Head(adapter.model, projection), adapter.reader

    @property
    def module(self) -> nn.Module:
        """The layers, to look at their weights."""
        return self._view  # type: ignore[no-any-return]

    def run(self, batch: Batch, columns: tuple[int, int], hidden: Tensor, cache: Any) -> Tensor:
        """Final hidden states (R, columns, d) for `hidden` at these columns, after what `cache` holds."""
        out = self._view(
            inputs_embeds=hidden.to(self.dtype),
            **self._reader.inputs(batch, *columns, self.dtype),
            cache=cache,
            use_cache=True,
        ).last_hidden_state
        assert isinstance(out, Tensor)
        return out.to(self.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """The vocabulary projection of (…, d), float32."""
        return self._head(hidden).to(self.device)


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy with its parameters in `dtype`; buffers (rotary tables) keep their precision."""
    copied = copy.deepcopy(module)
    for parameter in copied.parameters():
        parameter.data = parameter.data.to(dtype)
    for part in copied.modules():
        # The fused attention's backward is slower than plain matrices on the CPU for rows this short.
        config: Any = getattr(part, "config", None)
        if config is not None:
            config._attn_implementation = "eager"
    return copied


def solve_dtype(adapter: Adapter, wanted: str) -> torch.dtype:
    """The type in which z is solved: `auto` is bfloat16 where the processor multiplies it natively, which is
    two to three times faster and moves the solved z by less than its stopping loss; else the model's own."""
    own = adapter.dtype
    if is_offloaded(adapter.model):  # there is no copy of what is not there
        return own
    if wanted == "float32":
        return torch.float32 if own == torch.float32 else own
    native = own != torch.float32 or bool(torch.cpu._is_avx512_bf16_supported())
    if wanted == "bfloat16" or (native and adapter.family.half):
        return torch.bfloat16
    return own


# By family, number of layers and size of a key: the layers that edits were best written to.
_MEASURED: Mapping[tuple[str, int, int], tuple[int, ...]] = {
    ("llama", 30, 1536): (2, 3, 4, 5, 6),  # SmolLM2-135M, which is the embedded model
}


def critical_layers(adapter: Adapter, wanted: tuple[int, ...] | str) -> tuple[int, ...]:
    """The layers to edit, ascending.

    `auto` takes those that were found best for a model of this shape (docs/quality.md), or else five from 13 % of
    the depth on (GPT-J's published 3–8 of 28 and Llama-3's 4–8 of 32 lie there), fewer in a shallow model. Raises
    ModelError when a layer does not exist or is the model's last, above which nothing is left to carry the edit.
    """
    if adapter.n_layers < 2:
        raise ModelError("the model has one layer only; there is none above an edited one to carry the edit")
    if isinstance(wanted, str):
        if (measured := _MEASURED.get((adapter.family.name, adapter.n_layers, adapter.d_in))) is not None:
            return measured
        first = max(0, round(adapter.n_layers * 4 / 30))
        return tuple(range(first, max(first + 1, min(first + 5, adapter.n_layers - 1))))
    layers = tuple(sorted(set(wanted)))
    if not layers or layers[0] < 0 or layers[-1] >= adapter.n_layers - 1:
        raise ModelError(
            f"edit.layers = {list(wanted)} does not fit: the model has layers 0 to {adapter.n_layers - 1}, "
            "and the last one can't be edited"
        )
    return layers
