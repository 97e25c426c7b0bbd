"""The open store: one writer at a time, any number of readers, every failure one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session

from kbsync import failpoints
from kbsync.errors import StoreError
from kbsync.store.connect import (
    BUSY_WAIT_S,
    WRITE,
    database_failure,
    explained,
    make_engine,
    make_folder,
    parse_url,
    place,
    use_wal,
)
from kbsync.store.leases import Fence, check
from kbsync.store.schema import SchemaState, lock, refuse, state_of, upgrade


class Store:
    """An open database whose schema is this program's. Made by `open_store`."""

    def __init__(self, engine: Engine, url: URL) -> None:
        self._url = url
        self._fences: tuple[Fence, ...] = ()
        self._reader = engine
        self._writer = engine.execution_options(**{WRITE: True})
        if engine.dialect.name == "postgresql":
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def place(self) -> str:
        """The store's name in messages, without a password."""
        return place(self._url)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A write transaction: all of the block's rows, or none when it raises.

        Waits for another writer from its first moment on (SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory
        lock), so what the block reads can't change before it writes. Raises StoreError, and LeaseHeld where a
        lease that it must have (see `fenced`) was taken by another process.
        """
        with explained(self._url), Session(self._writer, expire_on_commit=False) as tx:
            with tx.begin():
                lock(tx.connection())
                check(tx, self._fences)
                yield tx
                failpoints.hit("commit.before", self._failure)
            failpoints.hit("commit.after", self._failure)

    @contextmanager
    def fenced(self, fence: Fence) -> Iterator[None]:
        """Every write transaction that begins in the block, on any thread, checks that the lease is still ours."""
        self._fences += (fence,)
        try:
            yield
        finally:
            self._fences = tuple(one for one in self._fences if one is not fence)

    def _failure(self, action: str) -> BaseException:
        return database_failure(action, self._url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read transaction: one snapshot for the whole block; writes in it fail. Raises StoreError."""
        with (
            explained(self._url),
            Session(self._reader, expire_on_commit=False) as tx,
            tx.begin(),
        ):
            yield tx

    def close(self) -> None:
        """Give the connections back. The last one to leave a SQLite file folds its WAL in."""
        self._reader.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_store(url: str, *, create: bool = True, wait_s: float = BUSY_WAIT_S) -> Store:
    """Open the store at `url`, and lay out its tables when it is empty.

    With `create=False` an empty or missing store is an error, and no file is made: for commands that only
    look. `wait_s`: seconds that a writer waits for another one. Raises SchemaMismatch when the schema is
    older or newer than this program's, StoreError when the database can't be used.
    """
    parsed = parse_url(url)
    missing = parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists()
    if missing and not create:
        raise StoreError(f"there is no store at {parsed.database}; `kbsync sync` makes one")
    make_folder(parsed)
    engine = make_engine(parsed, wait_s)
    try:
        with explained(parsed), engine.connect() as connection:
            state = state_of(connection)
        refuse(state, place(parsed))
        if state is SchemaState.EMPTY:
            if not create:
                raise StoreError(f"{place(parsed)} is empty; `kbsync sync` fills it")
            upgrade(url)
        with explained(parsed):
            use_wal(engine)
    except BaseException:
        engine.dispose()
        raise
    return Store(engine, parsed)
