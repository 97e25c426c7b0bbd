"""A clock to set, in place of the one that kbsync reads."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

import kbsync.sync
from kbsync.sync import clock


class Clock:
    """Goes on from where it was set last, as fast as time does."""

    def __init__(self, at: datetime) -> None:
        self.set(at)

    def set(self, at: datetime) -> None:
        """It is this time now."""
        self._at, self._since = at, time.monotonic()

    def __call__(self) -> datetime:
        """The time."""
        return self._at + timedelta(seconds=time.monotonic() - self._since)


def install(patch: pytest.MonkeyPatch, now: Callable[[], datetime]) -> None:
    """Let every module that reads the clock read this one."""
    for found in pkgutil.iter_modules(kbsync.sync.__path__, "kbsync.sync."):
        importlib.import_module(found.name)  # now, so that none is imported later and keeps what it finds then
    real = clock.now
    for module in [module for name, module in sys.modules.items() if name.startswith("kbsync.")]:
        if getattr(module, "now", None) is real:
            patch.setattr(module, "now", now)
