"""The link `live` in the checkpoint folder, which readers of files follow: it leads where the store says."""

from __future__ import annotations

from pathlib import Path

from kbsync.checkpoint import publish as links
from kbsync.errors import CheckpointError
from kbsync.store.checkpoints import Checkpoint
from kbsync.sync.workbench import Workbench


def align_link(bench: Workbench, checked: bool = False, wait_s: float = 0.0) -> None:
    """Point `live` in the checkpoint folder at what the store says is published, also where that changes meanwhile:
    a run and a rollback may both be at it.

    A link that leads nowhere is replaced like any other that is wrong. `checked`: the published checkpoint's files
    were just found to be whole. `wait_s`: seconds that another writer of the folder is waited for. Raises
    CheckpointError when it is damaged.
    """
    published = bench.live_checkpoint()
    while True:
        _align(bench.settings.checkpoint.folder, published, checked, wait_s)
        before, published = published, bench.live_checkpoint()
        if before == published:
            return
        checked = False


def _align(folder: Path, published: Checkpoint | None, checked: bool, wait_s: float) -> None:
    try:
        current = links.live(folder)
    except CheckpointError:
        current = folder
    if published is None:
        if current is not None:
            links.unpublish(folder, wait_s)
    elif current is None or current.name != published.name:
        links.publish(Path(published.path).parent, published.name, checked, wait_s)
