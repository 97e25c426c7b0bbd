"""What was done to the store itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.store.tables.base import Base


class PruneRow(Base):
    """What one pruning removed: checkpoints' files, outcomes, z, and runs (JSON: how many of which status)."""

    __tablename__ = "prunes"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    by: Mapped[str]
    checkpoints: Mapped[int]
    outcomes: Mapped[int]
    targets: Mapped[int]
    runs: Mapped[dict[str, Any]]
    bytes: Mapped[int] = mapped_column(BigInteger)
