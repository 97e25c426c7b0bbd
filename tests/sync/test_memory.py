"""A device that has no memory for a batch: the batch is halved in the store, and then solved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from kbsync.edit.target import Target, TargetSolver
from kbsync.edit.update import Update
from kbsync.errors import EditError, Stopped
from kbsync.facts import EditRequest
from kbsync.store.tables import RunStatus
from kbsync.sync import solving
from tests.sync.rig import Rig
from tests.sync.world import WINDOW_1

SIX = {"edit": {"batch_size": 6, "steps": 3, "repair_rounds": 0}}


class Card:
    """Stands in for a card whose memory holds so many requests; says what it was asked to solve."""

    def __init__(self, patch: pytest.MonkeyPatch, most: int) -> None:
        self.most = most
        self.asked: list[list[EditRequest]] = []
        plain = TargetSolver.solve

        def solve(solver: TargetSolver, requests: Sequence[EditRequest], steps: int | None = None) -> list[Target]:
            if len(requests) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            self.asked.append(list(requests))
            return plain(solver, requests, steps)

        patch.setattr(TargetSolver, "solve", solve)


def batches_of(rig: Rig) -> dict[str, int]:
    """The sizes of the batches in the store, by name."""
    sql = "SELECT solve_batch, count(*) FROM edit_requests WHERE solve_batch IS NOT NULL GROUP BY 1 ORDER BY 1"
    return {str(name): int(count) for name, count in rig.rows(sql)}


def test_a_batch_is_halved_until_it_fits(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is solved, in the batches that the store names, and the sync ends as ever."""
    rig.world.changes(*WINDOW_1)
    card = Card(monkeypatch, 2)
    report = rig.sync(**SIX)
    assert report.status is RunStatus.PUBLISHED
    sizes = sorted(map(len, card.asked))
    assert sum(sizes) == report.counts["solve"]["solved"] > 2
    assert max(sizes) <= 2
    assert sorted(batches_of(rig).values()) == sizes
    assert all(name.count("-") in (2, 3) for name in batches_of(rig))


def test_a_run_killed_after_the_halving_goes_on_with_the_halves(rig: Rig) -> None:
    """What is free plays no part any more: the next run, which has room for all, solves the halves that the store
    names, and comes to the same bits."""
    rig.world.changes(*WINDOW_1)
    with pytest.MonkeyPatch.context() as patch:
        Card(patch, 3)
        halved = solving._halved

        def stop(*args: Any) -> Any:
            halved(*args)
            raise Stopped("killed")

        patch.setattr(solving, "_halved", stop)
        with pytest.raises(Stopped):
            rig.sync(**SIX)
    halves = sorted(batches_of(rig).values())
    assert len(halves) == 2
    with pytest.MonkeyPatch.context() as patch:
        card = Card(patch, 100)
        assert rig.sync(**SIX).status is RunStatus.PUBLISHED
    assert sorted(map(len, card.asked)) == halves
    with rig.bench(**SIX) as bench:
        for batch in card.asked:
            for target in bench.editor.solver.solve(batch):
                ((vector,),) = rig.rows(f"SELECT vector FROM targets WHERE content_hash = '{target.content_hash}'")
                assert vector == target.z.numpy().tobytes()


def test_one_request_that_is_too_large(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named in one line, with what to do; what is live stays live."""
    Card(monkeypatch, 0)
    with pytest.raises(EditError, match=r"cpu has no memory for z of '.*' alone; .* model\.device_map"):
        synced.sync(edit={"steps": 3})
    assert synced.run_status()[0] == "failed"
    assert synced.published() == synced.link() == "sync-000002"


def test_no_memory_for_the_rebuild(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in one line; the base weights are back in their place."""

    def out(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Update, "write", out)
    with synced.bench(edit={"steps": 3}) as bench:
        before = bench.editor.tensors()
        with pytest.raises(EditError, match=r"cpu has no memory for the rebuild of 6 facts; .* edit\.batch_size"):
            synced.sync(edit={"steps": 3})
        after = bench.editor.tensors()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
