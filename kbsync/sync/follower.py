"""The daemon's ear: a thread that follows the mutation stream and says when a watched item was touched."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from kbsync.errors import KbsyncError
from kbsync.sync.streaming import drain
from kbsync.sync.workbench import Workbench

log = structlog.get_logger("kbsync")

PAUSE_S = 30.0  # after a stream that could not be read


class Follower:
    """Follows the stream from `start` until `stop`; `on_touch` is called from its thread."""

    def __init__(self, bench: Workbench, on_touch: Callable[[], None], pause_s: float = PAUSE_S) -> None:
        self._bench, self._on_touch, self._pause_s = bench, on_touch, pause_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mutation stream", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread has not ended yet."""
        return self._thread.is_alive()

    def stop(self, wait_s: float = 5.0) -> None:
        """End soon; a silent connection is left to end by itself."""
        self._over.set()
        self._thread.join(wait_s)

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                drain(self._bench, float("inf"), self._wanted, self._sleep, self._on_touch)
            except KbsyncError as error:
                log.warning("the stream can't be followed; changes come by the schedule", error=str(error))
                self._over.wait(self._pause_s)
            except Exception:  # a fault of ours must not end the daemon's ear for good
                log.exception("the stream can't be followed; changes come by the schedule")
                self._over.wait(self._pause_s)

    def _wanted(self) -> bool:
        return not self._over.is_set()

    def _sleep(self, seconds: float) -> None:
        self._over.wait(seconds)
