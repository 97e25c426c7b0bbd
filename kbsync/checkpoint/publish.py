"""Which checkpoint is live: a symlink `live` in the checkpoint folder, replaced in one atomic step.

No link means that the base model is live. Readers follow the link and see the old checkpoint or the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from kbsync import disk
from kbsync.checkpoint import durable
from kbsync.checkpoint.manifest import FILE_NAME, is_plain_name
from kbsync.errors import CheckpointError

LIVE = "live"


def check_name(name: str) -> None:
    """Raise CheckpointError for a name that is more than a name, or the link's."""
    if not is_plain_name(name) or name == LIVE:
        raise CheckpointError(f"{name!r} can't name a checkpoint: use letters, digits, '.', '_' and '-'")


def publish(folder: Path, name: str, checked: bool = False, wait_s: float = 0.0) -> None:
    """Make `folder/name` the live checkpoint. `checked`: it was just found to be whole. `wait_s`: seconds that
    another writer of the folder is waited for.

    Raises CheckpointError, and leaves the old one live, when it is not whole or the disk fails.
    """
    check_name(name)
    if not checked:
        from kbsync.checkpoint.verify import verify  # torch, which asking what is live does not need

        problems = verify(folder / name)
        if problems:
            raise CheckpointError(f"{name} is not published: {problems[0]}")
    with durable.only_writer(folder, wait_s):
        _point(folder, name)


def unpublish(folder: Path, wait_s: float = 0.0) -> None:
    """Make the base model live again; nothing to do when it is. Raises CheckpointError when the disk fails."""
    if (folder / LIVE).is_symlink():
        with durable.only_writer(folder, wait_s):
            _point(folder, None)


def _point(folder: Path, name: str | None) -> None:
    """Let `live` lead to `name`, or to nothing. When the disk fails it leads where it did before."""
    link = folder / LIVE
    before = str(link.readlink()) if link.is_symlink() else None
    try:
        _replace_link(link, name)
        disk.fsync(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            _replace_link(link, before)
        raise CheckpointError(f"{link} could not be changed to {name}: {error.strerror}") from None


def _replace_link(link: Path, name: str | None) -> None:
    if name is None:
        link.unlink(missing_ok=True)
        return
    new = durable.temporary(link.parent, LIVE)
    try:
        new.symlink_to(name)
        disk.rename(new, link)
    finally:
        durable.remove(new)  # renamed, it is not there any more


def live(folder: Path) -> Path | None:
    """The folder of the live checkpoint, or None when the base model is live.

    Raises CheckpointError when `live` is not a link of ours, or what it names is gone.
    """
    link = folder / LIVE
    try:
        name = str(link.readlink())
    except FileNotFoundError:
        return None
    except OSError:
        raise CheckpointError(f"{link} is not a link to a checkpoint; move it away") from None
    if not is_plain_name(name) or name == LIVE:
        raise CheckpointError(f"{link} leads to {name!r}, which is no checkpoint of this folder; remove it")
    if not (folder / name).is_dir():
        raise CheckpointError(f"the live checkpoint {folder / name} is gone; publish another or unpublish")
    return folder / name


def leads_nowhere(folder: Path) -> bool:
    """Whether `live` is a link to a checkpoint that is gone: nothing that a writer could overwrite."""
    link = folder / LIVE
    return link.is_symlink() and not link.exists()


def checkpoints(folder: Path) -> list[str]:
    """The names of all checkpoints in `folder`, published or not, sorted."""
    if not folder.is_dir():
        return []
    plain = (entry for entry in folder.iterdir() if is_plain_name(entry.name) and not entry.is_symlink())
    return sorted(entry.name for entry in plain if (entry / FILE_NAME).is_file())


def sweep(folder: Path) -> None:
    """Remove what killed writers have left. Raises CheckpointError when another process is writing there."""
    if folder.is_dir():
        with durable.only_writer(folder):
            pass  # taking the lock, and giving it back, sweeps


def prune(folder: Path, gone: Collection[str]) -> list[str]:
    """Remove these checkpoints, and return the names of those that were there. The live one always stays, and so
    does what is no checkpoint.

    Raises CheckpointError when `live` is broken (nothing is removed then) or the disk fails.
    """
    if not folder.is_dir():
        return []
    with durable.only_writer(folder):
        current = live(folder)
        found = [name for name in checkpoints(folder) if name in gone and folder / name != current]
        try:
            for name in found:
                # out of sight in one step, so that nobody meets half a checkpoint
                disk.rename(folder / name, durable.temporary(folder, "pruned"))
            disk.fsync(folder)
        except OSError as error:
            raise CheckpointError(f"{folder} could not be pruned: {error.strerror}") from None
    return found
