"""Who may ask over HTTP."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.store.tables.base import Base


class TokenRow(Base):
    """A token, as the SHA-256 of its text: the text itself is shown once and kept nowhere."""

    __tablename__ = "tokens"
    __table_args__ = (
        Index(
            "uq_tokens_live_name",
            "name",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str]
    may_write: Mapped[bool]
    made_at: Mapped[datetime]
    made_by: Mapped[str]
    revoked_at: Mapped[datetime | None]
