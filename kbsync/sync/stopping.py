"""Told to stop, a process ends within seconds, whatever it is in the middle of.

SIGTERM and Ctrl-C raise KeyboardInterrupt in the main thread, which ends a run in good order: waits and reads break
off, and its row says that it was interrupted. Python does so between two steps of its own. One long call into a
library (a large matrix, a database file that another process keeps locked) holds that up, and then a thread ends
the process: what it holds in the store is given back, and all that was committed stays.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from kbsync.errors import KbsyncError
from kbsync.store import daemons, runs, triggers
from kbsync.store.engine import open_store
from kbsync.store.tables import RunStatus
from kbsync.sync.clock import now

log = structlog.get_logger("kbsync")

GRACE_S = 7.0  # to end by itself; with what giving back takes, ten seconds are not reached
_WAIT_S = 1.0  # for another writer, while giving back


@contextmanager
def ending_in_time(url: str, exit_code: int, grace_s: float = GRACE_S) -> Iterator[None]:
    """A process that is told to stop in the block leaves it within `grace_s` seconds, or ends with `exit_code`.

    `url` is the store that its run is in. Does nothing outside the main thread, which is told of no signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _signals() as wait_for_signal:
        over = threading.Event()

        def watch() -> None:
            if wait_for_signal() and not over.wait(grace_s):
                log.warning("did not stop in time; ended where it was", seconds=grace_s)
                give_back(url)
                for stream in (sys.stdout, sys.stderr):
                    with suppress(OSError, ValueError):
                        stream.flush()
                os._exit(exit_code)

        thread = threading.Thread(target=watch, name="deadline", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Lets a thread wait until this process is told to stop, also while the main thread is in a library: False when
    the block ends before that. The interpreter writes a signal's number to the socket as soon as it arrives."""
    near, far = socket.socketpair()
    far.setblocking(False)
    before = signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)

    def wait() -> bool:
        with near:
            while numbers := near.recv(64):
                if {signal.SIGTERM, signal.SIGINT} & set(numbers):
                    return True
        return False

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(before)
        far.close()  # the thread reads that this is the end


def give_back(url: str) -> None:
    """End what this process has under way in the store: its run is interrupted, its daemon has stopped. A store
    that can't be had soon is left as it is; whoever comes next sees that the process is gone."""
    with suppress(KbsyncError), open_store(url, create=False, wait_s=_WAIT_S) as store, store.begin() as tx:
        run = runs.running(tx)
        if run is not None and (run.host, run.pid) == (socket.gethostname(), os.getpid()):
            runs.finish_run(
                tx, run.id, RunStatus.INTERRUPTED, now(), "stopped by the user, in the middle of a step"
            )
            triggers.finish(tx, run.id, now())
        for daemon in daemons.up(tx, now()):
            if (daemon.host, daemon.pid) == (socket.gethostname(), os.getpid()):
                daemons.stop(tx, daemon.id, now())
