"""Full passes over the mirror: how each relation came out of one, and what differed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Enum, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.facts import DivergenceKind
from kbsync.store.tables.base import Base

# one of its names is longer than the columns of the other enumerations
KIND = Enum(
    DivergenceKind, native_enum=False, length=24, values_callable=lambda kinds: [one.value for one in kinds]
)


class ReconcileRow(Base):
    """One relation in one reconcile. `outcome` is `complete`, or names why nothing was retired."""

    __tablename__ = "reconciles"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    relation: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str]
    reason: Mapped[str | None]
    subjects: Mapped[int]
    statements: Mapped[int]
    ended_at: Mapped[datetime]


class DivergenceRow(Base):
    """How many differences of one kind a reconcile found in one relation, also where there were none."""

    __tablename__ = "divergences"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    relation: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[DivergenceKind] = mapped_column(KIND, primary_key=True)
    count: Mapped[int]


class DivergentRow(Base):
    """One difference, written in the transaction that healed it."""

    __tablename__ = "divergent"
    __table_args__ = (Index("ix_divergent_relation_run_id", "relation", "run_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    relation: Mapped[str]
    kind: Mapped[DivergenceKind] = mapped_column(KIND)
    subject: Mapped[str]
    statement_id: Mapped[str | None]
    was: Mapped[str | None]
    found: Mapped[str | None]
    at: Mapped[datetime]
