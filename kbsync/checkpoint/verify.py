"""Whether a checkpoint is what its manifest says. Only safetensors are read: a pickle is never opened."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from kbsync.checkpoint.manifest import FILE_NAME, FileEntry, Manifest, read_manifest
from kbsync.checkpoint.tensors import entries, is_finite, tensors_hash
from kbsync.errors import CheckpointError
from kbsync.lm.safetensors_header import read_header

TENSORS = "edited.safetensors"


def file_entry(path: Path) -> FileEntry:
    """sha256 and size of a file, read in pieces."""
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def verify(path: Path) -> list[str]:
    """Every problem of the checkpoint folder `path`, one line each; none when it is whole.

    Checked are the manifest, files that are missing or too many, sizes, sha256, whether the tensors can be
    read, their names, dtypes and shapes, their hash, and whether every number is finite.
    """
    try:
        manifest = read_manifest(path)
    except CheckpointError as error:
        return [str(error)]
    problems = _file_problems(path, manifest)
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
    problems = _file_problems(path, manifest)
    loaded = problems[0] if problems else _load(path / TENSORS)
    if isinstance(loaded, str):
        raise CheckpointError(_unusable(path, loaded))
    problems = _tensor_problems(manifest, loaded, finite)
    if problems:
        raise CheckpointError(_unusable(path, problems[0]))
    return manifest, loaded


def _unusable(path: Path, problem: str) -> str:
    return f"checkpoint {path} can't be used: {problem}; rebuild it or publish another"


def _file_problems(path: Path, manifest: Manifest) -> list[str]:
    problems = [] if TENSORS in manifest.files else [f"the manifest lists no {TENSORS}"]
    try:
        found = {entry.name for entry in path.iterdir()} - {FILE_NAME}
        problems += [f"{name!r} is not in the manifest" for name in sorted(found - set(manifest.files))]
        for name, said in sorted(manifest.files.items()):
            problems += _one_file(path / name, said)
    except OSError as error:
        problems.append(f"it can't be read: {error.strerror}")
    return problems


def _one_file(file: Path, said: FileEntry) -> list[str]:
    if file.is_symlink() or (file.exists() and not file.is_file()):
        return [f"{file.name} is not a plain file"]
    if not file.exists():
        return [f"{file.name} is missing"]
    size = file.stat().st_size
    if size != said.bytes:
        return [f"{file.name} has {size} bytes, the manifest says {said.bytes}"]
    if file_entry(file).sha256 != said.sha256:
        return [f"{file.name} is damaged: its sha256 is not the manifest's"]
    return []


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
