"""The store's schema: which version a database has, and bringing it to this program's."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, inspect, text

from kbsync.errors import SchemaMismatch, StoreError
from kbsync.settings import share
from kbsync.store.connect import BUSY_WAIT_S, WRITE, make_folder, parse_url, passing, place
from kbsync.store.leases import revoke_all

VERSION_TABLE = "kbsync_schema"  # our own name: it tells our database from another program's
WRITE_LOCK = 0x6B6273796E63  # "kbsync": PostgreSQL's advisory lock that every writer takes


class SchemaState(enum.StrEnum):
    """What `check` found."""

    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    FOREIGN = "foreign"  # the tables of another program


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, made here: the migrations ship with kbsync, there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(share("migrations")).replace("%", "%%"))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def state_of(connection: Connection) -> SchemaState:
    """How the schema behind `connection` compares with this program's."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    version = context.get_current_revision()
    if version is None:
        others = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
        return SchemaState.FOREIGN if others else SchemaState.EMPTY
    if version == head():
        return SchemaState.CURRENT
    return SchemaState.OLDER if version in _versions() else SchemaState.NEWER


@cache
def _versions() -> frozenset[str]:
    """Every version that this program knows the way from. All migrations are compiled to tell, so only once."""
    script = ScriptDirectory.from_config(alembic_config())
    return frozenset(revision.revision for revision in script.walk_revisions())


@cache
def head() -> str:
    """The version of this program's schema."""
    found = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert found is not None, "there are migrations"
    return found


def check_version(connection: Connection, where: str) -> None:
    """Raise SchemaMismatch when an open store was upgraded, or put back, by another program; costs one query."""
    version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  our name
    if version != head():
        refuse(state_of(connection), where)


def check(url: str) -> SchemaState:
    """The state of the store's schema; changes nothing. A SQLite file that isn't there is EMPTY.

    Raises StoreError when the database can't be read.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not _file_exists(str(parsed.database)):
        return SchemaState.EMPTY
    with passing(parsed) as engine, engine.connect() as connection:
        return state_of(connection)


def _file_exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError as error:
        raise StoreError(f"the store {path} can't be reached: {error.strerror}") from None


def upgrade(url: str, revision: str = "head", wait_s: float = BUSY_WAIT_S) -> SchemaState:
    """Bring the store to `revision`, in one transaction, and tell what state it was in before.

    Writers and other upgrades have the same lock: it is waited for, for `wait_s`.

    Raises SchemaMismatch when the store is newer than this program or another program's, StoreError when
    it can't be used.
    """
    parsed = parse_url(url)
    make_folder(parsed)
    with _writing(parsed, wait_s) as connection:
        state = state_of(connection)
        refuse(state, place(parsed), upgradable=True)
        if state is not SchemaState.CURRENT or revision != "head":
            command.upgrade(alembic_config(connection), revision)
            revoke_all(connection)  # a daemon of the schema before must not write into this one
        return state


def downgrade(url: str, revision: str = "base") -> None:
    """Take the store back to an older schema; what the older one has no place for is lost."""
    parsed = parse_url(url)
    with _writing(parsed) as connection:
        refuse(state_of(connection), place(parsed), upgradable=True)
        command.downgrade(alembic_config(connection), revision)


@contextmanager
def _writing(url: URL, wait_s: float = BUSY_WAIT_S) -> Iterator[Connection]:
    """The only writer's transaction."""
    with passing(url, wait_s) as engine, engine.execution_options(**{WRITE: True}).begin() as connection:
        lock(connection)
        yield connection


def lock(connection: Connection) -> None:
    """Wait to be the only writer until the transaction ends. SQLite's BEGIN IMMEDIATE already is."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})


def refuse(state: SchemaState, where: str, *, upgradable: bool = False) -> None:
    """Raise SchemaMismatch with what to do next, unless the state can be used (or upgraded)."""
    if state is SchemaState.OLDER and not upgradable:
        raise SchemaMismatch(f"{where} has an older schema; run `kbsync db upgrade`")
    if state is SchemaState.NEWER:
        raise SchemaMismatch(f"{where} has a newer schema than this program; upgrade kbsync")
    if state is SchemaState.FOREIGN:
        raise SchemaMismatch(f"{where} holds the tables of another program; give kbsync its own database")
