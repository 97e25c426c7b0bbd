"""Going back to an earlier model, and staying there. No torch: going back must be quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kbsync.checkpoint.files import check_files
from kbsync.errors import CheckpointError
from kbsync.store import asides, checkpoints
from kbsync.store.asides import Aside
from kbsync.store.checkpoints import Publication
from kbsync.sync.clock import now
from kbsync.sync.linking import align_link
from kbsync.sync.workbench import Workbench

_WAIT_S = 60.0  # for a run that writes its candidate


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What is live now, what this step has set aside, and how many facts that stood aside it has brought back."""

    publication: Publication
    set_aside: tuple[Aside, ...] = ()
    ended: int = 0


def roll_back(
    bench: Workbench, to: str | None = None, base: bool = False, keep_syncing: bool = False, by: str = "rollback"
) -> RolledBack:
    """Make an earlier model live again: the one before, a named checkpoint, or the base model.

    In what it differs from the model that was left is set aside, so that the next sync leaves it as it is; with
    `keep_syncing` it is not, and what was set aside before is no more: the next sync publishes what the facts want.

    Raises StoreError when there is nothing to go back to, and CheckpointError when its files are damaged, or when
    it went back and only the link could not follow. Every byte of the files is compared with what was written; what
    they say is checked whenever they are loaded.
    """
    with bench.store.read() as tx:
        target = checkpoints.checkpoint_named(tx, to).id if to is not None else None
    with bench.store.begin() as tx:
        before = checkpoints.live(tx)
        publication = checkpoints.rollback(tx, now(), target, base=base)
        _must_be_whole(publication)
        asides.stand_again(tx, _id(publication))
        if keep_syncing:
            asides.end(tx, {one.group for one in asides.standing(tx)}, now(), by)
            done = RolledBack(publication)
        else:
            left = _id(before) if before is not None else None
            found, ended = asides.set_aside(tx, publication.id, now(), by, left, _id(publication))
            done = RolledBack(publication, tuple(found), ended)
    try:
        align_link(bench, checked=True, wait_s=_WAIT_S)
    except CheckpointError as error:
        name = publication.checkpoint.name if publication.checkpoint is not None else "the base model"
        raise CheckpointError(
            f"{name} is live now, but the link could not follow: {error}. The next sync puts the link right; don't "
            "roll back a second time"
        ) from None
    return done


def _id(publication: Publication) -> int | None:
    return publication.checkpoint.id if publication.checkpoint is not None else None


def _must_be_whole(publication: Publication) -> None:
    checkpoint = publication.checkpoint
    if checkpoint is None:
        return
    problems = check_files(Path(checkpoint.path), checkpoint.manifest_sha256)
    if problems:
        raise CheckpointError(f"{checkpoint.name} can't go live again: {problems[0]}")
