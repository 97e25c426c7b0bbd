"""Rows of our own queries on tables and views, by column name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session


def rows(tx: Session, sql: str, **values: object) -> list[dict[str, Any]]:
    """The rows of one of our own queries, by column name. Times come aware, on SQLite too."""
    return [_row(row) for row in tx.execute(text(sql), values).mappings()]


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): _time(value) if _is_time(str(name)) else value for name, value in row.items()}


def _is_time(column: str) -> bool:
    return column == "at" or column.endswith(("_at", "_from", "_until"))


def _time(value: object) -> object:
    """SQLite keeps times as text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value
