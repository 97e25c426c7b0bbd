"""Runs and what starts them: runs, their stages, triggers, daemons, pauses."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.store.tables.base import Base


class RunStatus(enum.StrEnum):
    """How a run stands or ended."""

    RUNNING = "running"
    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    WAITING = "waiting"  # for a person: it would change more than it may by itself
    PAUSED = "paused"  # the source is left alone until a time; nothing was read
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RECONCILED = "reconciled"  # compared the mirror with the source; no model was asked for


class RunRow(Base):
    """One sync. At most one is running: the unique index is the lease, `host`, `pid` and `beat_at` its owner."""

    __tablename__ = "runs"
    __table_args__ = (
        Index(
            "uq_runs_running",
            "status",
            unique=True,
            sqlite_where=text("status = 'running'"),
            postgresql_where=text("status = 'running'"),
        ),
        Index("ix_runs_status_trigger_ended_at", "status", "trigger", "ended_at"),  # counts without the settings
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    trigger: Mapped[str]
    status: Mapped[RunStatus]
    stage: Mapped[str | None]
    reason: Mapped[str | None]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    base_hash: Mapped[str | None]
    settings_hash: Mapped[str | None]
    settings: Mapped[dict[str, Any]]
    epoch: Mapped[int] = mapped_column(server_default="0")
    refused_hash: Mapped[str | None]  # a candidate that would be refused again, and what it was judged by


class LeaseRow(Base):
    """How often a lease was taken: the number that its holder's writes must have."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int]


class StageRow(Base):
    """One stage of one run, with its named counts."""

    __tablename__ = "run_stages"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    counts: Mapped[dict[str, Any]]


class Wants(enum.StrEnum):
    """What a trigger asks for."""

    SYNC = "sync"
    RECONCILE = "reconcile"


class TriggerRow(Base):
    """Somebody asked for a run."""

    __tablename__ = "triggers"

    id: Mapped[int] = mapped_column(primary_key=True)
    requested_at: Mapped[datetime]
    requested_by: Mapped[str]
    taken_run: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    done_at: Mapped[datetime | None]
    wants: Mapped[Wants] = mapped_column(server_default="sync")


class DaemonRow(Base):
    """A daemon process, from its start to its stop."""

    __tablename__ = "daemons"

    id: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    next_run_at: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]


class PauseRow(Base):
    """A stretch of time in which nothing started by itself: until `until`, or until somebody resumed it."""

    __tablename__ = "pauses"

    id: Mapped[int] = mapped_column(primary_key=True)
    paused_at: Mapped[datetime]
    paused_by: Mapped[str]
    until: Mapped[datetime | None]
    reason: Mapped[str]
    resumed_at: Mapped[datetime | None]
    resumed_by: Mapped[str | None]
