"""Pruning: what is beyond its limits leaves the store and the disk. Rows go first, which are the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from kbsync.checkpoint import publish as links
from kbsync.errors import LeaseHeld
from kbsync.settings import RetentionSettings, Settings, duration
from kbsync.store import checkpoints, prunes, retention, runs
from kbsync.store.engine import Store
from kbsync.store.limits import Limits
from kbsync.store.retention import Retention, Survey
from kbsync.sync.clock import now


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go. `strays` are folders of candidates without a row, which killed runs have left, and of
    checkpoints that were pruned when their files could not be removed."""

    survey: Survey
    strays: tuple[Path, ...]
    stray_bytes: int

    @property
    def bytes(self) -> int:
        """What that frees, on disk and in the database; the second is an estimate."""
        return self.survey.bytes + self.stray_bytes


def retention_of(settings: RetentionSettings) -> Retention:
    """The settings as limits."""

    def limits(kind: str) -> Limits:
        age: str | None = getattr(settings, f"{kind}_age")
        return Limits(
            None if age is None else duration(age),
            getattr(settings, f"{kind}_count"),
            getattr(settings, f"{kind}_bytes"),
        )

    return Retention(limits("checkpoints"), limits("outcomes"), limits("targets"), limits("runs"))


def look(store: Store, settings: Settings) -> Pruned:
    """What could go now; nothing is changed."""
    folder = settings.checkpoint.folder
    there = links.checkpoints(folder)  # before the rows: a run that writes one meanwhile is not taken for dead
    with store.read() as tx:
        found = retention.survey(tx, retention_of(settings.retention), now())
        strays = _strays(tx, folder, there)
    return Pruned(found, strays, sum(_size(one) for one in strays))


def prune(store: Store, settings: Settings, by: str) -> Pruned:
    """Remove what is beyond its limits, and write that down. What killed writers left among checkpoints goes too.

    Killed in between it leaves rows without files to be swept the next time. Raises LeaseHeld while a run is under
    way, and CheckpointError when the disk fails.
    """
    with store.begin() as tx:
        runs.interrupt_stale_runs(tx, now())  # one that was killed keeps nobody from pruning
        running = runs.running(tx)
    if running is not None:
        raise LeaseHeld(f"run {running.id} is under way; prune again once it has ended")
    keep, folder = retention_of(settings.retention), settings.checkpoint.folder
    there = links.checkpoints(folder)  # before the rows, as above
    with store.read() as tx:
        outcomes = retention.outcomes_beyond(tx, keep, now())
        strays = _strays(tx, folder, there)
    size = sum(_size(one) for one in strays)
    for run in outcomes:  # each for itself, so that no writer waits for all of them
        with store.begin() as tx:
            prunes.remove_outcomes(tx, run)
    with store.begin() as tx:
        found = retention.survey(tx, keep, now(), outcomes)
        prunes.carry_out(tx, found, now())
        if keep.runs.age is not None:
            prunes.forget_daemons(tx, now() - keep.runs.age)
        prunes.note(tx, by, now(), found)
    _remove([*(Path(one.path) for one in found.checkpoints), *strays])
    links.sweep(folder)
    return Pruned(found, strays, size)


def _strays(tx: Session, folder: Path, there: Sequence[str]) -> tuple[Path, ...]:
    """What lies among the checkpoints without being one: what was pruned, and candidates of runs that died."""
    lost = prunes.without_files(tx)
    if runs.running(tx) is None:
        known = {one.name for one in checkpoints.checkpoints(tx)}
        last = max((run.id for run in runs.runs(tx, limit=1)), default=0)
        lost |= _unknown(there, known, last)
    return tuple(folder / name for name in there if name in lost)


def _unknown(there: Sequence[str], known: set[str], last: int) -> set[str]:
    """Candidates of this store's runs that never got a row. Folders of other names are none of ours, and neither
    are those of later runs: a store that was restored has forgotten them, and writes over them in its time."""
    numbered = {f"sync-{run:06d}" for run in range(1, last + 1)}
    return {name for name in there if name in numbered and name not in known}


def _remove(paths: Sequence[Path]) -> None:
    folders: dict[Path, set[str]] = {}
    for path in paths:
        folders.setdefault(path.parent, set()).add(path.name)
    for folder, names in folders.items():
        links.prune(folder, names)


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0
