"""What is gone for a while: the database, the endpoint, a day of the clock. Nothing is lost, one run catches up."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import make_url

from kbsync.errors import EndpointDown, StoreError
from kbsync.store import triggers
from kbsync.store.engine import open_store
from kbsync.store.tables import RunStatus
from kbsync.sync import clock
from tests.sync.content import Content
from tests.sync.harness import Bed, wait
from tests.sync.rig import Rig
from tests.sync.world import WINDOW_2


class Line:
    """A line to a server, which can be cut: connections break, new ones are refused, until it is mended."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Listen again, at the same port."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        assert self._listener is not None
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._server)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def over_a_line(bed: Bed) -> Iterator[tuple[Bed, Line]]:
    """The bed with its database at the end of a line that can be cut."""
    url = make_url(bed.rig.settings().store.url)
    line = Line(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=line.port).render_as_string(False)
    try:
        yield replace(bed, rig=replace(bed.rig, url=through)), line
    finally:
        line.cut()


@pytest.mark.postgres
def test_the_database_goes_in_the_middle_of_a_run(postgres_bed: Bed) -> None:
    """The run ends with one line and the store's code; when the database is back, the next one ends it."""
    postgres_bed.enter()
    with over_a_line(postgres_bed) as (bed, line):
        child = bed.command("sync", rules="stage.solve.begin=pause:2")
        postgres_bed.until("SELECT id FROM runs WHERE status = 'running' AND stage = 'solve'")
        line.cut()
        assert os.waitstatus_to_exitcode(wait(child)) == StoreError.exit_code
        line.mend()
        bed.heal("the database was gone")


@pytest.mark.postgres
def test_a_daemon_outlives_its_database(postgres_bed: Bed) -> None:
    """Gone for a while and back, the same daemon answers the next trigger."""
    postgres_bed.enter()
    postgres_bed.rig.sync()
    with over_a_line(postgres_bed) as (bed, line):
        daemon = bed.command("run")
        try:
            postgres_bed.until(f"SELECT id FROM daemons WHERE pid = {daemon}")
            line.cut()
            time.sleep(1)
            line.mend()
            with open_store(postgres_bed.rig.settings().store.url) as store, store.begin() as tx:
                triggers.request(tx, "tests", clock.now())
            postgres_bed.until("SELECT id FROM triggers WHERE done_at IS NOT NULL", 30)
            assert postgres_bed.rig.rows("SELECT pid FROM runs ORDER BY id DESC LIMIT 1") == [(daemon,)]
            os.kill(daemon, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(wait(daemon, 15)) == 0
        finally:
            with suppress(ProcessLookupError):
                os.kill(daemon, signal.SIGKILL)


def test_the_endpoint_is_gone_for_a_day(synced: Rig, undisturbed: Content) -> None:
    """Every run of that day fails by name after its retries; the first one after it catches up with everything."""
    for change in WINDOW_2:
        synced.world.changes(change)
        with pytest.raises(EndpointDown):
            synced.sync(source={"endpoint": "http://127.0.0.1:9/sparql", "attempts": 1})
    assert synced.published() == "sync-000002"
    report = synced.sync()
    assert report.status is RunStatus.PUBLISHED
    ((weights,),) = synced.rows("SELECT weights_hash FROM checkpoints ORDER BY id DESC LIMIT 1")
    assert weights == undisturbed.weights
    assert synced.sync().status is RunStatus.UNCHANGED


def test_the_clock_steps_back(synced: Rig, undisturbed: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day back between two runs, and within one: the same rows and the same weights."""
    from tests.sync.content import read_content

    synced.world.changes(*WINDOW_2)
    real, calls = clock.now, 0

    def earlier() -> datetime:
        nonlocal calls
        calls += 1
        return real() - timedelta(days=1 if calls < 20 else 2)

    for module in [module for name, module in sys.modules.items() if name.startswith("kbsync.")]:
        if getattr(module, "now", None) is real:
            monkeypatch.setattr(module, "now", earlier)
    assert synced.sync().status is RunStatus.PUBLISHED
    assert calls > 20
    found = read_content(synced)
    for name, rows in undisturbed.rows.items():
        assert found.rows[name] == rows, name
    assert found.targets == undisturbed.targets
    assert synced.sync().status is RunStatus.UNCHANGED
    assert synced.link() == synced.published()
