"""Synced models: checkpoints, the live set that each holds, and which was published when."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.store.tables.base import Base


class CheckpointStatus(enum.StrEnum):
    """How a checkpoint stands. `retired`: it was published, another one is live now."""

    CANDIDATE = "candidate"
    REJECTED = "rejected"
    PUBLISHED = "published"
    RETIRED = "retired"


class Action(enum.StrEnum):
    """Why a model went live."""

    PUBLISH = "publish"
    ROLLBACK = "rollback"


class CheckpointRow(Base):
    """A synced model on disk, until its files are pruned; then only its row stays."""

    __tablename__ = "checkpoints"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    name: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    weights_hash: Mapped[str]
    manifest_sha256: Mapped[str]
    base_hash: Mapped[str]
    settings_hash: Mapped[str]
    live_hash: Mapped[str]
    facts: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[CheckpointStatus]
    created_at: Mapped[datetime]
    damage: Mapped[str | None]  # what was found to be wrong with its files
    pruned_at: Mapped[datetime | None]


class CheckpointRequestRow(Base):
    """One fact of the live set that a checkpoint holds."""

    __tablename__ = "checkpoint_requests"

    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"), primary_key=True)
    request_id: Mapped[int] = mapped_column(ForeignKey("edit_requests.id"), primary_key=True, index=True)


class PublicationRow(Base):
    """From when until when one model was live. `checkpoint_id` is NULL for the base model.

    Exactly one row is live once anything was published: the unique index forbids a second one.
    """

    __tablename__ = "publications"
    __table_args__ = (
        CheckConstraint("live = (ended_at IS NULL)", name="live_until_ended"),
        Index(
            "uq_publications_live",
            "live",
            unique=True,
            sqlite_where=text("live"),
            postgresql_where=text("live"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    checkpoint_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    action: Mapped[Action]
    at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    live: Mapped[bool]
