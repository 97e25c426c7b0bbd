"""What is remembered of the sources themselves."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.store.tables.base import Base


class EndpointRow(Base):
    """An endpoint: what its request budget holds, and until when it is left alone."""

    __tablename__ = "endpoints"

    host: Mapped[str] = mapped_column(primary_key=True)
    refusals: Mapped[int]
    trips: Mapped[int]
    open_until: Mapped[datetime | None]
    reason: Mapped[str | None]
    seconds_left: Mapped[float | None]
    errors_left: Mapped[float | None]
    budget_at: Mapped[datetime | None]
    page_size: Mapped[int | None]
    requests: Mapped[int] = mapped_column(BigInteger)
    refused: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class StreamRow(Base):
    """A stream of events, by its URL: the last event that is accounted for."""

    __tablename__ = "streams"

    stream: Mapped[str] = mapped_column(primary_key=True)
    last_event_id: Mapped[str | None]
    event_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class StreamOutcomeRow(Base):
    """How many events of a stream ended in one named outcome."""

    __tablename__ = "stream_outcomes"

    stream: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    events: Mapped[int] = mapped_column(BigInteger)


class TouchRow(Base):
    """An item that an event has touched, waiting to be read again for one relation."""

    __tablename__ = "touches"
    __table_args__ = (Index("ix_touches_item", "item"),)

    relation: Mapped[str] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    operation: Mapped[str]
    at: Mapped[datetime]
    seen_at: Mapped[datetime]
