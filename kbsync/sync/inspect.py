"""Looking after checkpoints: verify, rebuild from the store to compare, export."""

from __future__ import annotations

import random
from pathlib import Path

from kbsync.checkpoint.manifest import read_manifest
from kbsync.checkpoint.tensors import apply_tensors, tensors_hash
from kbsync.checkpoint.verify import read_checkpoint, verify
from kbsync.errors import CheckpointError
from kbsync.store import checkpoints
from kbsync.store.checkpoints import Checkpoint
from kbsync.sync.damage import note_if_possible
from kbsync.sync.workbench import Workbench


def find_checkpoint(bench: Workbench, name: str | None) -> Checkpoint:
    """A checkpoint by name; the published one without. Raises CheckpointError when there is none, or its files were
    pruned."""
    if name is not None:
        with bench.store.read() as tx:
            found = checkpoints.checkpoint_named(tx, name)
        if found.pruned_at is not None:
            raise CheckpointError(f"the files of {name} were pruned; `kbsync checkpoint list` shows what is left")
        return found
    live = bench.live_checkpoint()
    if live is None:
        raise CheckpointError("no checkpoint is published: the base model is live")
    return live


def verify_checkpoint(bench: Workbench, name: str | None = None, rebuild: bool = False) -> list[str]:
    """What is wrong with a checkpoint; an empty list when nothing is.

    `rebuild` also builds it again from the store and the base model, with its facts in another order, and
    compares bit for bit.
    """
    checkpoint = find_checkpoint(bench, name)
    problems = verify(Path(checkpoint.path))
    note_if_possible(bench, checkpoint, next(iter(problems), None))
    if problems or not rebuild:
        return problems
    manifest = read_manifest(Path(checkpoint.path))
    if manifest.settings_hash != bench.settings_hash or checkpoint.base_hash != bench.base.hash:
        return [
            f"{checkpoint.name} was built with another base model, other editor settings, or on another machine; "
            "it can only be rebuilt bit for bit on the same ones"
        ]
    if rebuilt_hash(bench, checkpoint) != checkpoint.weights_hash:
        return [f"{checkpoint.name}: rebuilding it from the store gave other weights"]
    return []


def rebuilt_hash(bench: Workbench, checkpoint: Checkpoint) -> str:
    """The hash of the weights built in one go from a checkpoint's live set, in a shuffled order."""
    from kbsync.sync.solving import built_from_store

    with bench.store.read() as tx:
        live = [stored.request for stored in checkpoints.held_requests(tx, checkpoint.id)]
    random.Random(checkpoint.id).shuffle(live)  # noqa: S311  an order, not a secret
    return tensors_hash(built_from_store(bench, live))


def export_checkpoint(bench: Workbench, name: str | None, out: Path) -> Path:
    """Write a checkpoint as a full Hugging Face folder that plain transformers loads."""
    from kbsync.checkpoint.export import export

    checkpoint = find_checkpoint(bench, name)
    manifest, tensors = read_checkpoint(Path(checkpoint.path))
    if manifest.base.weights_hash != bench.base.weights_hash:
        raise CheckpointError(f"{checkpoint.name} was edited on another base model than {bench.base.spec}")
    originals = apply_tensors(bench.base.model, tensors)
    try:
        return export(bench.base.model, bench.base.tokenizer, out, manifest)
    finally:
        apply_tensors(bench.base.model, originals)
