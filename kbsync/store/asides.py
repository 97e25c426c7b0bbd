"""What rollbacks set aside: facts that stay out of the model, and those that stay in it, until that ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.facts import Fact
from kbsync.store import checkpoints
from kbsync.store.chunks import chunked
from kbsync.store.requests import StoredRequest, requests_by_id
from kbsync.store.standing import by_ids
from kbsync.store.tables import AsideRow, RequestRow, RequestStatus

Group = tuple[str, str]  # (subject, relation)


@dataclass(frozen=True, slots=True)
class Aside:
    """One subject's relation in which the model stays as a rollback made it: without `disliked` (None: it had
    nothing there), with `kept` (None: nothing)."""

    id: int
    group: Group
    disliked: StoredRequest | None
    kept: StoredRequest | None

    @property
    def fact(self) -> Fact | None:
        """The fact that stays out."""
        return self.disliked.request.fact if self.disliked is not None else None


def set_aside(
    tx: Session, publication_id: int, at: datetime, by: str, left: int | None, restored: int | None
) -> tuple[list[Aside], int]:
    """Set aside in what the model that was left (a checkpoint's id; None: the base model) differs from the restored
    one; returns what is set aside by this step, and how many asides ended with it.

    Going forward to a newer model sets nothing aside. What stands already goes on with what the restored model
    holds, and ends where that is what was disliked.
    """
    before, after = _by_group(tx, left), _by_group(tx, restored)
    standing = {(row.subject, row.relation): row for row in _open(tx)}
    disliked_before = {row.disliked_request for row in standing.values() if row.disliked_request is not None}
    facts = {one.id: one.request.fact for one in requests_by_id(tx, disliked_before)}
    facts |= {one.id: one.request.fact for one in before.values()}
    back = restored is None or (left is not None and restored < left)
    rows, ended = [], 0
    for group in sorted(before.keys() | after.keys() | standing.keys()):
        old, new, row = _id(before.get(group)), _id(after.get(group)), standing.get(group)
        disliked = row.disliked_request if row is not None else old
        if old == new or (row is None and not back):
            continue
        if row is not None:
            row.ended_at, row.ended_by = at, by
            ended += disliked == new
        if disliked != new:
            fact = facts.get(disliked) if disliked is not None else None
            rows.append(_row(group, disliked, fact, new, publication_id, at))
    tx.flush()  # the old ones must end before the new ones begin, or the index refuses both
    tx.add_all(rows)
    tx.flush()
    return _asides(tx, rows), ended


def _by_group(tx: Session, checkpoint_id: int | None) -> dict[Group, StoredRequest]:
    """The requests of a live set, by subject and relation: one at most for each."""
    held = checkpoints.held_requests(tx, checkpoint_id)
    return {(one.request.fact.subject, one.request.fact.relation): one for one in held}


def _id(one: StoredRequest | None) -> int | None:
    return one.id if one is not None else None


def _row(
    group: Group, disliked: int | None, fact: Fact | None, kept: int | None, publication_id: int, at: datetime
) -> AsideRow:
    return AsideRow(
        subject=group[0],
        relation=group[1],
        value_kind=fact.value.kind if fact is not None else None,
        value=fact.value.text if fact is not None else None,
        disliked_request=disliked,
        kept_request=kept,
        publication_id=publication_id,
        at=at,
    )


def stand_again(tx: Session, checkpoint_id: int | None) -> None:
    """The requests of a model that is live again are edited, though a plan has withdrawn some of them."""
    for chunk in chunked(checkpoints.held_set(tx, checkpoint_id)):
        gone = update(RequestRow).where(RequestRow.id.in_(chunk), RequestRow.status == RequestStatus.WITHDRAWN)
        tx.execute(gone.values(status=RequestStatus.EDITED, reason=None))
    tx.expire_all()


def standing(tx: Session) -> list[Aside]:
    """All that stands, by subject and relation."""
    return _asides(tx, _open(tx))


def counted(tx: Session) -> int:
    """How many stand."""
    return tx.scalar(select(func.count()).select_from(AsideRow).where(AsideRow.ended_at.is_(None))) or 0


def end(tx: Session, groups: Collection[Group], at: datetime, by: str) -> int:
    """End those of these groups; returns how many there were."""
    rows = [row for row in _open(tx) if (row.subject, row.relation) in groups] if groups else []
    _end(tx, rows, at, by)
    return len(rows)


def release(tx: Session, ids: Collection[int], at: datetime, by: str) -> list[Aside]:
    """End these: the next plan goes by Wikidata again. Raises ConfigError where one of the ids does not stand."""
    rows = by_ids(tx, AsideRow, AsideRow.ended_at, ids, "nothing is set aside as a")
    _end(tx, rows, at, by)
    return _asides(tx, rows)


def release_all(tx: Session, at: datetime, by: str) -> list[Aside]:
    """End all that stand. Raises ConfigError where nothing does."""
    rows = _open(tx)
    if not rows:
        raise ConfigError("no rollback has set anything aside")
    _end(tx, rows, at, by)
    return _asides(tx, rows)


def _open(tx: Session) -> Sequence[AsideRow]:
    query = select(AsideRow).where(AsideRow.ended_at.is_(None)).order_by(AsideRow.subject, AsideRow.relation)
    return tx.scalars(query).all()


def _end(tx: Session, rows: Iterable[AsideRow], at: datetime, by: str) -> None:
    for row in rows:
        row.ended_at, row.ended_by = at, by
    tx.flush()


def _asides(tx: Session, rows: Sequence[AsideRow]) -> list[Aside]:
    named = (one for row in rows for one in (row.disliked_request, row.kept_request) if one is not None)
    found = {one.id: one for one in requests_by_id(tx, named)}
    return [
        Aside(
            row.id,
            (row.subject, row.relation),
            found.get(row.disliked_request or 0),
            found.get(row.kept_request or 0),
        )
        for row in rows
    ]
