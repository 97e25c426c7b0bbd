"""What all tables share: the declarative base, how times and text are stored, how constraints are named."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Boolean, DateTime, Enum, Float, Integer, MetaData, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def iso(time: datetime) -> str:
    """`2024-03-01T12:00:00.000000Z`: fixed width, so that text compares as the times do.

    Raises ValueError for a time without a zone: a guess would be off by hours.
    """
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone; the store keeps UTC")
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


_iso = lru_cache(maxsize=1024)(iso)  # all rows of a page have the page's time


class UtcTime(TypeDecorator[datetime]):
    """A timezone-aware time in UTC: `timestamptz` in PostgreSQL, fixed-width ISO 8601 text in SQLite."""

    impl = DateTime(timezone=True).with_variant(String(27), "sqlite")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Text for SQLite, an aware datetime for PostgreSQL."""
        if value is None:
            return None
        text = _iso(value)
        return text if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """An aware datetime in UTC, whatever the database keeps."""
        if value is None:
            return None
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        assert isinstance(time, datetime)
        return time.astimezone(UTC)


_UNCLEAN = re.compile("[\0\ud800-\udfff]")


class CleanText(TypeDecorator[str]):
    """Text from outside. NUL and lone surrogates, which PostgreSQL or UTF-8 can't hold, become U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """The text as both databases can keep it."""
        if value is None or (value.isascii() and "\0" not in value):  # nearly always; a tenth of a search's time
            return value
        return _UNCLEAN.sub("\ufffd", value)


def is_clean(texts: Iterable[str | None]) -> bool:
    """Whether `CleanText` keeps all of these as they are, as far as a look at them all at once can tell."""
    together = "".join(filter(None, texts))
    return together.isascii() and "\0" not in together


class Real(TypeDecorator[float]):
    """A measured number. Not-a-number is stored as NULL: SQLite has no other way."""

    impl = Float(53)
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:  # noqa: ARG002
        """NULL for NaN."""
        return None if value is None or math.isnan(value) else float(value)


class Json(TypeDecorator[dict[str, Any]]):
    """A JSON document. Numbers that JSON has no word for (NaN, infinity) become null: PostgreSQL refuses them, and
    SQLite keeps a text that is no JSON."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """The document as both databases can keep it."""
        return _with_nulls(value)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _with_nulls(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(one) for one in value]
    return value


def _values(kind: type[enum.Enum]) -> list[str]:
    return [str(member.value) for member in kind]


class Base(DeclarativeBase):
    """All tables of the store."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012  (the name and shape are SQLAlchemy's)
        datetime: UtcTime,
        str: CleanText,
        bool: Boolean,
        int: Integer,
        float: Real,
        dict[str, Any]: Json,
        enum.Enum: Enum(enum.Enum, native_enum=False, length=16, values_callable=_values),
    }
