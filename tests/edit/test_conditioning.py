"""How well a solve was posed, against numpy's own condition numbers; and that looking changes no bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kbsync.edit.conditioning import CONDITION, REMAINDER, Conditioning, remainder
from kbsync.edit.solve import solution
from kbsync.errors import NotFinite


def problem(d_in: int, n: int, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Random R (6, n), K (d_in, n), and a C whose eigenvalues are spread over so many orders of magnitude."""
    generator = torch.Generator().manual_seed(7)
    R = torch.randn(6, n, generator=generator, dtype=torch.float64)
    K = torch.randn(d_in, n, generator=generator, dtype=torch.float64)
    Q, _ = torch.linalg.qr(torch.randn(d_in, d_in, generator=generator, dtype=torch.float64))
    return R, K, Q @ torch.diag(torch.logspace(-spread, 0, d_in, dtype=torch.float64)) @ Q.T


def exact(K: Tensor, C: Tensor, weight: float) -> float:
    """The condition number of what is solved, the worse one of two systems where keys are fewer than dimensions."""
    k, c = K.numpy(), C.numpy()
    if k.shape[1] >= k.shape[0]:
        return float(np.linalg.cond(weight * c + k @ k.T))
    small = weight * np.eye(k.shape[1]) + k.T @ np.linalg.solve(c, k)
    return float(max(np.linalg.cond(c), np.linalg.cond(small)))


@pytest.mark.parametrize("n", [4, 60])
@pytest.mark.parametrize("spread", [0.5, 6.0])
def test_the_condition_is_that_of_the_matrix_that_is_solved(n: int, spread: float) -> None:
    """From below, and to a third of it: its order of magnitude."""
    R, K, C = problem(24, n, spread)
    found = solution(R, K, C, 0.5, examine=True).conditioning
    assert found is not None
    assert exact(K, C, 0.5) / 3 <= found.condition <= exact(K, C, 0.5) * (1 + 1e-6)
    assert found.residual < 1e-8
    assert not found.bad


@pytest.mark.parametrize("n", [4, 60])
def test_looking_changes_no_bit(n: int) -> None:
    """Weights are the same with and without."""
    R, K, C = problem(24, n)
    plain, looked = solution(R, K, C, 2.0), solution(R, K, C, 2.0, examine=True)
    assert torch.equal(plain.delta, looked.delta)
    assert plain.directions == looked.directions
    assert plain.conditioning is None


@pytest.mark.parametrize("n", [4, 60])
def test_what_is_left_is_that_of_the_equation(n: int) -> None:
    """An update that is off by a share has that share left, whichever rows are looked at."""
    R, K, C = problem(24, n)
    delta = solution(R, K, C, 1.0).delta
    assert remainder(delta, R, K, C, 1.0) < 1e-10
    assert remainder(delta * 1.01, R, K, C, 1.0) == pytest.approx(0.01, rel=1e-6)


def test_nothing_asked_nothing_left() -> None:
    """Constraints alone: zero, not zero by zero."""
    R, K, C = problem(24, 4)
    assert remainder(R.new_zeros(6, 24), R * 0, K, C, 1.0) == 0


def test_a_nearly_singular_system_is_bad() -> None:
    """Beyond twelve digits of sixteen; before that it is not."""
    for spread, bad in ((10.0, False), (13.0, True)):
        R, K, C = problem(24, 4, spread)
        found = solution(R, K, C, 1.0, examine=True).conditioning
        assert found is not None
        assert found.bad is bad


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_bad(value: float) -> None:
    """NaN compares with nothing, and must not pass for that."""
    assert Conditioning(value, 0.0).bad
    assert Conditioning(1.0, value).bad
    assert not Conditioning(CONDITION, REMAINDER).bad


def test_keys_that_are_not_finite_are_named() -> None:
    """As what they are, not as a matrix that isn't positive definite."""
    R, K, C = problem(24, 60)
    K[0, 0] = float("nan")
    with pytest.raises(NotFinite, match="not finite"):
        solution(R, K, C, 1.0, examine=True)
