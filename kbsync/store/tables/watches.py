"""What is watched beside the config file, and how far each relation's first pull has come."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.store.tables.base import Base


class WatchRow(Base):
    """A relation that a command has added. `filter` says which subjects; it is empty for all. `priority` is that of
    `watch.priority`."""

    __tablename__ = "watches"

    relation: Mapped[str] = mapped_column(primary_key=True)
    filter: Mapped[dict[str, Any]]
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    added_at: Mapped[datetime]
    added_by: Mapped[str]


class BackfillRow(Base):
    """The first pull of one relation: the IRI of the last subject that it has read, "" before the first one.

    `filter_key` is of the filter that the relation's rows were chosen by; with another one it begins anew.
    """

    __tablename__ = "backfills"

    relation: Mapped[str] = mapped_column(primary_key=True)
    filter_key: Mapped[str]
    after: Mapped[str]
    subjects: Mapped[int]
    pages: Mapped[int]
    begun_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    updated_run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
