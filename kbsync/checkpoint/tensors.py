"""Edited tensors: their hash, their checks, and their way into a model and out of it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch

from kbsync.checkpoint.manifest import TensorEntry
from kbsync.errors import CheckpointError
from kbsync.lm.finite import is_finite
from kbsync.lm.place import real_weight


def dtype_name(tensor: torch.Tensor) -> str:
    """torch's name of the dtype: `float32`, `bfloat16`."""
    return str(tensor.dtype).removeprefix("torch.")


def entries(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorEntry]:
    """What the manifest says of each tensor."""
    return {name: TensorEntry(dtype_name(t), tuple(t.shape)) for name, t in sorted(tensors.items())}


def tensors_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 (hex) over the tensors in the order of their names: name, dtype, shape, bytes.

    The bytes are those of the C-contiguous tensor, little-endian, so neither file layout nor device matter.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        head = json.dumps([name, dtype_name(tensor), list(tensor.shape)], separators=(",", ":"))
        total.update(head.encode() + b"\n")
        flat = tensor.detach().cpu().contiguous().reshape(-1)  # (elements,)
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError when a tensor has no plain memory, or holds NaN or infinity."""
    for name, tensor in sorted(tensors.items()):
        if tensor.layout is not torch.strided or tensor.device.type == "meta" or tensor.is_complex():
            raise CheckpointError(f"{name} is not a dense, real tensor in memory; it can't be checkpointed")
        if not is_finite(tensor):
            raise CheckpointError(f"{name} holds NaN or infinity; the solve behind it went wrong")


@torch.no_grad()
def apply_tensors(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy `tensors` into the model's parameters of the same names, in place, and return what was there.

    Everything is checked before the first parameter changes. Applying the returned tensors undoes it, bit for
    bit. Raises CheckpointError when a name, shape or dtype is not the model's.
    """
    check_tensors(tensors)
    parameters = _parameters(model, tensors)
    for name, tensor in tensors.items():
        parameter = parameters.get(name)
        if parameter is None:
            raise CheckpointError(f"the model has no parameter {name!r}; is this the checkpoint's base model?")
        if parameter.shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, the model's {tuple(parameter.shape)}"
            raise CheckpointError(f"{name} has shape {shapes}; is this the checkpoint's base model?")
        if parameter.dtype != tensor.dtype:
            dtypes = f"{dtype_name(tensor)}, the model's {dtype_name(parameter)}"
            raise CheckpointError(f"{name} has dtype {dtypes}; load the model in the checkpoint's dtype")
    before = {name: parameters[name].detach().clone() for name in tensors}
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)
    return before


@contextmanager
def applied(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The model with `tensors` in place inside the block, and as it was after it, whatever happens inside."""
    before = apply_tensors(model, tensors)
    try:
        yield
    finally:
        _copy_back(model, before)


@torch.no_grad()
def _copy_back(model: torch.nn.Module, before: Mapping[str, torch.Tensor]) -> None:
    """Undo without the checks: a base model with a NaN of its own must come back as it was."""
    parameters = _parameters(model, before)
    for name, tensor in before.items():
        parameters[name].copy_(tensor)


def _parameters(model: torch.nn.Module, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The parameters of these names that the model has, to be read and changed in place, also where a model's
    weights are offloaded."""
    there = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    for name in there.keys() & set(names):
        module, _, own = name.rpartition(".")
        found[name] = real_weight(model.get_submodule(module)) if own == "weight" else there[name]
    return found
