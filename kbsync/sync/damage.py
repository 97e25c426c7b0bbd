"""Checkpoints whose files are not what was written: found when they are read, noted in the store, built again.

A bit that flips on a disk is found by the manifest's hashes. Then the last model that is whole answers, `kbsync
status` says so, and the next sync builds the live one anew: its weights follow from the store and the base model.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from kbsync.checkpoint.verify import verify
from kbsync.errors import LeaseHeld, StoreError
from kbsync.store import checkpoints
from kbsync.store.checkpoints import Checkpoint
from kbsync.sync.workbench import Workbench

log = structlog.get_logger("kbsync")


def check_live(bench: Workbench) -> str | None:
    """What is wrong with the live model's files, noted in the store; None when nothing is."""
    live = bench.live_checkpoint()
    if live is None:
        return None
    damage = next(iter(verify(Path(live.path))), None)
    note(bench, live, damage)
    if damage is not None:
        log.warning("the live model is damaged; this run builds it again", checkpoint=live.name, damage=damage)
    return damage


def note(bench: Workbench, checkpoint: Checkpoint, damage: str | None) -> None:
    """Write down what was found, where it is news."""
    if damage == checkpoint.damage:
        return
    with bench.store.begin() as tx:
        checkpoints.note_damage(tx, checkpoint.id, damage)


def note_if_possible(bench: Workbench, checkpoint: Checkpoint, damage: str | None) -> None:
    """The same from a reader, which answers also when the store can't be written to."""
    with suppress(StoreError, LeaseHeld):
        note(bench, checkpoint, damage)
