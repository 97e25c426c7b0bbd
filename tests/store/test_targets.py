"""The cache of solved targets."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest

from kbsync.store import requests, targets
from kbsync.store.engine import Store
from kbsync.store.targets import Target
from tests.store.examples import NOON, edit_request, later, new_run


def target(name: str, *numbers: float) -> Target:
    """A z of these numbers."""
    vector = struct.pack(f"<{len(numbers)}f", *numbers)
    return Target(name, "c", "base", "settings", 8, len(numbers), vector, 0.01, 17, 1.5, 2.5, 0.75)


def test_target_comes_back_bit_for_bit(store: Store) -> None:
    """Every bit of a stored z is there again, in whichever database."""
    one = target("z1", 0.1, -0.0, 3e-45, math.pi, math.inf)
    with store.begin() as tx:
        assert targets.save_targets(tx, new_run(tx), NOON, [one]) == 1
    with store.read() as tx:
        assert targets.load_targets(tx, ["z1", "z2", "z1"]) == {"z1": one}
        assert targets.solved(tx, ["z1", "z2"]) == {"z1"}


def test_first_solve_of_a_target_stays(store: Store) -> None:
    """A z that is solved again does not replace the one that checkpoints were built from."""
    first, second = target("z1", 1.0), target("z1", 2.0)
    with store.begin() as tx:
        run_id = new_run(tx)
        targets.save_targets(tx, run_id, NOON, [first, second])
        assert targets.save_targets(tx, run_id, later(1), [second]) == 0
        assert targets.load_targets(tx, ["z1"]) == {"z1": first}


def test_batch_is_stored_whole_or_not_at_all(store: Store) -> None:
    """Killed after its targets and before its commit, a batch is as if it had never been solved."""
    with store.begin() as tx:
        run_id = new_run(tx)
        ids = requests.save_requests(tx, run_id, NOON, [edit_request()])
        requests.assign_batch(tx, "b", ids)

    def solve(killed: bool) -> None:
        with store.begin() as tx:
            targets.save_solved_batch(tx, run_id, NOON, [target("z1", 1.0)], ids)
            if killed:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        solve(killed=True)
    with store.read() as tx:
        assert targets.solved(tx, ["z1"]) == set()
        assert [batch.name for batch in requests.pending_batches(tx)] == ["b"]
    solve(killed=False)
    with store.read() as tx:
        assert requests.requests_by_id(tx, ids)[0].status == "solved"
        assert requests.pending_batches(tx) == []


def test_target_that_is_none_is_refused() -> None:
    """A vector of the wrong length and numbers that are not finite never reach the store."""
    good = target("z1", 1.0, 2.0)
    with pytest.raises(ValueError, match="are not 3 float32 numbers"):
        replace(good, dim=3)
    with pytest.raises(ValueError, match="not finite"):
        replace(good, loss=math.nan)
