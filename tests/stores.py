"""Where the tests' stores are: SQLite files, or databases of a PostgreSQL server.

A pytest plugin, and what the conftests make their stores with. By the environment:

- `KBSYNC_TEST_POSTGRES` is the URL of a server whose user may create databases, e.g.
  `postgresql+psycopg://user@127.0.0.1:5432/postgres`. Tests that need one are skipped without it.
- `KBSYNC_TEST_STORE=postgresql` puts the stores of all shared fixtures there. Every test then says about PostgreSQL
  what it otherwise says about SQLite, but for those with the mark `sqlite`, which are left out: its argument says
  what makes a test one about SQLite's own file.

A store is named by the path that it has as a SQLite file, whichever kind it is, so that a test reads the same for
both: `stores.make(tmp_path / "kbsync.db")` is the URL of a store with its tables and no rows.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from kbsync.store.connect import parse_url
from kbsync.store.engine import open_store
from kbsync.store.schema import upgrade
from kbsync.store.tables import Base

# Read once: some tests take every KBSYNC_… out of their environment.
STORE = os.environ.get("KBSYNC_TEST_STORE") or "sqlite"
ADDRESS = os.environ.get("KBSYNC_TEST_POSTGRES")

BACKENDS = [
    pytest.param("sqlite", id="sqlite", marks=pytest.mark.sqlite("the other half of a test of both")),
    pytest.param("postgres", id="postgres", marks=pytest.mark.postgres),
]


class Stores(Protocol):
    """Stores by the path that they have as SQLite files."""

    name: str
    blank: str  # what is said of one that was not made

    def url(self, place: Path) -> str:
        """A store's URL; there may be nothing behind it yet."""

    def make(self, place: Path) -> str:
        """The URL of a new store with its tables and no rows."""

    def copy(self, source: Path, to: Path) -> str:
        """Put a copy of a store, which nobody has open, in another place; its URL."""

    def clear(self, place: Path) -> str:
        """Leave nothing there; the URL stays good."""

    def size(self, place: Path) -> int:
        """Bytes on the disk."""

    def missing(self, place: Path) -> str:
        """The URL of one that there is not."""

    def away(self, place: Path) -> AbstractContextManager[None]:
        """Nobody can open it for the length of the block."""


class Files:
    """Stores as SQLite files."""

    name = "sqlite"
    blank = "there is no store"

    @functools.cached_property
    def template(self) -> Path:
        """A file with the schema, to copy: laying it out takes longer than most tests."""
        folder = Path(tempfile.mkdtemp(prefix="kbsync-template-"))
        open_store(f"sqlite:///{folder}/kbsync.db").close()
        return folder / "kbsync.db"

    def url(self, place: Path) -> str:
        return f"sqlite:///{place}"

    def make(self, place: Path) -> str:
        return self.copy(self.template, place)

    def copy(self, source: Path, to: Path) -> str:
        self.clear(to)
        shutil.copy(source, to)
        return self.url(to)

    def clear(self, place: Path) -> str:
        for path in parts(place):
            path.unlink(missing_ok=True)
        return self.url(place)

    def size(self, place: Path) -> int:
        return sum(path.stat().st_size for path in parts(place) if path.exists())

    def missing(self, place: Path) -> str:
        return self.url(place)

    @contextmanager
    def away(self, place: Path) -> Iterator[None]:
        moved = place.rename(place.with_name("away.db"))
        try:
            yield
        finally:
            moved.rename(place)

    def close(self) -> None:
        """Remove the template."""
        if "template" in self.__dict__:
            shutil.rmtree(self.template.parent)


def parts(place: Path) -> list[Path]:
    """A SQLite store's files."""
    return [place.with_name(place.name + end) for end in ("", "-wal", "-shm")]


class Server:
    """A PostgreSQL server and what was made on it. Two of its databases are for all tests that ask for no more than
    one: emptying those is quicker than making others."""

    def __init__(self, admin: URL) -> None:
        self.admin = admin.set(drivername="postgresql")
        self.made: dict[str, URL] = {}
        self.token = uuid.uuid4().hex[:6]  # others' tests may be on the same server

    def database(self, purpose: str, template: str = "template0") -> URL:
        """The database for this purpose, made on first use; its name stays the same when it is made again."""
        if purpose not in self.made:
            name = f"kbsync_{self.token}_{sha256(purpose.encode()).hexdigest()[:12]}"
            self.run(self.admin, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
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

    def drop(self, purpose: str) -> None:
        """The database for this purpose goes, whoever is connected to it."""
        if purpose in self.made:
            self.run(self.admin, f'DROP DATABASE IF EXISTS "{self.made.pop(purpose).database}" WITH (FORCE)')

    def close(self) -> None:
        """Drop all."""
        for purpose in list(self.made):
            self.drop(purpose)

    @staticmethod
    def run(url: URL, sql: str) -> None:
        """Run statements, each on its own."""
        with psycopg.connect(url.render_as_string(False), autocommit=True) as connection:
            connection.execute(sql)


class Databases:
    """Stores as databases of a server. One that was not made is empty: a server has no database for asking."""

    name = "postgres"
    blank = "is empty; `kbsync sync` fills it"

    def __init__(self, server: Server) -> None:
        self.server = server

    def url(self, place: Path) -> str:
        return self.server.database(str(place)).render_as_string(False)

    def make(self, place: Path) -> str:
        if "template" not in self.server.made:
            upgrade(self.server.database("template").render_as_string(False))
        return self._as("template", place)

    def copy(self, source: Path, to: Path) -> str:
        return self._as(str(source), to)

    def _as(self, source: str, to: Path) -> str:
        self.server.drop(str(to))
        return self.server.database(str(to), str(self.server.made[source].database)).render_as_string(False)

    def clear(self, place: Path) -> str:
        self.server.drop(str(place))
        return self.url(place)

    def size(self, place: Path) -> int:
        with psycopg.connect(self.url(place)) as connection:
            return int(connection.execute("SELECT pg_database_size(current_database())").fetchone()[0])

    def missing(self, place: Path) -> str:
        del place
        return self.server.admin.set(database="kbsync_that_is_not_there").render_as_string(False)

    @contextmanager
    def away(self, place: Path) -> Iterator[None]:
        name = self.server.made[str(place)].database
        end = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        self.server.run(self.server.admin, end)
        self.server.run(self.server.admin, f'ALTER DATABASE "{name}" RENAME TO "{name}_away"')
        try:
            yield
        finally:
            self.server.run(self.server.admin, f'ALTER DATABASE "{name}_away" RENAME TO "{name}"')

    def remove_under(self, folder: Path) -> None:
        """Remove all whose place is in a folder."""
        for purpose in [one for one in self.server.made if Path(one).is_relative_to(folder)]:
            self.server.drop(purpose)


def execute(url: str, *statements: str, **values: object) -> list[tuple[Any, ...]]:
    """Run statements on a database, whatever its tables are; what the last one finds."""
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            for sql in statements:
                found = connection.execute(text(sql), values)
            return [tuple(row) for row in found] if found.returns_rows else []
    finally:
        engine.dispose()


@functools.cache
def files() -> Files:
    """The SQLite files of this process."""
    return Files()


@functools.cache
def server_of_tests() -> Server:
    """The server of `KBSYNC_TEST_POSTGRES`; the test is skipped where none is given."""
    if not ADDRESS:
        pytest.skip("no PostgreSQL server: set KBSYNC_TEST_POSTGRES to the URL of one")
    return Server(make_url(ADDRESS))


def chosen() -> Stores:
    """The stores of the fixtures that all tests share."""
    return Databases(server_of_tests()) if STORE == "postgresql" else files()


@pytest.fixture(scope="session")
def server() -> Server:
    """The PostgreSQL server; the test is skipped where none is given."""
    return server_of_tests()


@pytest.fixture(scope="session")
def stores() -> Stores:
    """Where this test's stores are."""
    return chosen()


def pytest_configure() -> None:
    """Say at once what can't be."""
    if STORE not in ("sqlite", "postgresql"):
        raise pytest.UsageError(f"KBSYNC_TEST_STORE: {STORE!r} is neither sqlite nor postgresql")
    if STORE == "postgresql" and not ADDRESS:
        raise pytest.UsageError("KBSYNC_TEST_STORE=postgresql needs a server: give its URL in KBSYNC_TEST_POSTGRES")


def pytest_report_header() -> list[str]:
    """Which of the two it is, where it is not the usual one."""
    if STORE == "sqlite":
        return []
    return [f"stores: databases of {make_url(ADDRESS or '').render_as_string()}; tests marked sqlite are left out"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL the tests about SQLite's file are left out. Each of them says why it is one."""
    about_files = []
    for item in items:
        mark = item.get_closest_marker("sqlite")
        if mark is not None:
            if not mark.args:
                raise pytest.UsageError(f"{item.nodeid}: the mark sqlite takes the reason, in words")
            about_files.append(item)
    if STORE == "postgresql" and about_files:
        config.hook.pytest_deselected(items=about_files)
        items[:] = [item for item in items if item not in about_files]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """After a test its databases go. Those of fixtures that others share are not in its folder, and stay."""
    yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if folder is not None and server_of_tests.cache_info().currsize:
        Databases(server_of_tests()).remove_under(folder)


def pytest_sessionfinish() -> None:
    """Nothing is left on the server, or in the folder for temporary files."""
    for made in (files, server_of_tests):
        if made.cache_info().currsize:
            made().close()
