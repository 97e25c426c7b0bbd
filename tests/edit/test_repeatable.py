"""Additions that come to the same bits each time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kbsync.edit.repeatable import add_at, repeatable


def test_both_ways_of_adding_are_the_same_sum() -> None:
    """Also for the gradient; an index that comes several times counts each time."""
    at = torch.tensor([2, 0, 2, 2])
    found = []
    for way in (lambda s, v: add_at(s, at, v), lambda s, v: s.index_put((at,), v, accumulate=True)):
        values = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
        total = way(torch.ones(3), values)
        (gradient,) = torch.autograd.grad((total * torch.tensor([1.0, 2.0, 3.0])).sum(), values)
        found.append((total.tolist(), gradient.tolist()))
    assert found[0] == found[1] == ([3.0, 1.0, 9.0], [3.0, 1.0, 3.0, 3.0])


def test_on_a_cpu_nothing_is_switched() -> None:
    """The kernels stay those that torch takes by itself; on CUDA only plain matrix products are left."""
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
    with repeatable(torch.device("cpu")):
        assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()) == before
    with repeatable(torch.device("cuda")):
        assert torch.backends.cuda.math_sdp_enabled()
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert not torch.backends.cuda.mem_efficient_sdp_enabled()
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()) == before


def test_on_cuda_no_atomic_addition_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sorting one is called there."""
    called: list[Any] = []

    class OnCuda:
        device = SimpleNamespace(type="cuda")

        def index_put(self, at: Any, values: Any, accumulate: bool) -> str:
            called.append((at, values, accumulate))
            return "put"

    assert add_at(OnCuda(), "at", "values") == "put"  # type: ignore[arg-type,comparison-overlap]
    assert called == [(("at",), "values", True)]
