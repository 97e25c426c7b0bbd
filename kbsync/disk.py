"""Files: the two steps that make one durable and visible, and its hash. POSIX promises that a rename is atomic, but
not that it is on the disk: the file, then its folder, have to be synced (`man 2 fsync`)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from kbsync import failpoints


def fsync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    failpoints.hit("fsync.before")
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    failpoints.hit("fsync.after")


def fsync_tree(folder: Path) -> None:
    """Sync every file below `folder`, then the folders from the inside out."""
    for inner, _, names in os.walk(folder, topdown=False):
        for name in names:
            fsync(Path(inner, name))
        fsync(Path(inner))


def rename(source: Path, target: Path) -> None:
    """Rename in one step; a file or a link that has the name is replaced, an empty folder too."""
    failpoints.hit("rename.before")
    source.replace(target)
    failpoints.hit("rename.after")


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
