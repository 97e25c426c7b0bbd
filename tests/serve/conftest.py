"""A store with a past, and a real server over it on a port of its own."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from kbsync.serve.server import bind, make_server
from kbsync.serve.view import View, view_of
from kbsync.settings import Settings, load_settings
from kbsync.store import tokens
from kbsync.store.engine import Store, open_store
from kbsync.sync.clock import now
from tests.store.conftest import url as url  # SQLite and PostgreSQL
from tests.store.story import tell
from tests.stores import Stores


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's."""
    for name in [name for name in os.environ if name.startswith("KBSYNC_") and "__" in name]:
        monkeypatch.delenv(name)


@dataclass
class Answered:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Asks one server on loopback. `host` is what the Host header says."""

    port: int
    view: View

    def __call__(
        self,
        path: str,
        method: str = "GET",
        token: str | None = None,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Answered:
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=raw, headers=sent)
            answer = connection.getresponse()
            return Answered(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(view: View) -> Iterator[Client]:
    """A real server in a thread, for the length of the block."""
    listening = bind(view.settings.serve)
    one = make_server(view)
    thread = threading.Thread(target=lambda: one.run(sockets=[listening]), daemon=True)
    thread.start()
    while not one.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield Client(listening.getsockname()[1], view)
    finally:
        one.should_exit = True
        thread.join(10)
        listening.close()
        view.door.close()


def settings_of(url: str, folder: Path, **serve: object) -> Settings:
    """Settings of a server on a free port."""
    return load_settings(
        None,
        {
            "store": {"url": url},
            "checkpoint": {"folder": folder / "checkpoints"},
            "model": {"cache": folder / "cache"},
            "watch": {"relations": ["P6"]},
            "serve": {"port": 0, **serve},
        },
    )


@pytest.fixture(scope="session")
def told_template(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Path:
    """A store with the story, to copy."""
    path = tmp_path_factory.mktemp("told") / "kbsync.db"
    with open_store(stores.make(path)) as store:
        tell(store)
    return path


@pytest.fixture(autouse=True)
def all_levels() -> Iterator[None]:
    """Lines of every level are seen, whatever a command before has set."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def told(told_template: Path, tmp_path: Path, stores: Stores) -> Iterator[Store]:
    """The story's store, open."""
    with open_store(stores.copy(told_template, tmp_path / "kbsync.db")) as store:
        yield store


@pytest.fixture
def settings(told: Store, tmp_path: Path, stores: Stores) -> Settings:
    """The settings of a server over it."""
    return settings_of(stores.url(tmp_path / "kbsync.db"), tmp_path)


@pytest.fixture
def ask(settings: Settings) -> Iterator[Client]:
    """A server over the story, and how to ask it."""
    with serving(view_of(settings)) as client:
        yield client


MakeToken = Callable[..., str]


@pytest.fixture
def token(told: Store) -> MakeToken:
    """Makes a token."""

    def make(name: str = "deploy", may_write: bool = True) -> str:
        with told.begin() as tx:
            return tokens.add(tx, name, may_write, "tests", now())

    return make
