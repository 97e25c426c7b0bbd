"""The ledger of synced models: what each holds, and which one is live, was live and is rolled back to."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from kbsync.errors import StoreError
from kbsync.store.chunks import chunked
from kbsync.store.requests import StoredRequest, stored
from kbsync.store.tables import (
    Action,
    CheckpointRequestRow,
    CheckpointRow,
    CheckpointStatus,
    PublicationRow,
    RequestRow,
)


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """A checkpoint that lies on disk, verified, before it has a row. `bytes` is its size on disk."""

    name: str
    path: str
    weights_hash: str
    manifest_sha256: str
    base_hash: str
    settings_hash: str
    live_hash: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as the ledger has it. `facts` is the size of its live set; `damage` what was found to be wrong
    with its files, None while nothing is known; `pruned_at` when they were removed."""

    id: int
    run_id: int
    name: str
    path: str
    weights_hash: str
    manifest_sha256: str
    base_hash: str
    settings_hash: str
    live_hash: str
    facts: int
    bytes: int
    status: CheckpointStatus
    created_at: datetime
    damage: str | None = None
    pruned_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """From when until when a model was live; `checkpoint` is None for the base model."""

    id: int
    checkpoint: Checkpoint | None
    run_id: int | None
    action: Action
    at: datetime
    ended_at: datetime | None


def add_candidate(tx: Session, run_id: int, at: datetime, new: NewCheckpoint, request_ids: Collection[int]) -> int:
    """Give a checkpoint its row and its live set; returns its id. Its name must be new."""
    row = CheckpointRow(
        run_id=run_id,
        name=new.name,
        path=new.path,
        weights_hash=new.weights_hash,
        manifest_sha256=new.manifest_sha256,
        base_hash=new.base_hash,
        settings_hash=new.settings_hash,
        live_hash=new.live_hash,
        facts=len(set(request_ids)),
        bytes=new.bytes,
        status=CheckpointStatus.CANDIDATE,
        created_at=at,
    )
    tx.add(row)
    tx.flush()
    for chunk in chunked(sorted(set(request_ids))):
        tx.execute(
            insert(CheckpointRequestRow),
            [{"checkpoint_id": row.id, "request_id": one} for one in chunk],
        )
    return row.id


def reject(tx: Session, checkpoint_id: int) -> None:
    """The gate refused the candidate. Raises StoreError when it is or was published."""
    row = _row(tx, checkpoint_id)
    if row.status not in (CheckpointStatus.CANDIDATE, CheckpointStatus.REJECTED):
        raise StoreError(f"checkpoint {row.name} is {row.status}, not a candidate")
    row.status = CheckpointStatus.REJECTED
    tx.flush()


def publish(tx: Session, checkpoint_id: int | None, run_id: int, at: datetime) -> int:
    """Make a checkpoint (None: the base model) the live one, in one step; returns the publication's id.

    Raises StoreError for a rejected checkpoint and for the one that is live already.
    """
    return _go_live(tx, checkpoint_id, run_id, at, Action.PUBLISH)


def rollback(
    tx: Session, at: datetime, to: int | None = None, *, base: bool = False, run_id: int | None = None
) -> Publication:
    """Make an earlier model live again, and return its publication.

    `to` names a checkpoint; without it the one that was live before the live one was published comes back,
    and called again the one before that. `base=True`: the base model. Raises StoreError when there is
    nothing to go back to, or the checkpoint has never been published.
    """
    if to is None and not base:
        to = _before_live(tx)
    if to is not None and _row(tx, to).status not in (CheckpointStatus.PUBLISHED, CheckpointStatus.RETIRED):
        raise StoreError(f"checkpoint {_row(tx, to).name} has never been published; only those can come back")
    return _publication(tx, _go_live(tx, to, run_id, at, Action.ROLLBACK))


def rollback_target(tx: Session) -> int | None:
    """The checkpoint that a rollback without a name would bring back; None where it is the base model, or there is
    nothing to roll back."""
    now = _live_row(tx)
    return None if now is None or now.checkpoint_id is None else _before_live(tx)


def _before_live(tx: Session) -> int | None:
    """The checkpoint that was live before the live one was first published. None: the base model."""
    now = _live_row(tx)
    if now is None or now.checkpoint_id is None:
        raise StoreError("the base model is live; there is nothing to roll back to")
    published = tx.scalars(
        select(PublicationRow)
        .where(PublicationRow.checkpoint_id == now.checkpoint_id, PublicationRow.action == Action.PUBLISH)
        .order_by(PublicationRow.id.desc())
    ).first()
    assert published is not None, "only published checkpoints go live"
    earlier = tx.scalars(
        select(PublicationRow).where(PublicationRow.id < published.id).order_by(PublicationRow.id.desc())
    ).first()
    return None if earlier is None else earlier.checkpoint_id


def _go_live(tx: Session, checkpoint_id: int | None, run_id: int | None, at: datetime, action: Action) -> int:
    now = _live_row(tx)
    row = None if checkpoint_id is None else _row(tx, checkpoint_id)
    if row is not None and row.status is CheckpointStatus.REJECTED:
        raise StoreError(f"checkpoint {row.name} was rejected by the gate and can't go live")
    if row is not None and row.pruned_at is not None:
        raise StoreError(
            f"the files of checkpoint {row.name} were pruned; `kbsync checkpoint list` shows what is left"
        )
    if (now is None and row is None) or (now is not None and now.checkpoint_id == checkpoint_id):
        raise StoreError(f"{row.name if row else 'the base model'} is live already")
    if now is not None:
        now.live, now.ended_at = False, at
        if now.checkpoint_id is not None:
            _row(tx, now.checkpoint_id).status = CheckpointStatus.RETIRED
        tx.flush()  # the old one must end before the new one begins, or the index refuses both
    if row is not None:
        row.status = CheckpointStatus.PUBLISHED
    new = PublicationRow(checkpoint_id=checkpoint_id, run_id=run_id, action=action, at=at, live=True)
    tx.add(new)
    tx.flush()
    return new.id


def live(tx: Session) -> Publication | None:
    """The live publication, or None while nothing was ever published (the base model is what is served)."""
    row = _live_row(tx)
    return None if row is None else _publication(tx, row.id)


def note_damage(tx: Session, checkpoint_id: int, damage: str | None) -> None:
    """What is wrong with a checkpoint's files; None when they are found to be whole."""
    _row(tx, checkpoint_id).damage = damage
    tx.flush()


def written_again(tx: Session, checkpoint_id: int, manifest_sha256: str, size: int) -> None:
    """A damaged checkpoint's files were written again, `size` bytes with the manifest of this hash: it is whole."""
    row = _row(tx, checkpoint_id)
    row.manifest_sha256, row.bytes, row.damage = manifest_sha256, size, None
    tx.flush()


def servable(tx: Session) -> list[Checkpoint]:
    """The live checkpoint, then those of its base model that were live before it, the latest first: who answers
    when the files of those before are damaged. Empty while the base model is live."""
    now = _live_row(tx)
    if now is None or now.checkpoint_id is None:
        return []
    earlier = tx.scalars(
        select(PublicationRow.checkpoint_id)
        .where(PublicationRow.id <= now.id, PublicationRow.checkpoint_id.is_not(None))
        .order_by(PublicationRow.id.desc())
    )
    found = [_checkpoint(_row(tx, one)) for one in dict.fromkeys(earlier) if one is not None]
    return [one for one in found if one.base_hash == found[0].base_hash and one.pruned_at is None]


def publications(tx: Session, limit: int = 50) -> list[Publication]:
    """The latest publications, newest first."""
    ids = tx.scalars(select(PublicationRow.id).order_by(PublicationRow.id.desc()).limit(limit)).all()
    return [_publication(tx, one) for one in ids]


def held_set(tx: Session, checkpoint_id: int | None) -> dict[int, str]:
    """The live set that a checkpoint holds: request ids and their content hashes. The base model holds none."""
    rows = tx.execute(
        select(RequestRow.id, RequestRow.content_hash)
        .join(CheckpointRequestRow, CheckpointRequestRow.request_id == RequestRow.id)
        .where(CheckpointRequestRow.checkpoint_id == checkpoint_id)
        .order_by(RequestRow.id)
    )
    return {one: content_hash for one, content_hash in rows}  # noqa: C416  (a Row is not a tuple to mypy)


def live_hashes(tx: Session) -> set[str]:
    """Content hashes of what the live model holds."""
    now = _live_row(tx)
    return set(held_set(tx, now.checkpoint_id if now is not None else None).values())


def held_requests(tx: Session, checkpoint_id: int | None) -> list[StoredRequest]:
    """The requests of a checkpoint's live set, by id: with its base model, all that a rebuild needs."""
    rows = tx.scalars(
        select(RequestRow)
        .join(CheckpointRequestRow, CheckpointRequestRow.request_id == RequestRow.id)
        .where(CheckpointRequestRow.checkpoint_id == checkpoint_id)
        .order_by(RequestRow.id)
    )
    return [stored(row) for row in rows]


def checkpoint_of(tx: Session, checkpoint_id: int) -> Checkpoint:
    """One checkpoint. Raises StoreError when there is none of this id."""
    return _checkpoint(_row(tx, checkpoint_id))


def checkpoint_named(tx: Session, name: str) -> Checkpoint:
    """One checkpoint by its name. Raises StoreError when there is none of it."""
    row = tx.scalars(select(CheckpointRow).where(CheckpointRow.name == name)).one_or_none()
    if row is None:
        raise StoreError(f"there is no checkpoint named {name}; `kbsync checkpoint list` lists them")
    return _checkpoint(row)


def checkpoints(tx: Session, statuses: Iterable[CheckpointStatus] = tuple(CheckpointStatus)) -> list[Checkpoint]:
    """The checkpoints of these statuses, newest first."""
    rows = tx.scalars(
        select(CheckpointRow).where(CheckpointRow.status.in_(list(statuses))).order_by(CheckpointRow.id.desc())
    )
    return [_checkpoint(row) for row in rows]


def judged(tx: Session, base_hash: str | None = None, limit: int = 200) -> list[Checkpoint]:
    """The checkpoints that the gate has judged, newest first, one for each live set and settings: the last.

    One of a run that was killed before it was published or rejected is not among them: its run is done over.
    """
    query = select(CheckpointRow).where(CheckpointRow.status != CheckpointStatus.CANDIDATE)
    if base_hash is not None:
        query = query.where(CheckpointRow.base_hash == base_hash)
    found: dict[tuple[str, str, str], Checkpoint] = {}
    for row in tx.scalars(query.order_by(CheckpointRow.id.desc()).limit(limit)):
        found.setdefault((row.base_hash, row.settings_hash, row.live_hash), _checkpoint(row))
    return list(found.values())


def _live_row(tx: Session) -> PublicationRow | None:
    return tx.scalars(select(PublicationRow).where(PublicationRow.live)).one_or_none()


def _row(tx: Session, checkpoint_id: int) -> CheckpointRow:
    row = tx.get(CheckpointRow, checkpoint_id)
    if row is None:
        raise StoreError(f"there is no checkpoint {checkpoint_id}; `kbsync checkpoint list` lists them")
    return row


def _publication(tx: Session, publication_id: int) -> Publication:
    row = tx.get_one(PublicationRow, publication_id)
    held = None if row.checkpoint_id is None else _checkpoint(_row(tx, row.checkpoint_id))
    return Publication(row.id, held, row.run_id, row.action, row.at, row.ended_at)


def _checkpoint(row: CheckpointRow) -> Checkpoint:
    return Checkpoint(
        id=row.id,
        run_id=row.run_id,
        name=row.name,
        path=row.path,
        weights_hash=row.weights_hash,
        manifest_sha256=row.manifest_sha256,
        base_hash=row.base_hash,
        settings_hash=row.settings_hash,
        live_hash=row.live_hash,
        facts=row.facts,
        bytes=row.bytes,
        status=row.status,
        created_at=row.created_at,
        damage=row.damage,
        pruned_at=row.pruned_at,
    )
