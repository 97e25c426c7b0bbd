"""Many rows at once: through the driver's own `executemany`, past SQLAlchemy's bookkeeping of each row.

What SQLAlchemy knows is used, but once for a kind of statement: its SQL, and how a column's values are made ready
for the driver. Going through it for each row takes half of a page's time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, cast

from sqlalchemy import Dialect, Enum, Table, bindparam, insert, update
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from kbsync.store.tables.base import Base, CleanText, UtcTime, is_clean

_Ready: TypeAlias = "Callable[[list[Any]], list[Any]]"


def table_of(rows: type[Base]) -> Table:
    """The table behind a class of rows."""
    return cast("Table", rows.__table__)  # the class of all mapped classes only promises something selectable


def insert_rows(tx: Session, into: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all have the same columns."""
    _execute(tx, _insert, into, rows)


def update_rows(tx: Session, of: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Update rows by their primary key; all of `rows` have it, and the same columns to set."""
    _execute(tx, _update, of, rows)


@dataclass(frozen=True, slots=True)
class _Statement:
    """SQL as the driver takes it, and its values in their order: (column, what the driver calls the value, how a
    column's values are made ready). `by_position`: the driver takes tuples."""

    sql: str
    values: tuple[tuple[str, str, _Ready], ...]
    by_position: bool

    def parameters(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """The rows as the driver takes them."""
        columns = (ready([row[column] for row in rows]) for column, _, ready in self.values)
        tuples = list(zip(*columns, strict=True))
        if self.by_position:
            return tuples
        names = [name for _, name, _ in self.values]
        return [dict(zip(names, one, strict=True)) for one in tuples]


def _execute(
    tx: Session,
    make: Callable[[Table, tuple[str, ...], Dialect], _Statement],
    table: type[Base],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    if rows:
        connection = tx.connection()
        statement = make(table_of(table), tuple(rows[0]), connection.dialect)
        connection.exec_driver_sql(statement.sql, statement.parameters(rows))


@lru_cache(maxsize=256)
def _insert(table: Table, names: tuple[str, ...], dialect: Dialect) -> _Statement:
    compiled = insert(table).compile(dialect=dialect, column_keys=list(names))
    assert not compiled.insert_prefetch, f"{table.name} has defaults of Python's: rows must name them"
    return _prepared(table, compiled, {name: name for name in names}, dialect)


@lru_cache(maxsize=256)
def _update(table: Table, names: tuple[str, ...], dialect: Dialect) -> _Statement:
    keys = {column.name for column in table.primary_key}
    called = {f"of_{name}" if name in keys else f"to_{name}": name for name in names}
    query = (
        update(table)
        .where(*(table.c[name] == bindparam(f"of_{name}") for name in names if name in keys))
        .values({name: bindparam(f"to_{name}") for name in names if name not in keys})
    )
    return _prepared(table, query.compile(dialect=dialect), called, dialect)


def _prepared(table: Table, compiled: Any, called: Mapping[str, str], dialect: Dialect) -> _Statement:
    """`called` maps the names of what is bound to columns."""
    order: Sequence[str] = compiled.positiontup or list(called)
    values = tuple((called[name], name, _ready(table.c[called[name]].type, dialect)) for name in order)
    return _Statement(str(compiled), values, bool(dialect.positional))


def _ready(kind: TypeEngine[Any], dialect: Dialect) -> _Ready:
    """How the values of a column of this type are made ready for the driver."""
    one: Callable[[Any], Any] | None = kind.dialect_impl(dialect).bind_processor(dialect)
    if one is None:
        return lambda values: values
    if isinstance(kind, CleanText):
        return lambda values: values if is_clean(values) else list(map(one, values))
    if isinstance(kind, UtcTime | Enum):  # the rows of a page have few different ones

        def each_once(values: list[Any]) -> list[Any]:
            made = {value: one(value) for value in set(values)}
            return [made[value] for value in values]

        return each_once
    return lambda values: list(map(one, values))
