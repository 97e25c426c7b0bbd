"""Checkpoints whose files are not what was written: found when they are read, noted in the store, built again.

A bit that flips on a disk is found by the manifest's hashes. Then the last model that is whole answers, `kbsync
status` says so, and the next sync builds the live one again, before anything else. Its weights follow from the
store and the base model: it has passed the gate already, and neither the gate nor the source is asked.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from kbsync.checkpoint.files import check_files
from kbsync.errors import CheckpointError, EditError, LeaseHeld, StoreError
from kbsync.store import checkpoints, outcomes
from kbsync.store.checkpoints import Checkpoint
from kbsync.sync.workbench import Workbench

log = structlog.get_logger("kbsync")


def mend_live(bench: Workbench) -> bool:
    """Whether the live model's files are whole, if need be after they were built again; what is wrong with them is
    noted in the store."""
    live = bench.live_checkpoint()
    if live is None:
        return True
    damage = next(iter(check_files(Path(live.path), live.manifest_sha256)), None)
    note(bench, live, damage)
    return damage is None or _built_again(bench, live, damage)


def _built_again(bench: Workbench, live: Checkpoint, damage: str) -> bool:
    """Build a damaged checkpoint from its facts, and put it in its own place; False, and nothing is touched, where
    that does not give the same bits, or can't be done: the run's own candidate has to take its place then."""
    log.warning("the live model is damaged; it is built again", checkpoint=live.name, damage=damage)
    try:
        _build_again(bench, live)
    except (EditError, CheckpointError) as error:
        log.warning("the live model stays damaged until a sync publishes another", reason=str(error))
        return False
    log.info("the live model is whole again", checkpoint=live.name)
    return True


def _build_again(bench: Workbench, live: Checkpoint) -> None:
    """Raises EditError and CheckpointError."""
    from kbsync.checkpoint.tensors import tensors_hash
    from kbsync.checkpoint.write import write_candidate
    from kbsync.sync.publishing import manifest_of, on_disk
    from kbsync.sync.solving import built_from_store

    if (live.base_hash, live.settings_hash) != (bench.base.hash, bench.settings_hash):
        raise CheckpointError(f"{live.name} was built on another base model or machine, or with other settings")
    with bench.store.read() as tx:
        held = [stored.request for stored in checkpoints.held_requests(tx, live.id)]
        metrics = outcomes.metrics_of(tx, live.run_id)
    tensors = built_from_store(bench, held)
    if tensors_hash(tensors) != live.weights_hash:
        raise CheckpointError(f"{live.name} built again has other weights")
    manifest = manifest_of(bench, live.run_id, held, metrics)
    path = Path(live.path)
    write_candidate(path.parent, path.name, tensors, manifest, anew=True)
    manifest_sha256, size = on_disk(path)
    with bench.store.begin() as tx:
        checkpoints.written_again(tx, live.id, manifest_sha256, size)


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
