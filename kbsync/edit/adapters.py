"""What differs between architecture families: where the layers are, and which module is the down-projection.

MEMIT edits the second matrix of each MLP (the "down-projection"). A family is a handful of attribute paths;
everything else in kbsync is written against `Adapter`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from kbsync.errors import ModelError
from kbsync.lm.batch import Batch
from kbsync.lm.forest import Grove


@dataclass(frozen=True, slots=True)
class Family:
    """Attribute paths of one architecture family.

    `layers` and `norm` are found on the backbone (the model without its vocabulary projection), `down` on one
    layer. `positions` names a module that adds positions to the embeddings, `transposed` says that the
    weight is stored (d_in, d_out), as GPT-2's Conv1D does. `half`: its layers run with bfloat16 parameters
    beside float32 buffers (GPT-J's rotary tables don't).
    """

    name: str
    layers: str
    norm: str
    down: str
    positions: str | None = None
    transposed: bool = False
    half: bool = True


_LLAMA = Family("llama", "layers", "norm", "mlp.down_proj")
FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "gpt2": Family("gpt2", "h", "ln_f", "mlp.c_proj", positions="wpe", transposed=True),
    "gptj": Family("gptj", "h", "ln_f", "mlp.fc_out", half=False),
    "gpt_neox": Family("gpt_neox", "layers", "final_layer_norm", "mlp.dense_4h_to_h"),
}


class _NoPositions(nn.Module):
    """Stands in for learned positions where hidden states are fed in that hold them already."""

    def forward(self, positions: Tensor) -> Tensor:
        return torch.zeros((), device=positions.device)


class Adapter:
    """One model seen as layers with editable down-projections.

    Raises ModelError for a family that is not supported, naming it.
    """

    def __init__(self, model: Any) -> None:
        kind = model.config.model_type
        if getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(f"{kind} is an encoder-decoder; kbsync edits decoder-only models")
        if kind not in FAMILIES:
            known = ", ".join(sorted(FAMILIES))
            raise ModelError(f"no adapter for the model type {kind!r}; supported are {known}")
        self.model = model
        self.family = FAMILIES[kind]
        self.backbone = model.base_model
        self.layers: nn.ModuleList = getattr(self.backbone, self.family.layers)
        try:
            self._down = [attrgetter(self.family.down)(layer) for layer in self.layers]
        except AttributeError:
            raise ModelError(
                f"this {kind} model has no dense MLP ({self.family.down} is missing in a layer), "
                "so there is no down-projection to edit"
            ) from None
        self._views: dict[tuple[int, int], Any] = {}

    @property
    def n_layers(self) -> int:
        """How many layers the model has."""
        return len(self.layers)

    @property
    def d_in(self) -> int:
        """Size of a key: the input of the down-projection."""
        return self.read_weight(0).shape[1]

    def down(self, layer: int) -> nn.Module:
        """The down-projection module of a layer."""
        module: nn.Module = self._down[layer]
        return module

    def weight_name(self, layer: int) -> str:
        """The state-dict name of a layer's down-projection weight, in the whole model."""
        prefix = self.model.base_model_prefix
        return f"{prefix}.{self.family.layers}.{layer}.{self.family.down}.weight"

    def parameter(self, layer: int) -> Tensor:
        """The down-projection's weight as the model stores it."""
        weight = self.down(layer).weight
        assert isinstance(weight, Tensor)
        return weight

    def read_weight(self, layer: int) -> Tensor:
        """The weight as (d_out, d_in), a view of the parameter."""
        weight = self.parameter(layer)
        return weight.T if self.family.transposed else weight

    @torch.no_grad()
    def write_weight(self, layer: int, weight: Tensor) -> None:
        """Replace a layer's weight, given as (d_out, d_in), in the parameter's own type."""
        parameter = self.parameter(layer)
        parameter.copy_(weight.T if self.family.transposed else weight)

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
        dtype = self.parameter(0).dtype
        inputs = {"input_ids": batch.ids[:, first:last]} if hidden is None else {"inputs_embeds": hidden}
        out = view(
            **inputs,
            attention_mask=batch.mask(first, last, dtype),
            position_ids=batch.positions[:, first:last],
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        assert isinstance(out, Tensor)
        return out

    def top(self, first: int, dtype: torch.dtype) -> Top:
        """The layers from `first` on with the vocabulary projection, in `dtype` (a copy where it differs).

        Edits never touch these layers, so one copy serves every candidate.
        """
        return Top(self, first, dtype)

    def _view(self, first: int, last: int) -> Any:
        """The backbone cut down to some of its layers: a shallow copy that shares every weight."""
        if (first, last) not in self._views:
            view = copy.copy(self.backbone)
            view._modules = dict(self.backbone._modules)
            view._modules[self.family.layers] = nn.ModuleList(self.layers[first:last])
            if last < self.n_layers:
                view._modules[self.family.norm] = nn.Identity()
            if first > 0 and self.family.positions is not None:
                view._modules[self.family.positions] = _NoPositions()
            self._views[first, last] = view
        return self._views[first, last]


class Top:
    """The layers above the last critical one, and the vocabulary projection, to run many times."""

    def __init__(self, adapter: Adapter, first: int, dtype: torch.dtype) -> None:
        view = adapter._view(first, adapter.n_layers)
        head = adapter.model.get_output_embeddings()
        if dtype != adapter.parameter(0).dtype:
            view, head = copy.copy(view), _cast(head, dtype)
            view._modules = dict(view._modules)
            for name in (adapter.family.layers, adapter.family.norm):
                view._modules[name] = _cast(view._modules[name], dtype)
        self.dtype = dtype
        self.device = head.weight.device
        self._view, self._head = view, head

    def run(self, batch: Batch, columns: tuple[int, int], hidden: Tensor, cache: Any) -> Tensor:
        """Final hidden states (R, columns, d) for `hidden` at these columns, after what `cache` holds."""
        first, last = columns
        out = self._view(
            inputs_embeds=hidden.to(self.dtype),
            attention_mask=batch.mask(first, last, self.dtype),
            position_ids=batch.positions[:, first:last],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        assert isinstance(out, Tensor)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """The vocabulary projection of (…, d), float32."""
        logits: Tensor = self._head(hidden)
        return logits.float()


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
    own = adapter.parameter(0).dtype
    if wanted == "float32":
        return torch.float32 if own == torch.float32 else own
    native = own != torch.float32 or bool(torch.cpu._is_avx512_bf16_supported())
    if wanted == "bfloat16" or (native and adapter.family.half):
        return torch.bfloat16
    return own


def critical_layers(adapter: Adapter, wanted: tuple[int, ...] | str) -> tuple[int, ...]:
    """The layers to edit, ascending.

    `auto` takes five layers from 13 % of the depth on (4–8 of 30; GPT-J's published 3–8 of 28 and Llama-3's
    4–8 of 32 lie there), fewer in a shallow model. Raises ModelError when a layer does not exist or is the
    model's last, above which nothing is left to carry the edit.
    """
    if adapter.n_layers < 2:
        raise ModelError("the model has one layer only; there is none above an edited one to carry the edit")
    if isinstance(wanted, str):
        first = max(0, round(adapter.n_layers * 4 / 30))
        return tuple(range(first, max(first + 1, min(first + 5, adapter.n_layers - 1))))
    layers = tuple(sorted(set(wanted)))
    if not layers or layers[0] < 0 or layers[-1] >= adapter.n_layers - 1:
        raise ModelError(
            f"edit.layers = {list(wanted)} does not fit: the model has layers 0 to {adapter.n_layers - 1}, "
            "and the last one can't be edited"
        )
    return layers
