"""A residual taken back through a norm: the nearest output that the norm has, and what is left said honestly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from kbsync.edit.postnorm import into_norm

D, N = 24, 5


def made(kind: type[nn.Module], seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A norm with weights of its own, and values (d, n) of different lengths."""
    torch.manual_seed(seed)
    norm = kind(D)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(0.5 * torch.randn(D))
    return norm.double(), torch.randn(D, N, dtype=torch.float64) * torch.tensor([0.1, 1.0, 2.0, 5.0, 50.0])


def through(norm: nn.Module, values: Tensor) -> Tensor:
    """The norm's outputs, (d, n)."""
    with torch.no_grad():
        out: Tensor = norm(values.T).T
    return out


@pytest.mark.parametrize("kind", [Gemma2RMSNorm, Olmo2RMSNorm])
class TestIntoNorm:
    """Weights that count from zero (Gemma) and from one (OLMo)."""

    def test_a_residual_that_can_be_had_is_had(self, kind: type[nn.Module]) -> None:
        """Between two outputs of the norm nothing is missing, whatever the length of the values."""
        norm, values = made(kind)
        other = torch.randn(D, N, dtype=torch.float64)
        other *= values.norm(dim=0) / other.norm(dim=0)  # of one length, so that the norm's ε is felt alike
        residual = through(norm, other) - through(norm, values)
        change, missing = into_norm(norm, values, residual)
        torch.testing.assert_close(through(norm, values + change), through(norm, other), rtol=1e-5, atol=1e-5)
        assert float(missing.abs().max()) < 1e-5

    @pytest.mark.parametrize("size", [0.01, 1.0, 10.0])
    def test_what_is_missing_is_what_the_output_lacks(self, kind: type[nn.Module], size: float) -> None:
        """f(v) + r = f(v + change) + missing, for residuals of any size."""
        norm, values = made(kind)
        residual = size * torch.randn(D, N, dtype=torch.float64)
        change, missing = into_norm(norm, values, residual)
        wanted = through(norm, values) + residual
        torch.testing.assert_close(through(norm, values + change) + missing, wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close((values + change).norm(dim=0), values.norm(dim=0))

    def test_no_output_is_nearer(self, kind: type[nn.Module]) -> None:
        """Beyond the ellipsoid, every small step along it leads away from what is wanted."""
        norm, values = made(kind)
        residual = 3 * through(norm, values) + torch.randn(D, N, dtype=torch.float64)
        change, missing = into_norm(norm, values, residual)
        wanted = through(norm, values) + residual
        for _ in range(50):
            near = (values + change) * (1 + 0.02 * torch.randn(D, N, dtype=torch.float64))
            near *= values.norm(dim=0) / near.norm(dim=0)
            assert bool(((wanted - through(norm, near)).norm(dim=0) >= missing.norm(dim=0) - 1e-9).all())

    def test_without_a_residual_nothing_changes(self, kind: type[nn.Module]) -> None:
        """A constraint stays one: exactly zero, also beside columns that move."""
        norm, values = made(kind)
        residual = torch.zeros(D, N, dtype=torch.float64)
        residual[:, 1] = 1.0
        change, missing = into_norm(norm, values, residual)
        still = [0, 2, 3, 4]
        assert not change[:, still].any()
        assert not missing[:, still].any()
        assert change[:, 1].any()


def test_a_coordinate_that_the_norm_does_not_pass_on_is_no_trouble() -> None:
    """A weight of zero: what is wanted there is missing, the rest is as near as can be, and all is finite."""
    norm, values = made(Olmo2RMSNorm)
    with torch.no_grad():
        norm.weight[3] = 0.0  # type: ignore[index,operator]
    for size in (0.01, 10.0):
        residual = size * torch.ones(D, N, dtype=torch.float64)
        change, missing = into_norm(norm, values, residual)
        assert bool(change.isfinite().all())
        torch.testing.assert_close(missing[3], residual[3])
