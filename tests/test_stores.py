"""The tests' own stores: what their two kinds do alike, what is left out on PostgreSQL, and that nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kbsync.errors import StoreError
from kbsync.store import pauses
from kbsync.store.engine import open_store
from tests import stores as plugin
from tests.store.examples import NOON
from tests.stores import ADDRESS, BACKENDS, Databases, Files, Server, Stores, execute

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = """
import pytest
from kbsync.store.engine import open_store

@pytest.mark.sqlite("it is about a file")
def test_file(): pass

def test_any(stores, tmp_path, request):
    open_store(stores.make(tmp_path / "kbsync.db")).close()
    named = getattr(stores, "server", None)
    (request.config.rootpath / "token").write_text(named.token if named else "none")
"""


def sampled(folder: Path, source: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `source` as a test module by a pytest of its own, with these variables of the environment."""
    (folder / "test_sample.py").write_text(source, encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "KBSYNC_"))}
    line = [sys.executable, "-m", "pytest", "-q", "-p", "tests.stores", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*line, "--rootdir", str(folder), "-c", os.devnull, "-W", "ignore::pytest.PytestUnknownMarkWarning", "."],
        cwd=folder, env={**kept, "PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_usually_all_run_with_files(tmp_path: Path) -> None:
    """A mark leaves nothing out there."""
    done = sampled(tmp_path, SAMPLE)
    assert "2 passed" in done.stdout, done.stdout
    assert (tmp_path / "token").read_text() == "none"


@pytest.mark.postgres
def test_on_a_server_the_marked_are_left_out_and_nothing_stays(tmp_path: Path, server: Server) -> None:
    """The same test has its store on the server, and no database is there when all is over."""
    done = sampled(tmp_path, SAMPLE, KBSYNC_TEST_STORE="postgresql", KBSYNC_TEST_POSTGRES=str(ADDRESS))
    assert "1 passed, 1 deselected" in done.stdout, done.stdout
    token = (tmp_path / "token").read_text()
    assert len(token) == 6
    named = f"SELECT count(*) FROM pg_database WHERE datname LIKE 'kbsync_{token}%'"
    assert execute(server.admin.render_as_string(False), named) == [(0,)]


@pytest.mark.parametrize(
    ("store", "address", "said"),
    [("mysql", None, "neither sqlite nor postgresql"), ("postgresql", None, "KBSYNC_TEST_POSTGRES")],
)
def test_what_cannot_be_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, store: str, address: str | None, said: str
) -> None:
    """A store that there is not, and a server that was not named."""
    monkeypatch.setattr(plugin, "STORE", store)
    monkeypatch.setattr(plugin, "ADDRESS", address)
    with pytest.raises(pytest.UsageError, match=said):
        plugin.pytest_configure()


def test_a_mark_says_why(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without a reason is an error, on both."""
    item = request.node
    item.add_marker(pytest.mark.sqlite)
    with pytest.raises(pytest.UsageError, match="takes the reason"):
        plugin.pytest_collection_modifyitems(request.config, [item])


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> Stores:
    """Stores of each kind."""
    return Files() if request.param == "sqlite" else Databases(request.getfixturevalue("server"))


def paused(url: str) -> bool:
    """Whether the store's one row is there."""
    return execute(url, "SELECT paused_by FROM pauses") == [("tests",)]


def test_both_kinds_do_the_same(kind: Stores, tmp_path: Path) -> None:
    """A store is made, copied with its rows, taken away and brought back, and cleared; its URL stays the same."""
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    url = kind.make(one)
    with open_store(url) as store, store.begin() as tx:
        pauses.pause(tx, "tests", NOON, None, "a move")
    copied = kind.copy(one, other)
    assert (paused(url), paused(copied)) == (True, True)
    execute(copied, "DELETE FROM pauses")
    assert (paused(url), paused(copied)) == (True, False)
    assert kind.copy(one, other) == copied == kind.url(other)
    assert paused(copied)
    assert kind.size(one) > 4096
    with kind.away(one), pytest.raises(StoreError):
        open_store(url, create=False)
    assert paused(url)
    assert kind.clear(one) == url
    with pytest.raises(StoreError, match=kind.blank):
        open_store(url, create=False)
    with pytest.raises(StoreError):
        open_store(kind.missing(tmp_path / "none.db"), create=False)
    assert not (tmp_path / "none.db").exists()
