"""Many rows at once: through the driver's own `executemany`, past the ORM's bookkeeping of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Table, bindparam, insert, update
from sqlalchemy.orm import Session

from kbsync.store.tables.base import Base


def table_of(rows: type[Base]) -> Table:
    """The table behind a class of rows."""
    return cast("Table", rows.__table__)  # the class of all mapped classes only promises something selectable


def insert_rows(tx: Session, into: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all have the same columns."""
    if rows:
        tx.execute(insert(table_of(into)), rows)


def update_rows(tx: Session, of: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Update rows by their primary key; all of `rows` have it, and the same columns to set."""
    if not rows:
        return
    table = table_of(of)
    keys = [column.name for column in table.primary_key]
    names = [name for name in rows[0] if name not in keys]
    query = (
        update(table)
        .where(*(table.c[key] == bindparam(f"where_{key}") for key in keys))
        .values({name: bindparam(f"set_{name}") for name in names})
    )
    values = [
        {f"where_{key}": row[key] for key in keys} | {f"set_{name}": row[name] for name in names} for row in rows
    ]
    tx.connection().execute(query, values)
