"""What a refused candidate's bisection found: requests that are kept out, and the trials that tell why."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.facts import ValueKind
from kbsync.store.tables.base import Base


class KeptOut(enum.StrEnum):
    """Why the gate's bisection keeps a request out: it does the damage, or it was not tried yet."""

    QUARANTINED = "quarantined"
    LEFT_OUT = "left out"


class QuarantineRow(Base):
    """A request that is kept out of the live set on one base model, from a bisection until it is released.

    `metric` is the rule of the gate that broke, with its value with the request and without it; all NULL for one
    that is left out, of which nothing was found.
    """

    __tablename__ = "quarantines"
    __table_args__ = (
        Index(
            "uq_quarantines_open",
            "request_id",
            "base_hash",
            unique=True,
            sqlite_where=text("released_at IS NULL"),
            postgresql_where=text("released_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[int] = mapped_column(ForeignKey("edit_requests.id"))
    content_hash: Mapped[str]
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind]
    value: Mapped[str]
    base_hash: Mapped[str]
    kind: Mapped[KeptOut]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    at: Mapped[datetime]
    metric: Mapped[str | None]
    value_with: Mapped[float | None]
    value_without: Mapped[float | None]
    comparison: Mapped[str | None]
    threshold: Mapped[float | None]
    reason: Mapped[str]
    released_at: Mapped[datetime | None]
    released_by: Mapped[str | None]


class TrialRow(Base):
    """One candidate that a bisection judged: number 0 is the refused one, 1 what the live model holds without the
    new requests. `facts` counts all of its live set, `new` those of `bisection_requests`."""

    __tablename__ = "bisection_trials"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    facts: Mapped[int]
    new: Mapped[int]
    passed: Mapped[bool]
    at: Mapped[datetime]
    seconds: Mapped[float]


class TrialRequestRow(Base):
    """A new request that was in a trial's live set."""

    __tablename__ = "bisection_requests"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    request_id: Mapped[int] = mapped_column(ForeignKey("edit_requests.id"), primary_key=True, index=True)


class TrialVerdictRow(Base):
    """One rule of the gate, applied to a trial. `value` is NULL where nothing could be measured."""

    __tablename__ = "bisection_verdicts"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    metric: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    comparison: Mapped[str]
    threshold: Mapped[float | None]
    passed: Mapped[bool]
