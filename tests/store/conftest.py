"""A fresh store for each test: a SQLite file, and a database of a PostgreSQL server where one is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.store.engine import Store, open_store
from tests.stores import BACKENDS, Server, files


@pytest.fixture(scope="session")
def sqlite_template() -> Path:
    """A SQLite file with the schema, to copy."""
    return files().template


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    server: Server = request.getfixturevalue("server")
    return server.empty()


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that has its tables and no rows."""
    if request.param == "sqlite":
        return files().make(tmp_path / "kbsync.db")
    server: Server = request.getfixturevalue("server")
    return server.laid_out()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store without rows."""
    with open_store(url, wait_s=5) as one:
        yield one
