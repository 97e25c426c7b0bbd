"""How one model is read: which mask and positions it takes, and how its last hidden state becomes logits.

Everything is read from the model's config and from its own code. Prompts are packed as prefix trees with a mask of
our own where a model goes by positions; a model that goes by columns instead gets each row by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from kbsync.lm.forest import SIZE, Grove, plant
from kbsync.lm.place import bare

# They take the distance between two tokens from their columns, whatever positions are given: linear biases
# (BLOOM, MPT; Falcon where its config says so) and GPT-Neo's local windows.
_BY_COLUMN = ("bloom", "gpt_neo", "mpt")
# They look positions up in a table, and can't read beyond its end.
_BY_TABLE = ("codegen", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "mpt", "opt")


def longest_text(config: Any) -> int | None:
    """The most tokens that a model of this config can read at all; None where nothing ends."""
    if config.model_type not in _BY_TABLE:
        return None
    return int(config.max_seq_len if config.model_type == "mpt" else config.max_position_embeddings)


class Columns(Protocol):
    """Tokens in columns and what each of them sees: a batch, a grove, or what is said after one.

    `positions`: (R, T) int64; `real`: (R, T) bool, False at padding.
    """

    @property
    def positions(self) -> Tensor: ...

    @property
    def real(self) -> Tensor: ...

    def mask(self, first: int, last: int, dtype: torch.dtype, window: int | None = None) -> Tensor:
        """Additive mask (R, 1, Q, last) for the queries in columns `first:last` over keys `0:last`."""
        ...


class Reader:
    """One causal language model and the form in which it takes its inputs."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self.model = model
        self.by_column = config.model_type in _BY_COLUMN or bool(getattr(config, "alibi", False))
        kinds = getattr(config, "layer_types", None) or ()
        self._mixed = "sliding_attention" in kinds
        slides = self._mixed or not kinds
        self._window: int | None = getattr(config, "sliding_window", None) if slides else None
        self._takes = inspect.signature(model.base_model.forward).parameters

    def plant(self, rows: Sequence[Sequence[int]], device: torch.device, apart: bool = False) -> list[Grove]:
        """The rows as groves that this model reads rightly: each row by itself where columns count, or `apart`."""
        return plant(rows, device, 0 if self.by_column or apart else SIZE)

    def inputs(self, batch: Columns, first: int, last: int, dtype: torch.dtype) -> dict[str, Any]:
        """Mask and positions for the columns `first:last`, as arguments of the backbone's forward pass.

        Where columns count, the mask is the (R, last) one of what is not padding: such models build biases and
        causality from it. Else it is additive, (R, 1, Q, last), once per kind of layer where kinds differ.
        """
        given: dict[str, Any] = {}
        if "position_ids" in self._takes:
            given["position_ids"] = batch.positions[:, first:last]
        if self.by_column:
            given["attention_mask"] = batch.real[:, :last].long()
        elif self._mixed:
            given["attention_mask"] = {
                "full_attention": batch.mask(first, last, dtype),
                "sliding_attention": batch.mask(first, last, dtype, self._window),
            }
        else:
            given["attention_mask"] = batch.mask(first, last, dtype, self._window)
        return given

    def hidden(self, ids: Tensor, columns: Columns, cache: Any = None) -> Tensor:
        """The model's last hidden states (R, Q, d), after the final norm, for `ids` (R, Q) in the last columns.

        With `cache`, the keys and values of the columns before are read from it, and these ones' are added.
        """
        last = columns.positions.shape[1]
        given = self.inputs(columns, last - ids.shape[1], last, self.model.get_output_embeddings().weight.dtype)
        out = self.model.base_model(
            input_ids=ids, cache=cache, use_cache=cache is not None, **given
        ).last_hidden_state
        assert isinstance(out, Tensor)
        return out


class Head:
    """From last hidden states to logits by the model's own code, so that scaling and capping are not left out.

    `projection` stands in for the model's own vocabulary projection (a copy of it in another type).
    """

    def __init__(self, model: Any, projection: nn.Module | None = None) -> None:
        own = model.get_output_embeddings()
        view = bare(model)
        view._modules[model.base_model_prefix] = _Passed()
        if projection is not None:
            (name,) = (name for name, module in model.named_children() if module is own)
            view._modules[name] = projection
        self._view = view

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (…, V), float32, of hidden states (…, d)."""
        flat = hidden.reshape(1, -1, hidden.shape[-1])
        logits: Tensor = self._view(inputs_embeds=flat, use_cache=False).logits
        return logits.float().reshape(*hidden.shape[:-1], logits.shape[-1])


class _Passed(nn.Module):
    """Stands in for the backbone: what it is given is its last hidden state."""

    @property
    def decoder(self) -> _Passed:
        """OPT's head asks for its backbone's decoder."""
        return self

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)
