"""The trust filter's ledger: evidence, verdicts, what people decided, and what runs asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.facts import Fact, Value, ValueKind
from kbsync.store.chunks import chunked
from kbsync.store.tables import (
    ClassRootRow,
    ItemClassRow,
    PublicationRow,
    RevisionScoreRow,
    RunRow,
    RunStatus,
    TrustDecisionRow,
    TrustQuestionRow,
    TrustVerdictRow,
    Way,
)


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """A verdict of the filter as a row. `until` is when it can change by itself."""

    fact: Fact
    way: Way
    passed: bool
    reason: str
    detail: str | None
    since: datetime | None
    until: datetime | None


def save_verdicts(tx: Session, run_id: int, at: datetime, verdicts: Iterable[StoredVerdict]) -> None:
    """Make the open verdicts exactly these. One that goes on unchanged keeps its row; the others are closed."""
    wanted = {one.fact: one for one in verdicts}
    for row in tx.scalars(select(TrustVerdictRow).where(TrustVerdictRow.closed_at.is_(None))):
        told = _verdict(row)
        if wanted.get(told.fact) == told:
            del wanted[told.fact]
        else:
            row.closed_run, row.closed_at = run_id, at
    tx.flush()
    tx.add_all(
        TrustVerdictRow(
            subject=fact.subject,
            relation=fact.relation,
            value_kind=fact.value.kind,
            value=fact.value.text,
            way=one.way,
            passed=one.passed,
            reason=one.reason,
            detail=one.detail,
            since=one.since,
            until=one.until,
            first_run=run_id,
            opened_at=at,
        )
        for fact, one in sorted(wanted.items(), key=lambda pair: pair[0])
    )
    tx.flush()


def open_verdicts(tx: Session) -> list[StoredVerdict]:
    """The verdicts of the last plan, in the order of facts."""
    rows = tx.scalars(select(TrustVerdictRow).where(TrustVerdictRow.closed_at.is_(None)))
    return sorted(map(_verdict, rows), key=lambda one: one.fact.order())


def _verdict(row: TrustVerdictRow) -> StoredVerdict:
    fact = Fact(row.subject, row.relation, Value(row.value_kind, row.value))
    return StoredVerdict(fact, row.way, row.passed, row.reason, row.detail, row.since, row.until)


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided about one change, the latest word for it."""

    fact: Fact
    way: Way
    since: datetime | None
    approved: bool


def decisions(tx: Session) -> list[Decision]:
    """What was decided about changes, in the order in which it was: a later one overrules an earlier one."""
    found = []
    for row in tx.scalars(select(TrustDecisionRow).order_by(TrustDecisionRow.id)):
        if row.subject is None or row.relation is None or row.value_kind is None or row.way is None:
            continue
        fact = Fact(row.subject, row.relation, Value(row.value_kind, row.value or ""))
        found.append(Decision(fact, row.way, row.since, row.approved))
    return found


def decide(tx: Session, verdict_id: int, approved: bool, by: str, why: str | None, at: datetime) -> StoredVerdict:
    """Write down what somebody decides about a held change; returns the verdict that it is about.

    Raises ConfigError when nothing of this id is held.
    """
    row = tx.get(TrustVerdictRow, verdict_id)
    if row is None or (row.passed and approved):
        raise ConfigError(f"nothing is held as h{verdict_id}; `kbsync held` lists what is")
    if row.closed_at is not None:
        raise ConfigError(
            f"h{verdict_id} is over since {row.closed_at:%Y-%m-%d %H:%M}; `kbsync held` lists what waits"
        )
    told = _verdict(row)
    tx.add(
        TrustDecisionRow(
            subject=row.subject,
            relation=row.relation,
            value_kind=row.value_kind,
            value=row.value,
            way=row.way,
            since=row.since,
            approved=approved,
            by=by,
            why=why,
            at=at,
        )
    )
    tx.flush()
    return told


def approve_run(tx: Session, run_id: int, by: str, why: str | None, at: datetime) -> int:
    """Let what a run asked about go on; returns how many changes that are. Raises ConfigError when it asked
    nothing."""
    row = tx.get(RunRow, run_id)
    asked = tx.scalars(select(TrustQuestionRow).where(TrustQuestionRow.run_id == run_id)).all()
    if row is None or row.status is not RunStatus.WAITING or not asked:
        raise ConfigError(f"run {run_id} does not wait for an approval; held changes are called h1, h2, …")
    tx.add(TrustDecisionRow(question_run=run_id, approved=True, by=by, why=why, at=at))
    tx.flush()
    return len(asked)


def ask(tx: Session, run_id: int, changes: Iterable[tuple[Fact, Way]]) -> None:
    """Write down the changes of the live set that a run stops at."""
    tx.add_all(
        TrustQuestionRow(
            run_id=run_id,
            subject=fact.subject,
            relation=fact.relation,
            value_kind=fact.value.kind,
            value=fact.value.text,
            way=way,
        )
        for fact, way in sorted(changes)
    )
    tx.flush()


def approved_changes(tx: Session) -> set[tuple[Fact, Way]]:
    """The changes of the live set that were approved since a model last went live."""
    last = tx.scalar(select(PublicationRow.at).where(PublicationRow.live))
    runs = select(TrustDecisionRow.question_run).where(TrustDecisionRow.question_run.is_not(None))
    if last is not None:
        runs = runs.where(TrustDecisionRow.at > last)
    rows = tx.scalars(select(TrustQuestionRow).where(TrustQuestionRow.run_id.in_(runs)))
    return {(Fact(r.subject, r.relation, Value(r.value_kind, r.value)), r.way) for r in rows}


def save_classes(tx: Session, at: datetime, found: Mapping[str, Collection[str]]) -> None:
    """Store what items are instances of, in place of what was read before."""
    for chunk in chunked(sorted(found)):
        for row in tx.scalars(select(ItemClassRow).where(ItemClassRow.item.in_(chunk))):
            tx.delete(row)
        tx.flush()
        tx.add_all(
            ItemClassRow(item=item, class_id=one, read_at=at)
            for item in chunk
            for one in sorted(found[item]) or [""]
        )
    tx.flush()


def classes_of(tx: Session, items: Iterable[str]) -> dict[str, set[str]]:
    """The classes of those of `items` that were read; none for those that have none."""
    found: dict[str, set[str]] = {}
    for chunk in chunked(sorted(set(items))):
        for row in tx.scalars(select(ItemClassRow).where(ItemClassRow.item.in_(chunk))):
            found.setdefault(row.item, set()).update({row.class_id} - {""})
    return found


def save_roots(tx: Session, at: datetime, found: Mapping[tuple[str, str], bool]) -> None:
    """Store whether each (class, root) is so: the class is the root, or below it."""
    tx.add_all(
        ClassRootRow(class_id=one, root=root, below=below, read_at=at)
        for (one, root), below in sorted(found.items())
    )
    tx.flush()


def roots(tx: Session) -> dict[tuple[str, str], bool]:
    """What is known of classes and the catalogue's classes."""
    return {(row.class_id, row.root): row.below for row in tx.scalars(select(ClassRootRow))}


def save_scores(tx: Session, at: datetime, found: Mapping[int, float]) -> None:
    """Store what the scoring service said of revisions."""
    for revision, score in sorted(found.items()):
        tx.merge(RevisionScoreRow(revision=revision, score=score, read_at=at))
    tx.flush()


def scores(tx: Session, revisions: Iterable[int]) -> dict[int, float]:
    """The scores of those of `revisions` that have one."""
    found: dict[int, float] = {}
    for chunk in chunked(sorted(set(revisions))):
        rows = tx.scalars(select(RevisionScoreRow).where(RevisionScoreRow.revision.in_(chunk)))
        found.update({row.revision: row.score for row in rows})
    return found


def label_fact(entity: str, label: str) -> Fact:
    """A label as the ledger of verdicts knows it: the relation is `label`."""
    return Fact(entity, "label", Value(ValueKind.STRING, label))
