"""A fresh store for each test: a SQLite file, and a database of a PostgreSQL server where one is given.

`KBSYNC_TEST_POSTGRES` is the URL of a server whose user may create databases, e.g.
`postgresql+psycopg://user@127.0.0.1:5432/postgres`.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, make_url

from kbsync.store.engine import Store, open_store
from kbsync.store.schema import upgrade
from kbsync.store.tables import Base

BACKENDS = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgres", id="postgres", marks=pytest.mark.postgres),
]


class Server:
    """A PostgreSQL server with two databases for all tests: making one for each would take minutes."""

    def __init__(self, admin: URL) -> None:
        self.admin = admin.set(drivername="postgresql")
        self.made: dict[str, URL] = {}

    def database(self, purpose: str) -> URL:
        """The database for this purpose, made on first use."""
        if purpose not in self.made:
            name = f"kbsync_{purpose}_{uuid.uuid4().hex[:8]}"
            self.run(self.admin, f'CREATE DATABASE "{name}" TEMPLATE template0')
            self.made[purpose] = self.admin.set(database=name)
        return self.made[purpose]

    def empty(self) -> str:
        """The URL of a database without a table."""
        url = self.database("empty")
        self.run(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return url.render_as_string(False)

    def laid_out(self) -> str:
        """The URL of a database with all tables and no row."""
        fresh = "store" not in self.made
        url = self.database("store")
        if fresh:
            upgrade(url.render_as_string(False))
        else:
            tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
            self.run(url, f"TRUNCATE {tables} RESTART IDENTITY")
        return url.render_as_string(False)

    def drop_all(self) -> None:
        for url in self.made.values():
            self.run(self.admin, f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)')

    @staticmethod
    def run(url: URL, sql: str) -> None:
        """Run statements, each on its own."""
        with psycopg.connect(url.render_as_string(False), autocommit=True) as connection:
            connection.execute(sql)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The PostgreSQL server of `KBSYNC_TEST_POSTGRES`; the test is skipped where none is given."""
    address = os.environ.get("KBSYNC_TEST_POSTGRES")
    if not address:
        pytest.skip("no PostgreSQL server: set KBSYNC_TEST_POSTGRES to the URL of one")
    one = Server(make_url(address))
    yield one
    one.drop_all()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, to copy: laying it out takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "kbsync.db"
    open_store(f"sqlite:///{path}").close()
    return path


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
        path = tmp_path / "kbsync.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    server: Server = request.getfixturevalue("server")
    return server.laid_out()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store without rows."""
    with open_store(url, wait_s=5) as one:
        yield one
