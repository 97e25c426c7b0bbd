"""Long lists of values for SQL's IN, cut to what one statement may bind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import BindParameter, bindparam

T = TypeVar("T")

CHUNK = 500  # far below SQLite's 32,766 and PostgreSQL's 65,535 bound values of one statement


# What a chunk is bound to in a query that is made once: an IN over the values themselves is compiled each time.
VALUES: BindParameter[Any] = bindparam("values", expanding=True)


def chunked(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """`values` in their order, in lists of at most `size`."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk
