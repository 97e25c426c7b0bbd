"""What a server works with: the settings, the store, and what its own process is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from kbsync.settings import Settings
from kbsync.store.engine import Store, open_store
from kbsync.store.schema import check_version
from kbsync.sync.pulse import Pulse

WAIT_S = 5.0  # seconds that a request waits for another writer

LEADER, STANDBY, SERVER = "leader", "standby", "server"


class Door:
    """The store, opened when it is first asked for: it may come, go and be upgraded while a server runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._store: Store | None = None

    def store(self) -> Store:
        """The open store. Raises StoreError."""
        with self._lock:
            if self._store is None:
                self._store = open_store(self._url, create=False, wait_s=WAIT_S)
            return self._store

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One snapshot of a store that has this program's schema. Raises StoreError, also SchemaMismatch."""
        with self.store().read() as tx:
            check_version(tx.connection(), self.store().place)
            yield tx

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A write transaction on such a store. Raises StoreError, also SchemaMismatch."""
        with self.store().begin() as tx:
            check_version(tx.connection(), self.store().place)
            yield tx

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = None


@dataclass
class View:
    """A server's subject. `leads` is None where there is no daemon in this process; `answers` counts by code."""

    settings: Settings
    door: Door
    leads: Callable[[], bool] | None = None
    pulse: Pulse | None = None
    answers: dict[int, int] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """What this process is to the store."""
        if self.leads is None:
            return SERVER
        return LEADER if self.leads() else STANDBY

    def count(self, code: int) -> None:
        """One more answer. Only the event loop counts."""
        self.answers[code] = self.answers.get(code, 0) + 1


def view_of(settings: Settings, leads: Callable[[], bool] | None = None, pulse: Pulse | None = None) -> View:
    """A view with a door of its own: what it does to the store is not done in the daemon's name."""
    return View(settings, Door(settings.store.url), leads, pulse)
