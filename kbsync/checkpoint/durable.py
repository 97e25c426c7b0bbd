"""Folders that are whole or absent: one writer per folder, and temporary folders that are renamed at the end.

A folder under construction has a name that starts with `.tmp-`; whoever holds the folder's lock may remove all of
those, since their writers are gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from kbsync.errors import CheckpointError

TEMPORARY = ".tmp-"
LOCK = ".lock"
_LOOK_S = 0.2  # between two looks whether another writer is done


@contextmanager
def only_writer(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of `folder`, which is made when it is missing, and sweep it before and after.

    The kernel drops the lock with its process, so a killed writer never blocks the next one.
    Raises CheckpointError when another process is writing there, for `wait_s` seconds more, or the folder can't be
    used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CheckpointError(f"{folder} can't be written to: {error.strerror}") from None
    try:
        _lock(handle, folder, time.monotonic() + wait_s)
        sweep(folder)
        try:
            yield
        finally:
            sweep(folder)  # what was replaced or pruned, and what a failed step could not put back
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= until:
                raise CheckpointError(f"another kbsync is writing to {folder}; wait for it or stop it") from None
            time.sleep(_LOOK_S)
        else:
            return


def temporary(folder: Path, name: str) -> Path:
    """A path in `folder` for something under construction; nothing is there yet."""
    return folder / f"{TEMPORARY}{name}-{secrets.token_hex(4)}"


def sweep(folder: Path) -> None:
    """Remove everything in `folder` that is under construction. Call it only as the folder's only writer."""
    for left in sorted(folder.glob(f"{TEMPORARY}*")):
        remove(left)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; what is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # what resists is swept by a later writer
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextmanager
def build(folder: Path, name: str, needed: int) -> Iterator[Path]:
    """A new temporary folder in `folder`, which is removed when the block fails.

    `needed` is about how many bytes it will take. Raises CheckpointError that says what is needed and what is
    free when the disk is full, before the first byte where that is known, or whatever else the disk reports.
    """
    path = temporary(folder, name)
    try:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.mkdir()
        yield path
    except (OSError, SafetensorError) as error:
        remove(path)
        raise CheckpointError(_failed(error, folder, name, needed)) from None
    except BaseException:
        remove(path)
        raise


def file_mode(folder: Path) -> int:
    """The mode that a new file in `folder`, which we made ourselves, has under the process's umask."""
    return folder.stat().st_mode & 0o666


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _failed(error: OSError | SafetensorError, folder: Path, name: str, needed: int) -> str:
    # safetensors writes its files itself and reports the system's error as text
    code = error.errno if isinstance(error, OSError) else None
    code = next((full for full in _FULL if code == full or f"(os error {full})" in str(error)), code)
    reason = os.strerror(code) if code is not None else str(error)
    if code not in _FULL:
        return f"{name} could not be written to {folder}: {reason}"
    free = shutil.disk_usage(folder).free
    return (
        f"{name} does not fit in {folder} ({reason}): it needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB "
        "are free; make room (old checkpoints can be pruned) and run it again"
    )
