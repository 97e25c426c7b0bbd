"""Whether a checkpoint's files are those that its manifest lists. They are hashed, not parsed: no torch."""

from __future__ import annotations

from pathlib import Path

from kbsync.checkpoint.manifest import FILE_NAME, FileEntry, Manifest, read_manifest
from kbsync.disk import file_sha256
from kbsync.errors import CheckpointError

TENSORS = "edited.safetensors"


def file_entry(path: Path) -> FileEntry:
    """sha256 and size of a file."""
    return FileEntry(file_sha256(path), path.stat().st_size)


def check_files(path: Path, manifest_sha256: str) -> list[str]:
    """What is wrong with the folder `path`, a line each; none when its bytes are those that were written.

    `manifest_sha256` is the manifest's own hash, as the ledger keeps it: with it, the manifest's hashes of the
    files are those of the checkpoint that was verified when it was written.
    """
    try:
        manifest = read_manifest(path)
        if file_entry(path / FILE_NAME).sha256 != manifest_sha256:
            return [f"{FILE_NAME} is not the one that was written"]
    except CheckpointError as error:
        return [str(error)]
    except OSError as error:
        return [f"it can't be read: {error.strerror}"]
    return file_problems(path, manifest)


def file_problems(path: Path, manifest: Manifest) -> list[str]:
    """Files that are missing, too many, or not what the manifest says."""
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
