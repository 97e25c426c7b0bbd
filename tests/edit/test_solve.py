"""The closed form against the paper's formula, computed naively."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kbsync.edit.solve import closed_form
from kbsync.errors import EditError


def problem(d_in: int, d_out: int, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random R, K and a C of full rank, float64."""
    generator = torch.Generator().manual_seed(seed)
    R = torch.randn(d_out, n, generator=generator, dtype=torch.float64)
    K = torch.randn(d_in, n, generator=generator, dtype=torch.float64)
    X = torch.randn(d_in, 3 * d_in, generator=generator, dtype=torch.float64)
    return R, K, X @ X.T / X.shape[1]


def naive(R: Tensor, K: Tensor, C: Tensor, weight: float) -> np.ndarray:
    """R Kᵀ (λC + KKᵀ)⁻¹ as it is written."""
    r, k, c = R.numpy(), K.numpy(), C.numpy()
    inverse: np.ndarray = r @ k.T @ np.linalg.inv(weight * c + k @ k.T)
    return inverse


@settings(max_examples=80, deadline=None)
@given(
    d_in=st.integers(1, 24),
    d_out=st.integers(1, 12),
    n=st.integers(1, 40),
    weight=st.sampled_from([0.01, 1.0, 1500.0]),
    seed=st.integers(0, 10_000),
)
def test_it_is_the_papers_formula(d_in: int, d_out: int, n: int, weight: float, seed: int) -> None:
    """With fewer keys than dimensions, as many, and more."""
    R, K, C = problem(d_in, d_out, n, seed)
    delta = closed_form(R, K, C, weight)
    assert delta.dtype == torch.float64
    assert delta.shape == (d_out, d_in)
    expected = naive(R, K, C, weight)
    np.testing.assert_allclose(delta.numpy(), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("n", [7, 8, 9])
def test_both_systems_agree_where_they_meet(n: int) -> None:
    """Nothing jumps where the smaller system changes sides: a key of zeros changes nothing."""
    R, K, C = problem(8, 5, n, 3)
    more = closed_form(torch.nn.functional.pad(R, (0, 4)), torch.nn.functional.pad(K, (0, 4)), C, 2.0)
    torch.testing.assert_close(closed_form(R, K, C, 2.0), more, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n", [3, 20])
def test_no_residual_no_update(n: int) -> None:
    """A zero residual leaves the weights exactly alone."""
    R, K, C = problem(8, 5, n, 4)
    assert not closed_form(torch.zeros_like(R), K, C, 1.0).any()


def test_no_keys_no_update() -> None:
    """An empty set of facts has an update of the right shape: zeros."""
    delta = closed_form(torch.zeros(5, 0), torch.zeros(8, 0), torch.eye(8), 1.0)
    assert delta.shape == (5, 8)
    assert delta.dtype == torch.float64
    assert not delta.any()


def test_a_small_weight_reaches_the_residual_and_a_large_one_does_not() -> None:
    """ΔK goes to R as λ goes to 0, and to 0 as λ grows."""
    R, K, C = problem(16, 4, 5, 5)
    torch.testing.assert_close(closed_form(R, K, C, 1e-9) @ K, R, rtol=1e-6, atol=1e-6)
    assert (closed_form(R, K, C, 1e9) @ K).abs().max() < 1e-6


def test_a_constraint_holds_its_keys_output() -> None:
    """A column of R that is zero keeps what its key gives, where the update without it would not."""
    R, K, C = problem(16, 4, 6, 6)
    R[:, 3:] = 0
    free = closed_form(R[:, :3], K[:, :3], C, 1e-6)
    held = closed_form(R, K, C, 1e-6)
    assert (held @ K[:, 3:]).norm() < 1e-3 * (free @ K[:, 3:]).norm()
    torch.testing.assert_close(held @ K[:, :3], R[:, :3], rtol=1e-3, atol=1e-3)


def test_half_precision_inputs_are_solved_in_float64() -> None:
    """The result is that of the rounded inputs, not a rounded result."""
    R, K, C = problem(8, 5, 3, 7)
    half = closed_form(R.bfloat16(), K.bfloat16(), C, 1.0)
    np.testing.assert_allclose(half.numpy(), naive(R.bfloat16().double(), K.bfloat16().double(), C, 1.0), rtol=1e-8)


class TestSingular:
    """A C behind which there is too little text."""

    @pytest.mark.parametrize("rank", [0, 1, 7])
    def test_a_singular_covariance_is_refused_by_name(self, rank: int) -> None:
        """C⁻¹ would be noise; the message says what to do."""
        R, K, _ = problem(8, 5, 3, 8)
        X = problem(8, 5, max(rank, 1), 9)[1] if rank else torch.zeros(8, 1, dtype=torch.float64)
        with pytest.raises(EditError, match=r"^C is not positive definite \(8 × 8\).*covariance\.tokens"):
            closed_form(R, K, X @ X.T, 1.0)

    def test_a_pivot_lost_in_rounding_is_refused(self) -> None:
        """The factorisation itself goes through; only its last pivot tells."""
        R, K, C = problem(8, 5, 3, 10)
        C[-1], C[:, -1] = C[0], C[:, 0]
        C[-1, -1] = C[0, 0] * (1 + 1e-16)
        C += 1e-18 * torch.eye(8, dtype=torch.float64)
        with pytest.raises(EditError, match=r"^C is not positive definite"):
            closed_form(R, K, C, 1.0)

    def test_scales_that_differ_are_not_taken_for_singular(self) -> None:
        """A neuron that hardly ever fires has a tiny variance, and still a direction of its own."""
        R, K, C = problem(8, 5, 3, 11)
        scale = torch.tensor([1e-9, 1, 1, 1, 1, 1, 1, 1e6], dtype=torch.float64)
        C, K = scale[:, None] * C * scale, scale[:, None] * K
        assert closed_form(R, K, C, 1.0).isfinite().all()

    @pytest.mark.parametrize("n", [3, 20])
    def test_numbers_that_are_not_finite_are_refused(self, n: int) -> None:
        """A NaN in C is named as C's."""
        R, K, C = problem(8, 5, n, 12)
        C[2, 2] = float("nan")
        with pytest.raises(EditError, match="is not finite"):
            closed_form(R, K, C, 1.0)

    def test_many_keys_need_no_covariance_of_full_rank(self) -> None:
        """λC + KKᵀ is what has to be positive definite."""
        R, K, _ = problem(8, 5, 20, 13)
        np.testing.assert_allclose(
            closed_form(R, K, torch.zeros(8, 8), 1.0).numpy(), naive(R, K, torch.zeros(8, 8), 1.0), rtol=1e-6
        )
        with pytest.raises(EditError, match=r"^λC \+ KKᵀ is not positive definite"):
            closed_form(R, K[:, :1].expand(8, 20), torch.zeros(8, 8), 1.0)
