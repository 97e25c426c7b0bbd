"""Whether a checkpoint is what its manifest says. Only safetensors are read: a pickle is never opened."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from kbsync.checkpoint.files import TENSORS, file_entry, file_problems
from kbsync.checkpoint.manifest import Manifest, read_manifest
from kbsync.checkpoint.tensors import entries, tensors_hash
from kbsync.errors import CheckpointError
from kbsync.lm.finite import is_finite
from kbsync.lm.safetensors_header import read_header

__all__ = ["TENSORS", "file_entry", "read_checkpoint", "verify"]


def verify(path: Path) -> list[str]:
    """Every problem of the checkpoint folder `path`, one line each; none when it is whole.

    Checked are the manifest, files that are missing or too many, sizes, sha256, whether the tensors can be
    read, their names, dtypes and shapes, their hash, and whether every number is finite.
    """
    try:
        manifest = read_manifest(path)
    except CheckpointError as error:
        return [str(error)]
    problems = file_problems(path, manifest)
    if problems:
        return problems  # what is damaged is not parsed
    loaded = _load(path / TENSORS)
    return [loaded] if isinstance(loaded, str) else _tensor_problems(manifest, loaded)


def read_checkpoint(path: Path, finite: bool = True) -> tuple[Manifest, dict[str, torch.Tensor]]:
    """The manifest and the edited tensors (on the CPU) of the checkpoint folder `path`, fully checked.

    Raises CheckpointError with the first problem that `verify` finds; without `finite`, numbers that are not are
    the caller's to find.
    """
    manifest = read_manifest(path)
    problems = file_problems(path, manifest)
    loaded = problems[0] if problems else _load(path / TENSORS)
    if isinstance(loaded, str):
        raise CheckpointError(_unusable(path, loaded))
    problems = _tensor_problems(manifest, loaded, finite)
    if problems:
        raise CheckpointError(_unusable(path, problems[0]))
    return manifest, loaded


def _unusable(path: Path, problem: str) -> str:
    return f"checkpoint {path} can't be used: {problem}; rebuild it or publish another"


def _load(file: Path) -> dict[str, torch.Tensor] | str:
    """The tensors of a file, or why they can't be read."""
    try:
        read_header(file)  # a header that lies is told before the tensors are made
        return load(file.read_bytes())  # not mapped: a file that shrinks later would kill the process
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        return f"{file.name} is not readable safetensors: {str(error).splitlines()[0]}"


def _tensor_problems(manifest: Manifest, tensors: dict[str, torch.Tensor], finite: bool = True) -> list[str]:
    unfinite = [f"{name} holds NaN or infinity" for name, t in sorted(tensors.items()) if not is_finite(t)]
    problems = unfinite if finite else []
    if entries(tensors) != manifest.tensors:
        problems.append("names, dtypes or shapes of the tensors are not the manifest's")
    if tensors_hash(tensors) != manifest.weights_hash:
        problems.append("weights_hash is not that of the tensors")
    return problems
