"""The long suite (`make soak`): every failpoint, every failure, and kills at random times, on both stores.

`KBSYNC_SOAK_KILLS` (1000) is the number of kills at random times on each store, `KBSYNC_SOAK_SEED` (1) their seed.
Each test is a piece that is recorded when it is through (`tests/soak.py`), of some minutes at most.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.soak import piece
from tests.sync.harness import FAILURES, Bed
from tests.sync.test_fencing import is_fenced

pytestmark = pytest.mark.timeout(0)

KILLS = int(os.environ.get("KBSYNC_SOAK_KILLS", "1000"))
SEED = int(os.environ.get("KBSYNC_SOAK_SEED", "1"))
SIZE, TERMS = 20, 5  # trials of a piece
SHARE = 6  # pieces that the failpoints are dealt out to


def pieces(trials: int, size: int) -> list[str]:
    """A seed for each piece; those of fewer trials are the first of those of more."""
    return [f"{SEED}.{number}" for number in range(-(-trials // size))]


@pytest.mark.soak("failpoints")
@pytest.mark.parametrize("share", range(SHARE))
def test_killed_at_every_failpoint(bed: Bed, share: int) -> None:
    """SIGKILL at each hit of each failpoint of a sync, then one normal run."""
    with piece("kill -9 at every failpoint", bed.store) as trials:
        for number in range(1 + share, len(bed.trace()) + 1, SHARE):
            with trials.one():
                bed.kill_at(number)


@pytest.mark.soak("kills")
@pytest.mark.parametrize("seed", pieces(KILLS, SIZE))
def test_killed_at_random_times(bed: Bed, seed: str) -> None:
    """SIGKILL at random times of a sync, a few after its end, then one normal run."""
    chance, most = random.Random(seed), bed.seconds()
    with piece("kill -9 at a random time", bed.store, seed=SEED) as trials:
        for _ in range(SIZE):
            with trials.one():
                bed.kill_after(chance.uniform(0, 1.05 * most))


@pytest.mark.soak("stops")
@pytest.mark.parametrize("seed", pieces(max(1, KILLS // 20), TERMS))
def test_told_to_stop_at_random_times(bed: Bed, seed: str) -> None:
    """SIGTERM at random times of `kbsync sync`: it ends by itself, with code 130 or because it was done."""
    chance, most = random.Random(seed), bed.seconds()
    with piece("SIGTERM at a random time", bed.store, seed=SEED) as trials:
        for _ in range(TERMS):
            with trials.one():
                bed.reset()
                child = bed.command("sync")
                bed.until("SELECT id FROM runs WHERE status = 'running' OR id > 2", 30)
                time.sleep(chance.uniform(0, most))
                bed.ends_in_good_order(child, signal.SIGTERM, 10)


@pytest.mark.soak("failures")
@pytest.mark.parametrize("what", FAILURES)
def test_the_nth_failure(bed: Bed, what: str) -> None:
    """Fails at the first, the second, … turn until a run succeeds untouched."""
    number, fired = 1, True
    with piece(f"n-th failure: {what}", bed.store) as trials:
        while fired and number <= 4 * len(bed.trace()):
            try:
                fired = bed.fail_at(FAILURES[what], number)
            except Exception as error:
                trials.failures.append(error)
            trials.count += fired
            number += 1
    assert trials.count > 0


@pytest.mark.soak("pauses")
def test_paused_at_every_stage(bed: Bed) -> None:
    """Stopped at each stage's begin and end beyond the lease; another run takes over; woken, it writes nothing."""
    with piece("SIGSTOP beyond the lease", bed.store) as trials:
        for where in sorted({name for name, _ in bed.trace() if name.startswith("stage.")}):
            with trials.one():
                bed.reset()
                is_fenced(bed, where)
