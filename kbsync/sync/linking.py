"""The link `live` in the checkpoint folder, which readers of files follow: it leads where the store says."""

from __future__ import annotations

from pathlib import Path

from kbsync.checkpoint import publish as links
from kbsync.errors import CheckpointError
from kbsync.sync.workbench import Workbench


def align_link(bench: Workbench, checked: bool = False) -> None:
    """Point `live` in the checkpoint folder at what the store says is published.

    A link that leads nowhere is replaced like any other that is wrong. `checked`: the published checkpoint's files
    were just found to be whole. Raises CheckpointError when it is damaged.
    """
    folder = bench.settings.checkpoint.folder
    published = bench.live_checkpoint()
    try:
        current = links.live(folder)
    except CheckpointError:
        current = folder
    if published is None:
        if current is not None:
            links.unpublish(folder)
    elif current is None or current.name != published.name:
        links.publish(Path(published.path).parent, published.name, checked)
