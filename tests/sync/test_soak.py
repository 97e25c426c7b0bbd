"""The long suite (`make soak`): every failpoint, every failure, and kills at random times, on both stores.

`KBSYNC_SOAK_KILLS` (1000) is the number of kills at random times on each store, `KBSYNC_SOAK_SEED` (1) their seed.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.sync.harness import FAILURES, Bed, record
from tests.sync.test_fencing import is_fenced

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

KILLS = int(os.environ.get("KBSYNC_SOAK_KILLS", "1000"))
SEED = int(os.environ.get("KBSYNC_SOAK_SEED", "1"))


def test_killed_at_every_failpoint(bed: Bed) -> None:
    """SIGKILL at each hit of each failpoint of a sync, then one normal run."""
    began = time.monotonic()
    for number in range(1, len(bed.trace()) + 1):
        bed.kill_at(number)
    points = len({name for name, _ in bed.trace()})
    record("kill -9 at every failpoint", bed.store, len(bed.trace()), time.monotonic() - began, points=points)


def test_killed_at_random_times(bed: Bed) -> None:
    """SIGKILL at random times of a sync, a few after its end, then one normal run."""
    began, chance, most, ended = time.monotonic(), random.Random(SEED), bed.seconds(), 0
    for _ in range(KILLS):
        ended += os.WIFEXITED(bed.kill_after(chance.uniform(0, 1.05 * most)))
    record("kill -9 at a random time", bed.store, KILLS, time.monotonic() - began, seed=SEED, after_the_end=ended)


def test_told_to_stop_at_random_times(bed: Bed) -> None:
    """SIGTERM at random times of `kbsync sync`: it ends by itself, with code 130 or because it was done."""
    began, chance, most = time.monotonic(), random.Random(SEED), bed.seconds()
    count = max(1, KILLS // 20)
    for _ in range(count):
        bed.reset()
        child = bed.command("sync")
        bed.until("SELECT id FROM runs WHERE status = 'running' OR id > 2", 30)
        time.sleep(chance.uniform(0, most))
        bed.ends_in_good_order(child, signal.SIGTERM, 10)
    record("SIGTERM at a random time", bed.store, count, time.monotonic() - began, seed=SEED)


@pytest.mark.parametrize("what", FAILURES)
def test_the_nth_failure(bed: Bed, what: str) -> None:
    """Fails at the first, the second, … turn until a run succeeds untouched."""
    began, number = time.monotonic(), 1
    while bed.fail_at(FAILURES[what], number):
        number += 1
    assert number > 1
    record(f"n-th failure: {what}", bed.store, number - 1, time.monotonic() - began)


def test_paused_at_every_stage(bed: Bed) -> None:
    """Stopped at each stage's begin and end beyond the lease; another run takes over; woken, it writes nothing."""
    began = time.monotonic()
    places = sorted({name for name, _ in bed.trace() if name.startswith("stage.")})
    for where in places:
        bed.reset()
        is_fenced(bed, where)
    record("SIGSTOP beyond the lease", bed.store, len(places), time.monotonic() - began)
