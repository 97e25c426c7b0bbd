"""The cache of solved targets z, keyed by everything that a z depends on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from kbsync.store.chunks import chunked
from kbsync.store.requests import set_status
from kbsync.store.tables import RequestStatus, TargetRow


@dataclass(frozen=True, slots=True)
class Target:
    """A solved z. `vector` is `dim` float32 numbers, little endian; `seconds` is the request's share."""

    z_hash: str
    content_hash: str
    base_hash: str
    settings_hash: str
    layer: int
    dim: int
    vector: bytes
    loss: float
    steps: int
    delta_norm: float
    hidden_norm: float
    seconds: float

    def __post_init__(self) -> None:
        if len(self.vector) != 4 * self.dim:
            raise ValueError(f"z {self.z_hash}: {len(self.vector)} bytes are not {self.dim} float32 numbers")
        if not all(map(math.isfinite, (self.loss, self.delta_norm, self.hidden_norm))):
            raise ValueError(f"z {self.z_hash} has a loss or norm that is not finite")


def save_targets(tx: Session, run_id: int, at: datetime, targets: Sequence[Target]) -> int:
    """Store targets; returns how many were new. A z that is there already stays as it is."""
    known = _known(tx, [target.z_hash for target in targets])
    fresh: dict[str, Target] = {}
    for target in targets:
        if target.z_hash not in known:
            fresh.setdefault(target.z_hash, target)
    tx.add_all(
        TargetRow(
            z_hash=target.z_hash,
            content_hash=target.content_hash,
            base_hash=target.base_hash,
            settings_hash=target.settings_hash,
            layer=target.layer,
            dim=target.dim,
            vector=target.vector,
            loss=target.loss,
            steps=target.steps,
            delta_norm=target.delta_norm,
            hidden_norm=target.hidden_norm,
            seconds=target.seconds,
            run_id=run_id,
            created_at=at,
        )
        for target in fresh.values()
    )
    tx.flush()
    return len(fresh)


def save_solved_batch(
    tx: Session, run_id: int, at: datetime, targets: Sequence[Target], request_ids: Iterable[int]
) -> int:
    """Store one batch's targets and mark its requests solved, in the caller's transaction."""
    fresh = save_targets(tx, run_id, at, targets)
    set_status(tx, run_id, at, request_ids, RequestStatus.SOLVED)
    return fresh


def load_targets(tx: Session, z_hashes: Iterable[str]) -> dict[str, Target]:
    """Those of the targets that are solved, by their hash."""
    found: dict[str, Target] = {}
    for chunk in chunked(dict.fromkeys(z_hashes)):
        for row in tx.scalars(select(TargetRow).where(TargetRow.z_hash.in_(chunk))):
            found[row.z_hash] = Target(
                z_hash=row.z_hash,
                content_hash=row.content_hash,
                base_hash=row.base_hash,
                settings_hash=row.settings_hash,
                layer=row.layer,
                dim=row.dim,
                vector=row.vector,
                loss=row.loss,
                steps=row.steps,
                delta_norm=row.delta_norm,
                hidden_norm=row.hidden_norm,
                seconds=row.seconds,
            )
    return found


def forget(tx: Session, z_hashes: Iterable[str]) -> None:
    """Remove targets that turned out to be broken: they are solved again when they are next wanted."""
    for chunk in chunked(dict.fromkeys(z_hashes)):
        tx.execute(delete(TargetRow).where(TargetRow.z_hash.in_(chunk)))


def solved(tx: Session, z_hashes: Iterable[str]) -> set[str]:
    """Which of the hashes have a target: `load_targets` without the vectors."""
    return _known(tx, z_hashes)


def _known(tx: Session, z_hashes: Iterable[str]) -> set[str]:
    known: set[str] = set()
    for chunk in chunked(dict.fromkeys(z_hashes)):
        known.update(tx.scalars(select(TargetRow.z_hash).where(TargetRow.z_hash.in_(chunk))))
    return known
