"""What a rollback sets aside, so that the next run does not bring it back."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from kbsync.facts import ValueKind
from kbsync.store.tables.base import Base


class AsideRow(Base):
    """A subject's relation in which a rollback changed the model: while it stands, the model keeps `kept_request`
    (NULL: nothing) whatever Wikidata says, unless that is something else than what was disliked.

    `disliked_request` is what the model before had there, with its value; NULL where it had nothing.
    """

    __tablename__ = "asides"
    __table_args__ = (
        Index(
            "uq_asides_open",
            "subject",
            "relation",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    relation: Mapped[str]
    value_kind: Mapped[ValueKind | None]
    value: Mapped[str | None]
    disliked_request: Mapped[int | None] = mapped_column(ForeignKey("edit_requests.id"))
    kept_request: Mapped[int | None] = mapped_column(ForeignKey("edit_requests.id"))
    publication_id: Mapped[int] = mapped_column(ForeignKey("publications.id"))
    at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
