"""Tensors with numbers that are none are named, with how many there are."""

from __future__ import annotations

import pytest
import torch

from kbsync.lm.finite import all_broken, broken


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_nan_and_infinity_are_counted(dtype: torch.dtype) -> None:
    """In every type that weights have."""
    tensor = torch.zeros(2, 3, dtype=dtype)
    assert broken("w", tensor) is None
    tensor[0, 0], tensor[1, 2] = float("nan"), float("-inf")
    assert broken("w", tensor) == "w holds 1 NaN and 1 infinite of 6 numbers"


def test_what_overflows_a_type_is_infinite_in_it() -> None:
    """float16 ends at 65504."""
    assert broken("w", torch.tensor([7e4]).half()) == "w holds 0 NaN and 1 infinite of 1 numbers"


def test_only_the_broken_ones_are_named() -> None:
    """In their names' order; whole numbers are always finite."""
    bad = torch.tensor([float("inf")])
    found = all_broken({"c": bad, "b": torch.ones(1), "a": bad, "n": torch.ones(1, dtype=torch.int64)})
    assert [one.split()[0] for one in found] == ["a", "c"]
