"""Rows that stand until somebody ends them, found by the ids that people write."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from sqlalchemy.orm import InstrumentedAttribute, Session

from kbsync.errors import ConfigError
from kbsync.store.tables import Base

Row = TypeVar("Row", bound=Base)


def by_ids(
    tx: Session, table: type[Row], ended: InstrumentedAttribute[datetime | None], ids: Iterable[int], nothing: str
) -> list[Row]:
    """The rows of these ids, each once. Raises ConfigError for an id that no row has, or one whose row has `ended`:
    that is `nothing`, words to which the id is put."""
    rows = []
    for one in dict.fromkeys(ids):
        row = tx.get(table, one)
        if row is None or getattr(row, ended.key) is not None:
            raise ConfigError(f"{nothing}{one}; `kbsync held` lists what is")
        rows.append(row)
    return rows
