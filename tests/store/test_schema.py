"""The schema: what the migrations make, how its age is told, what is refused."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from kbsync.errors import SchemaMismatch, StoreError
from kbsync.store import schema
from kbsync.store.connect import WRITE, make_engine, parse_url
from kbsync.store.engine import Store, open_store
from kbsync.store.schema import VERSION_TABLE, SchemaState, check, downgrade, upgrade
from kbsync.store.tables import Base
from tests.stores import Server


def names(url: str) -> tuple[set[str], set[str]]:
    """The tables and views of a database."""
    engine = make_engine(parse_url(url))
    with engine.connect() as connection:
        found = inspect(connection)
        tables, views = set(found.get_table_names()), set(found.get_view_names())
    engine.dispose()
    return tables - {VERSION_TABLE}, views


def set_version(url: str, version: str) -> None:
    """Pretend that another program wrote the schema."""
    engine = make_engine(parse_url(url)).execution_options(**{WRITE: True})
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :v"), {"v": version})
    engine.dispose()


def test_migrations_make_exactly_the_declared_tables(empty_url: str) -> None:
    """Upgrading an empty database to head leaves nothing for alembic to add, drop or alter."""
    upgrade(empty_url)
    engine = make_engine(parse_url(empty_url))
    with engine.connect() as connection:
        options = {"compare_type": True, "version_table": VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_downgrade_leaves_nothing(empty_url: str) -> None:
    """Going down to base drops every table and view, and the store can be laid out again."""
    upgrade(empty_url)
    assert names(empty_url)[1], "there are views to drop"
    downgrade(empty_url)
    assert names(empty_url) == (set(), set())
    assert check(empty_url) is SchemaState.EMPTY
    upgrade(empty_url)
    assert names(empty_url)[0] == set(Base.metadata.tables)


def test_upgrade_tells_what_it_found(empty_url: str) -> None:
    """The first upgrade finds an empty database, the second a current one and changes nothing."""
    assert upgrade(empty_url) is SchemaState.EMPTY
    assert upgrade(empty_url) is SchemaState.CURRENT
    assert check(empty_url) is SchemaState.CURRENT


def test_upgrade_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is one transaction: an error after its last table takes all tables with it."""

    def fail_after(*args: object) -> None:
        real(*args)
        raise RuntimeError("power cut")

    real = schema.command.upgrade
    monkeypatch.setattr(schema.command, "upgrade", fail_after)
    with pytest.raises(RuntimeError):
        upgrade(empty_url)
    assert names(empty_url) == (set(), set())


def test_newer_store_is_refused(empty_url: str) -> None:
    """A schema that this program does not know is neither opened nor upgraded."""
    upgrade(empty_url)
    set_version(empty_url, "9999")
    assert check(empty_url) is SchemaState.NEWER
    with pytest.raises(SchemaMismatch, match="newer schema than this program"):
        open_store(empty_url)
    with pytest.raises(SchemaMismatch, match="upgrade kbsync"):
        upgrade(empty_url)


def test_older_store_is_refused_with_the_way_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store at an earlier revision than the head names the command that upgrades it."""
    monkeypatch.setattr(schema, "head", lambda: "a later one")
    assert check(url) is SchemaState.OLDER
    with pytest.raises(SchemaMismatch, match="kbsync db upgrade"):
        open_store(url)


def test_another_programs_database_is_left_alone(empty_url: str) -> None:
    """A database with tables but no version of ours is refused by open and by upgrade."""
    engine = make_engine(parse_url(empty_url)).execution_options(**{WRITE: True})
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE bookmarks (id INTEGER)"))
    engine.dispose()
    for attempt in (open_store, upgrade):
        with pytest.raises(SchemaMismatch, match="another program"):
            attempt(empty_url)
    assert names(empty_url) == ({"bookmarks"}, set())


def test_check_makes_no_file(tmp_path: Path) -> None:
    """Asking for the state of a SQLite file that isn't there does not create it."""
    assert check(f"sqlite:///{tmp_path}/none.db") is SchemaState.EMPTY
    assert list(tmp_path.iterdir()) == []


def test_check_leaves_a_foreign_file_as_it_is(tmp_path: Path) -> None:
    """Looking at another program's SQLite file does not switch its journal mode or write to it."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaMismatch):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.postgres
def test_two_processes_may_upgrade_at_once(server: Server) -> None:
    """Two upgrades of one empty database at the same time both succeed: the second waits for the first."""
    url = server.empty()
    with ThreadPoolExecutor(2) as pool:
        found = sorted(pool.map(upgrade, [url, url]))
    assert found == [SchemaState.CURRENT, SchemaState.EMPTY]


def test_an_upgrade_waits_for_its_turn(empty_url: str, tmp_path: Path) -> None:
    """While another process has the lock (it upgrades, or writes), an upgrade waits; when that takes too long, it
    says so and has changed nothing."""
    upgrade(empty_url)
    downgrade(empty_url, "0005")
    engine = make_engine(parse_url(empty_url)).execution_options(**{WRITE: True})
    with engine.begin() as other, ThreadPoolExecutor(1) as pool:
        schema.lock(other)
        with pytest.raises(StoreError, match="locked by another writer"):
            upgrade(empty_url, wait_s=0.2)
        assert check(empty_url) is SchemaState.OLDER
        waiting = pool.submit(upgrade, empty_url)
        other.commit()
        assert waiting.result(20) is SchemaState.OLDER
    engine.dispose()
    assert check(empty_url) is SchemaState.CURRENT


def test_upgrade_of_an_unreachable_folder_is_one_line(tmp_path: Path) -> None:
    """A folder that can't be made is named, without a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be made") as caught:
        upgrade(f"sqlite:///{tmp_path}/file/sub/kbsync.db")
    assert "\n" not in str(caught.value)


def test_store_knows_its_place(store: Store) -> None:
    """A store names itself for messages."""
    assert store.place.startswith("the store ")
