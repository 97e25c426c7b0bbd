"""Edits: holds, edit requests, solved targets, and what each edit did."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.facts import Phase, PromptKind, ValueKind
from kbsync.store.tables.base import Base


class RequestStatus(enum.StrEnum):
    """How an edit request stands."""

    PLANNED = "planned"
    SOLVED = "solved"
    KNOWN = "known"
    EDITED = "edited"
    HELD = "held"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class HoldRow(Base):
    """A fact that could become an edit but must not, from the plan that held it until one that did not."""

    __tablename__ = "holds"
    __table_args__ = (
        Index(
            "uq_holds_open",
            "subject",
            "relation",
            "value_kind",
            "value",
            unique=True,
            sqlite_where=text("released_at IS NULL"),
            postgresql_where=text("released_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind]
    value: Mapped[str]
    reason: Mapped[str]
    first_run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    held_at: Mapped[datetime]
    released_run: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    released_at: Mapped[datetime | None]


class RequestRow(Base):
    """A fact in words. Other words (a renamed subject, a new prompt) for the same fact are another request."""

    __tablename__ = "edit_requests"
    __table_args__ = (UniqueConstraint("subject", "relation", "value_kind", "value", "content_hash"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    content_hash: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind]
    value: Mapped[str]
    subject_label: Mapped[str]
    relation_label: Mapped[str]
    target_new: Mapped[str]
    target_old: Mapped[str | None]
    prompts: Mapped[dict[str, Any]]
    status: Mapped[RequestStatus] = mapped_column(index=True)
    reason: Mapped[str | None]
    solve_batch: Mapped[str | None] = mapped_column(index=True)
    first_run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    last_run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class TargetRow(Base):
    """A solved z: `dim` float32 numbers, little endian, and how the solve went."""

    __tablename__ = "targets"

    z_hash: Mapped[str] = mapped_column(primary_key=True)
    content_hash: Mapped[str] = mapped_column(index=True)
    base_hash: Mapped[str]
    settings_hash: Mapped[str]
    layer: Mapped[int]
    dim: Mapped[int]
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    loss: Mapped[float]
    steps: Mapped[int]
    delta_norm: Mapped[float]
    hidden_norm: Mapped[float]
    seconds: Mapped[float]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    created_at: Mapped[datetime]


class CovarianceTextRow(Base):
    """Facts in words that C was made with, a line each: weights can be rebuilt only with the same ones."""

    __tablename__ = "covariance_texts"

    wanted: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sentences: Mapped[str]
    created_at: Mapped[datetime]


class OutcomeRow(Base):
    """What one model said at one prompt of one request. `p_*` are exp of `logp_*`: geometric means per token.

    A `logp_new` of NULL was not a number: the model is broken there.
    """

    __tablename__ = "outcomes"
    __table_args__ = (
        UniqueConstraint("request_id", "phase", "kind", "idx", "run_id"),
        Index("ix_outcomes_run_id_phase", "run_id", "phase"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    request_id: Mapped[int] = mapped_column(ForeignKey("edit_requests.id"))
    phase: Mapped[Phase]
    kind: Mapped[PromptKind]
    idx: Mapped[int]
    prompt: Mapped[str]
    target_new: Mapped[str]
    target_old: Mapped[str | None]
    logp_new: Mapped[float | None]
    logp_old: Mapped[float | None]
    p_new: Mapped[float | None]
    p_old: Mapped[float | None]
    success: Mapped[bool]
    accuracy: Mapped[bool]
    said: Mapped[str | None]


class MetricRow(Base):
    """One number of one run. `phase` is `before` (the base model) or `after`; NULL was not a number."""

    __tablename__ = "metrics"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    count: Mapped[int]


class VerdictRow(Base):
    """One rule of the gate, applied to one run's candidate. `value` is NULL where nothing could be measured."""

    __tablename__ = "gate_verdicts"
    __table_args__ = (UniqueConstraint("run_id", "metric"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    metric: Mapped[str]
    value: Mapped[float | None]
    threshold: Mapped[float | None]
    comparison: Mapped[str]
    passed: Mapped[bool]
    reason: Mapped[str | None]
