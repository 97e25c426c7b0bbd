"""Writing a candidate: temporary folder → tensors → manifest → fsync → rename → fsync of the parent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from kbsync import disk, failpoints
from kbsync.checkpoint import durable
from kbsync.checkpoint.manifest import FILE_NAME, Manifest, from_json, read_manifest, to_json
from kbsync.checkpoint.publish import check_name, leads_nowhere, live
from kbsync.checkpoint.tensors import check_tensors, entries, tensors_hash
from kbsync.checkpoint.verify import TENSORS, file_entry, verify
from kbsync.errors import CheckpointError


def write_candidate(
    folder: Path, name: str, tensors: Mapping[str, torch.Tensor], manifest: Manifest, anew: bool = False
) -> Path:
    """Write the edited tensors and their manifest as `folder/name`, whole or not at all, and return the path.

    `weights_hash`, `tensors` and `files` of the manifest are filled in here. A candidate of the same name that
    was never published is replaced, so a run that was killed can write its own again; a published one stays as
    it is when it holds the same weights, and is an error otherwise. `anew` replaces that too: one whose files are
    damaged.

    Raises CheckpointError when the name is not plain, a tensor is not finite, the disk is full or fails, or
    another process is writing to the folder.
    """
    check_name(name)
    check_tensors(tensors)
    # contiguous and apart from each other: safetensors refuses views and shared memory
    stored = {n: t.detach().cpu().contiguous().clone() for n, t in sorted(tensors.items())}
    whole = replace(manifest, weights_hash=tensors_hash(stored), tensors=entries(stored))
    target = folder / name
    with durable.only_writer(folder):
        if not anew and not leads_nowhere(folder) and live(folder) == target:
            return _keep_published(target, whole)
        needed = sum(t.numel() * t.element_size() for t in stored.values()) + len(to_json(whole).encode())
        with durable.build(folder, name, needed) as building:
            _fill(building, stored, whole)
            _put(building, target)
    return target


def _fill(building: Path, stored: dict[str, torch.Tensor], manifest: Manifest) -> None:
    """Write both files and wait for the disk. The manifest comes last: it names what is there."""
    file = building / TENSORS
    failpoints.hit("write.before")
    save_file(stored, file, metadata={"format": "pt"})
    failpoints.hit("write.after")
    file.chmod(durable.file_mode(building))  # safetensors keeps its files to their owner
    disk.fsync(file)
    text = to_json(replace(manifest, files={TENSORS: file_entry(file)}))
    from_json(text, "what was to be written")  # nobody should find out later that it can't be read
    failpoints.hit("write.before")
    (building / FILE_NAME).write_text(text, encoding="utf-8")
    failpoints.hit("write.after")
    disk.fsync(building / FILE_NAME)
    disk.fsync(building)


def _put(building: Path, target: Path) -> None:
    """Rename into place. What had the name becomes temporary first, since no rename replaces a full folder."""
    old = durable.temporary(target.parent, "old")
    if target.is_symlink() or target.exists():
        disk.rename(target, old)
    try:
        disk.rename(building, target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    disk.fsync(target.parent)


def _keep_published(target: Path, wanted: Manifest) -> Path:
    problems = verify(target)
    if problems:
        raise CheckpointError(f"the published {target.name} is damaged ({problems[0]}); publish another")
    if read_manifest(target).identity != wanted.identity:
        raise CheckpointError(f"{target.name} is published with other weights; choose another name")
    return target
