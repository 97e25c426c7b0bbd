"""The outline of a spectrum against all its eigenvalues."""

from __future__ import annotations

import pytest
import torch

from kbsync.edit.spectrum import spectrum


def with_eigenvalues(values: torch.Tensor) -> torch.Tensor:
    """A symmetric matrix that has these."""
    d = len(values)
    Q, _ = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    return Q @ torch.diag(values.double()) @ Q.T


def test_equal_directions_count_in_full() -> None:
    """The identity: as many directions as there are, all alike."""
    found = spectrum(3 * torch.eye(20, dtype=torch.float64))
    assert found.trace == pytest.approx(60)
    assert found.effective_rank == pytest.approx(20)
    assert found.condition == pytest.approx(1)


@pytest.mark.parametrize("spread", [10.0, 1e4, 1e8])
def test_ends_and_rank_are_the_eigenvalues(spread: float) -> None:
    """Trace and effective rank exactly, the condition from below and to a tenth."""
    values = torch.logspace(0, torch.tensor(spread).log10().item(), 40, dtype=torch.float64)
    found = spectrum(with_eigenvalues(values))
    assert found.trace == pytest.approx(float(values.sum()))
    assert found.effective_rank == pytest.approx(float(values.sum() ** 2 / values.square().sum()))
    assert found.condition is not None
    assert 0.9 * spread <= found.condition <= spread * (1 + 1e-6)


def test_one_strong_direction_is_one() -> None:
    """However many weak ones there are."""
    values = torch.full((50,), 1e-6)
    values[0] = 1.0
    assert spectrum(with_eigenvalues(values)).effective_rank == pytest.approx(1, abs=1e-3)


def test_too_few_tokens_have_no_condition() -> None:
    """C of three keys in ten dimensions is not positive definite."""
    keys = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    found = spectrum(keys.T @ keys)
    assert found.condition is None or found.condition > 1e12
    assert spectrum(torch.diag(torch.tensor([1.0, 0.0]))).condition is None
    assert spectrum(torch.zeros(2, 2)).effective_rank == 0
