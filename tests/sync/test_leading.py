"""Who leads a store: what does not end a daemon, and what does not make another one its successor."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from kbsync.errors import LeaseHeld
from kbsync.store import daemons, leases, runs
from kbsync.store.engine import Store, open_store
from kbsync.store.tables import DaemonRow
from kbsync.sync import leading
from kbsync.sync.clock import now
from kbsync.sync.leading import Leadership
from tests.stores import BACKENDS, files


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that has its tables and no rows."""
    if request.param == "sqlite":
        return files().make(tmp_path / "kbsync.db")
    laid_out: str = request.getfixturevalue("server").laid_out()
    return laid_out


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """The store of the daemon that leads."""
    with open_store(url) as one:
        yield one


def test_another_takes_over_its_run_but_not_the_daemon(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was cut off for minutes loses its lease to a sync of somebody else: the run ends, and the daemon
    goes on, with its beats."""
    monkeypatch.setattr(leading, "_BEAT_S", 0.05)
    stop = threading.Event()
    leader = Leadership(store, stop)
    with store.fenced(leader.take()), leader.beating():
        with store.begin() as tx:
            run = runs.start_run(tx, "schedule", now(), {})
            fence = runs.fence(tx, run)
        with store.fenced(fence):
            with open_store(url) as other, other.begin() as tx:
                leases.take(tx, leases.RUN)
            time.sleep(0.3)
            with pytest.raises(LeaseHeld, match="taken over the run's lease"), store.begin():
                pass
        leader.see()
        assert (leader.lost, stop.is_set()) == (None, False)
        at = now()
        time.sleep(0.3)
        with store.read() as tx:
            (up,) = daemons.up(tx, now())
        assert up.beat_at > at
        with open_store(url) as other, other.begin() as tx:
            leases.take(tx, leases.LEADER)
        assert stop.wait(5)
    assert leader.lost is not None


def test_a_writer_that_takes_long_makes_nobody_leader(store: Store, url: str) -> None:
    """Behind a transaction that lasts longer than the leader's lease, the leader can't beat: whoever wants to take
    over has waited for it too, and gives the leader time."""
    leader = Leadership(store, threading.Event())
    with store.fenced(leader.take()):
        begun = threading.Event()

        def write() -> None:
            with store.begin() as tx:
                begun.set()
                time.sleep(leading._BUSY_S + 0.5)
                old = now() - 2 * daemons.PATIENCE  # as long as it takes
                tx.execute(update(DaemonRow).values(beat_at=old, host="another", pid=1))

        writer = threading.Thread(target=write)
        writer.start()
        begun.wait(5)
        with open_store(url) as other:
            successor = Leadership(other, threading.Event())
            with pytest.raises(LeaseHeld, match="a daemon runs on this store already"):
                successor.take()
            writer.join()
            assert successor.take().epoch == 2, "with nobody else writing, the silent leader is replaced"


def test_its_own_process_id_is_that_of_a_process_before(store: Store) -> None:
    """In a container each process has the same id: one that was killed a moment ago keeps nobody from leading."""
    with store.begin() as tx:
        daemons.start(tx, socket.gethostname(), os.getpid(), leading._BORN - timedelta(seconds=1))
        tx.execute(update(DaemonRow).values(beat_at=now()))
    assert Leadership(store, threading.Event()).take().epoch == 1
    with pytest.raises(LeaseHeld):
        Leadership(store, threading.Event()).take()
