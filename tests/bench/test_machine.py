"""The figures that are read from the system are of the process that they are about."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from kbsync.bench.machine import peak_mb, processor_s

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from Linux's /proc")


def test_the_highest_memory_is_of_this_process_alone() -> None:
    """A small child of a process with much memory has little, and what it takes shows."""
    ballast = bytearray(b"1") * 300_000_000
    code = (
        "from kbsync.bench.machine import peak_mb; before = peak_mb(); more = bytearray(b'1') * 50_000_000; "
        "print(before, peak_mb())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert len(ballast) / 1e6 > before + 100
    assert after > before + 40
    assert peak_mb() > 280


def test_processor_seconds_are_those_of_the_other_process() -> None:
    """They grow while it works; a process that is not there has none."""
    assert processor_s(None) == 0
    began, cpu = processor_s(os.getpid()), time.process_time()
    while time.process_time() - cpu < 0.2:
        pass
    assert 0.1 <= processor_s(os.getpid()) - began < 5
