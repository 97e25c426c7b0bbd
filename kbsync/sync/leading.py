"""Who leads: one daemon at a time holds a store's leader's lease, beats, and finds out when another takes over."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

import structlog

from kbsync.errors import LeaseHeld, StoreError
from kbsync.store import daemons, leases, runs
from kbsync.store.engine import Store
from kbsync.store.leases import Fence
from kbsync.sync.clock import now

log = structlog.get_logger("kbsync")

_BORN = now()  # whoever had this process's id on this host before then is gone: in a container all have the same
_BEAT_S = 10.0
_AGAIN_S = 1.0  # until a beat that the store did not take is tried again
_BUSY_S = 1.0  # who waits for so long to write was kept waiting by a writer that keeps the leader from beating too
_JOIN_S = 3.0  # a beat that hangs in a store that is gone keeps nobody from ending


class Leadership:
    """One daemon's part in who leads. `stop` is set when another daemon has taken over; `lost` says so then."""

    def __init__(self, store: Store, stop: threading.Event) -> None:
        self._store, self._stop = store, stop
        self._daemon_id = 0
        self._fence: Fence | None = None
        self._next_run: datetime | None = None
        self._beat_now = threading.Event()
        self.lost: LeaseHeld | None = None

    def take(self) -> Fence:
        """Take the leader's lease. Raises LeaseHeld while another daemon is up. What the one before has left
        running is over: its writes are refused from now on."""
        asked = time.monotonic()
        with self._store.begin() as tx:
            busy = time.monotonic() - asked > _BUSY_S
            patience = timedelta.max if busy else daemons.PATIENCE
            others = [d for d in daemons.up(tx, now(), patience) if _alive(d)]
            if others:
                raise LeaseHeld(
                    f"a daemon runs on this store already (pid {others[0].pid} on {others[0].host}); stop it "
                    "first, or let this one stand by: `kbsync run --standby`"
                )
            gone = daemons.displace(tx, now())
            runs.interrupt_stale_runs(tx, now(), gone=[(one.host, one.pid) for one in gone])
            self._fence = fence = leases.take(tx, leases.LEADER)
            self._daemon_id = daemons.start(tx, socket.gethostname(), os.getpid(), now())
        log.info("daemon started", daemon=self._daemon_id, pid=os.getpid(), epoch=fence.epoch)
        return fence

    def stand_by(self, poll_s: float, on_wait: Callable[[], None]) -> Fence | None:
        """Become the leader when the leader is gone; None when told to stop before that. `on_wait` is called
        before each wait."""
        told = False
        while not self._stop.is_set():
            pause_s = poll_s
            try:
                return self.take()
            except LeaseHeld as error:
                if not told:
                    log.info("standing by", reason=str(error))
                told = True
            except StoreError as error:  # the leader can't beat now either: it is given time to before it is judged
                log.warning("standing by; the store can't be reached", error=str(error))
                pause_s = 2 * _BEAT_S
            on_wait()
            self._stop.wait(pause_s)
        return None

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Tell the store every few seconds that this daemon is up and when it runs next, and at the end that it
        has stopped."""
        thread = threading.Thread(target=self._beat, name="daemon's heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._beat_now.set()
            thread.join(timeout=_JOIN_S)
            with suppress(StoreError, LeaseHeld), self._store.begin() as tx:
                daemons.stop(tx, self._daemon_id, now())

    def runs_next(self, at: datetime | None) -> None:
        """A run starts by itself at this time; the next beat tells, at once where it is news."""
        if at != self._next_run:
            self._next_run = at
            self._beat_now.set()

    def see(self) -> None:
        """End this daemon when another one has taken over. That its run's lease was taken is no matter of its own:
        the run ends, and the daemon goes on."""
        try:
            with suppress(StoreError), self._store.read() as tx:
                leases.check(tx, [self._fence] if self._fence is not None else [])
        except LeaseHeld as error:
            self._give_up(error)

    def _beat(self) -> None:
        while True:
            self._beat_now.clear()
            pause_s = _BEAT_S
            try:
                with self._store.begin() as tx:
                    daemons.beat(tx, self._daemon_id, now(), self._next_run)
            except LeaseHeld:
                self.see()
            except StoreError:  # a writer that takes long, or a server that is gone
                pause_s = _AGAIN_S
            self._beat_now.wait(pause_s)
            if self._stop.is_set():
                return

    def _give_up(self, error: LeaseHeld) -> None:
        if self.lost is None:
            log.error("another daemon has taken over", error=str(error))
        self.lost = error
        self._stop.set()


def _alive(daemon: daemons.Daemon) -> bool:
    """Another host's daemon is believed; one of this host must have a process, and not have had ours before us."""
    if daemon.host != socket.gethostname():
        return True
    if daemon.pid == os.getpid():
        return daemon.started_at >= _BORN
    return runs.process_alive(daemon.pid)
