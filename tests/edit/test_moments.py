"""Sums of k kᵀ: exact, symmetric, and on the device where there is room."""

from __future__ import annotations

import pytest
import torch

from kbsync.edit import moments
from kbsync.edit.adapters import Adapter
from kbsync.edit.moments import Moments, sums_device, together
from tests.tiny import tiny_model


@pytest.mark.parametrize("block", [1, 7, 16, 63, 64, 1000])
def test_blocks_give_the_whole_product(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the block's size: the mean of k kᵀ, the same in both triangles."""
    monkeypatch.setattr(moments, "_BLOCK", block)
    keys = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    found = Moments(Adapter(tiny_model()), (1,))
    moments._add(found.sums[1], keys[:20])
    moments._add(found.sums[1], keys[20:])
    (matrix,) = found.whole(50).values()
    expected = keys.double().T @ keys.double() / 50
    torch.testing.assert_close(matrix, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(matrix, matrix.T)


def test_many_batches_lose_nothing() -> None:
    """A float32 sum of so many ones would stand still at 2²⁴."""
    found = Moments(Adapter(tiny_model()), (0,))
    found.sums[0] += 2.0**24
    for _ in range(100):
        moments._add(found.sums[0], torch.ones(1, 64))
    (matrix,) = found.whole(1).values()
    assert torch.equal(matrix, torch.full((64, 64), 2.0**24 + 100, dtype=torch.float64))


def test_padding_adds_nothing() -> None:
    """Chunks of unlike length together give what each gives alone."""
    rows = [[1, 2, 3, 4, 5, 6, 7], [8, 9], [10, 11, 12, 13]]
    one, other = (Moments(Adapter(tiny_model()), (0, 2)) for _ in range(2))
    one.add(rows)
    for row in rows:
        other.add([row])
    for layer in (0, 2):
        torch.testing.assert_close(one.whole(13)[layer], other.whole(13)[layer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "need", "free", "expected"),
    [("cpu", 10**12, 0, "cpu"), ("cuda:1", 4, 8, "cuda:1"), ("cuda:1", 5, 8, "cpu")],
)
def test_sums_stay_where_there_is_room(name: str, need: int, free: int, expected: str) -> None:
    """On the device while they take at most half of what is free; else on the CPU."""
    assert sums_device(torch.device(name), need, free) == torch.device(expected)


def test_a_batch_is_counted_in_tokens() -> None:
    """Fewer of longer sequences, and always one."""
    adapter = Adapter(tiny_model())
    assert [together(adapter, longest) for longest in (128, 256, 5000)] == [16, 8, 1]
