"""The trust filter's rows: what facts and labels were before, what is known of items, verdicts, decisions."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.facts import References, ValueKind
from kbsync.store.tables.base import Base


class Way(enum.StrEnum):
    """What a change of Wikidata would do to the model."""

    ENTER = "enter"  # a fact comes
    LEAVE = "leave"  # a fact goes
    CHANGE = "change"  # a fact stays, with another rank, other dates or other references
    LABEL = "label"  # an item gets another name


class FactStateRow(Base):
    """A state of a fact that is over: what Wikidata said of it until `until`, by the source's time.

    What it says now is in `statements`. `revision` is the subject's, at which the end of the state was found.
    """

    __tablename__ = "fact_states"
    __table_args__ = (Index("ix_fact_states_relation_subject", "relation", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind]
    value: Mapped[str]
    present: Mapped[bool]
    preferred: Mapped[bool]
    start_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    refs: Mapped[References | None]
    until: Mapped[datetime]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    revision: Mapped[int | None] = mapped_column(BigInteger)


class LabelStateRow(Base):
    """A label that an item had until `until`; NULL where it had none, or was not known yet."""

    __tablename__ = "label_states"

    id: Mapped[int] = mapped_column(primary_key=True)
    entity: Mapped[str] = mapped_column(index=True)
    label: Mapped[str | None]
    until: Mapped[datetime]


class ItemClassRow(Base):
    """A class that an item is an instance of; one row with an empty class where it has none."""

    __tablename__ = "item_classes"

    item: Mapped[str] = mapped_column(primary_key=True)
    class_id: Mapped[str] = mapped_column(primary_key=True)
    read_at: Mapped[datetime]


class ClassRootRow(Base):
    """Whether a class is one of the catalogue's classes, or below it."""

    __tablename__ = "class_roots"

    class_id: Mapped[str] = mapped_column(primary_key=True)
    root: Mapped[str] = mapped_column(primary_key=True)
    below: Mapped[bool]
    read_at: Mapped[datetime]


class RevisionScoreRow(Base):
    """The probability that a revision will be reverted, as the scoring service told it."""

    __tablename__ = "revision_scores"

    revision: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    score: Mapped[float]
    read_at: Mapped[datetime]


class TrustVerdictRow(Base):
    """What the trust filter says of one change, from the plan that said it first until one that said otherwise.

    `since` is when the change was made, by the source's time; `until` when the verdict can change by itself.
    """

    __tablename__ = "trust_verdicts"
    __table_args__ = (
        Index(
            "uq_trust_verdicts_open",
            "subject",
            "relation",
            "value_kind",
            "value",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind]
    value: Mapped[str]
    way: Mapped[Way]
    passed: Mapped[bool]
    reason: Mapped[str]
    detail: Mapped[str | None]
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    first_run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    opened_at: Mapped[datetime]
    closed_run: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    closed_at: Mapped[datetime | None]


class TrustDecisionRow(Base):
    """What somebody decided by hand: about one change, or (`question_run`) about all that a run asked about."""

    __tablename__ = "trust_decisions"

    id: Mapped[int] = mapped_column(primary_key=True)
    question_run: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    subject: Mapped[str | None]
    relation: Mapped[str | None]
    value_kind: Mapped[ValueKind | None]
    value: Mapped[str | None]
    way: Mapped[Way | None]
    since: Mapped[datetime | None]
    approved: Mapped[bool]
    by: Mapped[str]
    why: Mapped[str | None]
    at: Mapped[datetime]


class TrustQuestionRow(Base):
    """One change of the live set that a run stopped at, to ask."""

    __tablename__ = "trust_questions"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind]
    value: Mapped[str]
    way: Mapped[Way]
