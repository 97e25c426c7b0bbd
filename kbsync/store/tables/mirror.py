"""The mirror of Wikidata: entities, statements, the facts that follow from them, changes, cursors."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.facts import ChangeKind, Rank, References, ValueKind
from kbsync.store.tables.base import Base


class EntityRow(Base):
    """An item or property that the source has named, with its label."""

    __tablename__ = "entities"

    id: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str | None]
    language: Mapped[str | None]
    revision: Mapped[int | None] = mapped_column(BigInteger)  # Wikidata's passed 2**31 in 2024
    modified: Mapped[datetime | None]
    seen_at: Mapped[datetime]


class StatementRow(Base):
    """Wikidata's record of a fact, as the source last told it. Retired rows stay, as history."""

    __tablename__ = "statements"
    __table_args__ = (Index("ix_statements_relation_subject", "relation", "subject"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind]
    value: Mapped[str]
    rank: Mapped[Rank]
    best: Mapped[bool]
    start_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    seen_run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    seen_at: Mapped[datetime]
    changed_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]
    retired_reason: Mapped[str | None]
    refs: Mapped[References | None]
    detail: Mapped[str | None]  # a time's precision or a quantity's unit; NULL where the source told none


class ReadingRow(Base):
    """The highest revision of an item at which its statements of one relation were read, and when by the source's
    time; and when the item was last found missing.

    An item's own revision does not do: another relation's pull may have moved it.
    """

    __tablename__ = "readings"

    relation: Mapped[str] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int | None] = mapped_column(BigInteger)
    at: Mapped[datetime | None]
    absent_at: Mapped[datetime | None]


class FactRow(Base):
    """A truthy (subject, relation, object). One that comes back gets a new row, so history is kept."""

    __tablename__ = "facts"
    __table_args__ = (
        Index(
            "uq_facts_live",
            "subject",
            "relation",
            "value_kind",
            "value",
            unique=True,
            sqlite_where=text("retired_at IS NULL"),
            postgresql_where=text("retired_at IS NULL"),
        ),
        Index("ix_facts_relation_value", "relation", "value"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind]
    value: Mapped[str]
    baseline: Mapped[bool]
    seen_run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    seen_at: Mapped[datetime]
    retired_run: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    retired_at: Mapped[datetime | None]
    retired_reason: Mapped[str | None]
    detail: Mapped[str | None]


class ChangeRow(Base):
    """What one pull found about one fact, and what became of it."""

    __tablename__ = "changes"
    __table_args__ = (Index("ix_changes_subject_relation", "subject", "relation"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    at: Mapped[datetime]
    kind: Mapped[ChangeKind] = mapped_column(index=True)
    subject: Mapped[str]
    relation: Mapped[str]
    old_kind: Mapped[ValueKind | None]
    old_value: Mapped[str | None]
    new_kind: Mapped[ValueKind | None]
    new_value: Mapped[str | None]
    statement_id: Mapped[str]
    reason: Mapped[str]
    outcome: Mapped[str]


class CursorRow(Base):
    """How far one relation has been read. `complete_at` is set once the first pull has read all of it."""

    __tablename__ = "cursors"

    relation: Mapped[str] = mapped_column(primary_key=True)
    modified: Mapped[datetime | None]
    item: Mapped[str | None]
    complete_at: Mapped[datetime | None]
    updated_run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
