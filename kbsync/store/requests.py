"""The ledger of edit requests: saved before they are solved, followed by their status until withdrawn."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from kbsync.facts import EditRequest, Fact, Value
from kbsync.store.chunks import chunked
from kbsync.store.tables import RequestRow, RequestStatus
from kbsync.store.words import prompts_json, request_of

Key = tuple[Fact, str]  # a fact in words: the fact and the content hash of its words


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """An edit request with its row's id, status and batch."""

    id: int
    request: EditRequest
    status: RequestStatus
    reason: str | None
    batch: str | None
    first_run: int
    last_run: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that are solved together. Its composition never changes, since it shapes the numbers of z."""

    name: str
    requests: tuple[StoredRequest, ...]


def save_requests(
    tx: Session,
    run_id: int,
    at: datetime,
    requests: Sequence[EditRequest],
    status: RequestStatus = RequestStatus.PLANNED,
    reason: str | None = None,
) -> list[int]:
    """Save the plan's requests and return their ids, in order.

    A request is known by its fact and its content hash: saved again, it keeps its id and takes the newest
    labels and evaluation prompts. PLANNED leaves a request alone that is solved, edited, known or failed already.
    """
    known = {_key(row): row for row in _rows_of_subjects(tx, {r.fact.subject for r in requests})}
    rows: list[RequestRow] = []
    for request in requests:
        key = (request.fact, request.content_hash)
        row = known.get(key)
        if row is None:
            row = known[key] = RequestRow(content_hash=key[1], first_run=run_id, created_at=at)
            row.subject, row.relation = request.fact.subject, request.fact.relation
            row.value_kind, row.value = request.fact.value.kind, request.fact.value.text
            row.status, row.reason = status, reason
            tx.add(row)
        elif status is not RequestStatus.PLANNED or row.status not in _PAST_PLANNING:
            row.status, row.reason = status, reason
        row.subject_label, row.relation_label = request.subject_label, request.relation_label
        row.target_new, row.target_old = request.target_new, request.target_old
        row.prompts = prompts_json(request)
        row.last_run, row.updated_at = run_id, at
        rows.append(row)
    tx.flush()
    return [row.id for row in rows]


_PAST_PLANNING = (RequestStatus.SOLVED, RequestStatus.EDITED, RequestStatus.KNOWN, RequestStatus.FAILED)


def set_status(
    tx: Session,
    run_id: int,
    at: datetime,
    ids: Iterable[int],
    status: RequestStatus,
    reason: str | None = None,
) -> None:
    """Give all of `ids` the same status and reason."""
    set_statuses(tx, run_id, at, dict.fromkeys(ids, (status, reason)))


def set_statuses(
    tx: Session, run_id: int, at: datetime, statuses: Mapping[int, tuple[RequestStatus, str | None]]
) -> None:
    """Give each request its own status and reason."""
    rows = [
        {"id": one, "status": status, "reason": reason, "last_run": run_id, "updated_at": at}
        for one, (status, reason) in statuses.items()
    ]
    if rows:
        tx.flush()
        tx.execute(update(RequestRow), rows)
        tx.expire_all()


def withdraw(tx: Session, run_id: int, at: datetime, ids: Iterable[int], reason: str) -> None:
    """The facts are no longer wanted (retired, renamed, over the limit): named by `reason`."""
    set_status(tx, run_id, at, ids, RequestStatus.WITHDRAWN, reason)


def assign_batch(tx: Session, name: str, ids: Iterable[int]) -> None:
    """Say that these requests are solved together. The name must be new: a batch is fixed once it is made."""
    rows = [{"id": one, "solve_batch": name} for one in ids]
    if rows:
        tx.flush()
        tx.execute(update(RequestRow), rows)
        tx.expire_all()


def pending_batches(tx: Session) -> list[Batch]:
    """Batches with a request that is still to be solved, by name; their requests by id.

    A batch comes whole, with what was withdrawn since: a run that was killed must solve the same batch as
    one that was not.
    """
    names = select(RequestRow.solve_batch).where(
        RequestRow.status == RequestStatus.PLANNED, RequestRow.solve_batch.is_not(None)
    )
    batches: dict[str, list[StoredRequest]] = {}
    for row in tx.scalars(select(RequestRow).where(RequestRow.solve_batch.in_(names)).order_by(RequestRow.id)):
        batches.setdefault(row.solve_batch or "", []).append(stored(row))
    return [Batch(name, tuple(batches[name])) for name in sorted(batches)]


def requests_with(
    tx: Session, statuses: Collection[RequestStatus], relations: Collection[str] | None = None
) -> list[StoredRequest]:
    """All requests of these statuses, by id."""
    query = select(RequestRow).where(RequestRow.status.in_(statuses)).order_by(RequestRow.id)
    if relations is not None:
        query = query.where(RequestRow.relation.in_(relations))
    return [stored(row) for row in tx.scalars(query)]


def requests_by_id(tx: Session, ids: Iterable[int]) -> list[StoredRequest]:
    """The requests of these ids, by id. Unknown ids are left out."""
    found: list[StoredRequest] = []
    for chunk in chunked(sorted(set(ids))):
        rows = tx.scalars(select(RequestRow).where(RequestRow.id.in_(chunk)).order_by(RequestRow.id))
        found.extend(stored(row) for row in rows)
    return found


def requests_of_facts(tx: Session, facts: Iterable[Fact]) -> dict[Fact, list[StoredRequest]]:
    """Every request, in whatever words and status, that was ever made of each fact; the oldest first."""
    wanted = set(facts)
    found: dict[Fact, list[StoredRequest]] = {}
    for row in _rows_of_subjects(tx, {fact.subject for fact in wanted}):
        one = stored(row)
        if one.request.fact in wanted:
            found.setdefault(one.request.fact, []).append(one)
    return found


def status_counts(tx: Session) -> dict[RequestStatus, int]:
    """How many requests stand where."""
    rows = tx.execute(select(RequestRow.status, func.count()).group_by(RequestRow.status))
    return {status: count for status, count in rows}  # noqa: C416  (a Row is not a tuple to mypy)


def stored(row: RequestRow) -> StoredRequest:
    """The row as a value that outlives the transaction."""
    return StoredRequest(
        id=row.id,
        request=request_of(row),
        status=row.status,
        reason=row.reason,
        batch=row.solve_batch,
        first_run=row.first_run,
        last_run=row.last_run,
    )


def _rows_of_subjects(tx: Session, subjects: Iterable[str]) -> Iterator[RequestRow]:
    for chunk in chunked(sorted(subjects)):
        yield from tx.scalars(select(RequestRow).where(RequestRow.subject.in_(chunk)).order_by(RequestRow.id))


def _key(row: RequestRow) -> Key:
    fact = Fact(row.subject, row.relation, Value(row.value_kind, row.value))
    return fact, row.content_hash
