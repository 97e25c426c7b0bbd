"""The minimiser: every row by itself, down, within its limit, and not put off by what is not a number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kbsync.edit.descent import Descent

Loss = Callable[[Tensor], Tensor]


def minimise(loss: Loss, scale: Tensor, limit: Tensor, dim: int, evaluations: int) -> tuple[Tensor, Tensor]:
    """The best points, and the value at each evaluation's best, (evaluations, B)."""
    descent = Descent(scale, limit, dim)
    best = torch.full_like(scale, torch.inf)
    values = []
    for _ in range(evaluations):
        x = descent.point.detach().requires_grad_(True)
        value = loss(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        moved = descent.tell(value.detach(), gradient)
        best = torch.where(moved, value.detach(), best)
        values.append(best)
    return descent.best, torch.stack(values)


def bowls(rows: int, dim: int, seed: int) -> tuple[Loss, Tensor]:
    """Quadratic losses of condition 100, and where each is least."""
    generator = torch.Generator().manual_seed(seed)
    bottom = torch.randn(rows, dim, generator=generator)
    widths = torch.logspace(0, 2, dim).expand(rows, dim)
    return lambda x: (widths * (x - bottom) ** 2).sum(-1), bottom


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 20))
def test_it_finds_the_bottom_of_a_bowl(seed: int, rows: int, dim: int) -> None:
    """From zero, in far fewer evaluations than a fixed step would need, never going up."""
    loss, bottom = bowls(rows, dim, seed)
    scale = bottom.norm(dim=-1)
    best, values = minimise(loss, scale, 10 * scale, dim, 80)
    assert bool((values[1:] <= values[:-1]).all())
    assert bool((values[-1] < 1e-2 * values[0]).all())
    assert bool((loss(best) == values[-1]).all())


def test_a_curved_valley() -> None:
    """Rosenbrock's function, on which steepest descent crawls."""

    def valley(x: Tensor) -> Tensor:
        return (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2

    best, values = minimise(valley, torch.tensor([1.0]), torch.tensor([10.0]), 2, 100)
    assert float(values[-1]) < 1e-4
    torch.testing.assert_close(best[0], torch.ones(2), rtol=0.03, atol=0.03)


@given(st.integers(0, 1000), st.floats(0.1, 0.9))
def test_the_limit_holds_at_every_point(seed: int, share: float) -> None:
    """Where the bottom lies outside, the row ends at the limit."""
    loss, bottom = bowls(3, 6, seed)
    limit = share * bottom.norm(dim=-1)
    descent = Descent(limit, limit, 6)
    for _ in range(30):
        x = descent.point.detach().requires_grad_(True)
        value = loss(x)
        descent.tell(value.detach(), torch.autograd.grad(value.sum(), x)[0])
        assert bool((descent.point.norm(dim=-1) <= limit * (1 + 1e-5)).all())
    assert bool((descent.best.norm(dim=-1) > 0.9 * limit).all())


def test_room_is_given_little_by_little() -> None:
    """A row begins with half of what its limit allows, and has a twentieth more after each evaluation at its end;
    one that needs no more gets none."""
    near, far = torch.tensor([[0.4, 0.0]]), torch.tensor([[0.0, 9.0]])
    bottom = torch.cat([near, far])
    limit = torch.ones(2)
    descent = Descent(limit, limit, 2)
    lengths = []
    for _ in range(25):
        x = descent.point.detach().requires_grad_(True)
        value = ((x - bottom) ** 2).sum(-1)
        descent.tell(value.detach(), torch.autograd.grad(value.sum(), x)[0])
        lengths.append(descent.best.norm(dim=-1))
    near_found, far_found = torch.stack(lengths).T
    assert float(far_found.max()) <= 1 + 1e-5
    assert float(near_found.max()) <= 0.5 + 1e-5
    grown = far_found[far_found > 0.49]
    torch.testing.assert_close(grown[:3], torch.tensor([0.5, 0.525, 0.55125]), rtol=1e-3, atol=1e-3)
    assert bool((grown[1:] <= 1.05 * grown[:-1] + 1e-5).all())
    torch.testing.assert_close(grown[-1], torch.tensor(1.0))
    torch.testing.assert_close(descent.best[0], near[0], rtol=1e-2, atol=1e-2)


def test_rows_do_not_hear_of_one_another() -> None:
    """Alone, together, or after others have left: the same way down."""
    loss, bottom = bowls(4, 5, 3)
    scale = bottom.norm(dim=-1)
    together, _ = minimise(loss, scale, 10 * scale, 5, 12)
    for i in range(4):

        def own(x: Tensor, i: int = i) -> Tensor:
            return loss(x.expand(4, -1))[i : i + 1]

        alone, _ = minimise(own, scale[i : i + 1], 10 * scale[i : i + 1], 5, 12)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


def test_rows_that_stay_go_on_as_before() -> None:
    """Dropping a row changes nothing for the others."""
    loss, bottom = bowls(3, 5, 4)
    scale = bottom.norm(dim=-1)
    whole, _ = minimise(loss, scale, 10 * scale, 5, 15)
    descent = Descent(scale, 10 * scale, 5)
    rows = torch.arange(3)
    for number in range(15):
        if number == 6:
            rows = torch.tensor([0, 2])
            descent.keep(rows)
        at = torch.zeros(3, 5)
        at[rows] = descent.point
        at.requires_grad_(True)
        value = loss(at)
        (gradient,) = torch.autograd.grad(value.sum(), at)
        descent.tell(value.detach()[rows], gradient[rows])
    torch.testing.assert_close(descent.best, whole[rows], rtol=1e-4, atol=1e-4)


def test_what_is_not_a_number_is_stepped_back_from() -> None:
    """A wall of NaN beyond x = 1: the row stays on this side and comes as near as it can."""

    def wall(x: Tensor) -> Tensor:
        value = (x - 2).square().sum(-1)
        return torch.where(x[:, 0] > 1, torch.nan, value)

    best, values = minimise(wall, torch.tensor([10.0]), torch.tensor([100.0]), 1, 40)
    assert 0.8 < float(best[0, 0]) <= 1
    assert bool(values.isfinite().all())


def test_a_loss_that_is_broken_from_the_start_stays_so() -> None:
    """It neither raises nor turns into a number."""
    _, values = minimise(lambda x: x.sum(-1) * torch.nan, torch.tensor([1.0]), torch.tensor([1.0]), 3, 4)
    assert bool(values.isnan().all())


@given(st.integers(0, 1000), st.floats(1e-3, 0.05))
def test_hardly_any_curvature_is_not_divided_by(seed: int, curvature: float) -> None:
    """Where a gradient has turned nearly at right angles to the step, its rounding is not blown up."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(1, 32, generator=generator)
    across, noise = torch.randn(2, 1, 32, generator=generator)
    points = []
    for error in (0.0, 1e-7):
        descent = Descent(torch.ones(1), 10 * torch.ones(1), 32)
        descent.tell(torch.ones(1), first)
        step = descent.point / descent.point.norm()
        turned = across - (across * step).sum() * step
        change = 1e-3 * (turned / turned.norm() + curvature * step)
        descent.tell(torch.zeros(1), first + change + error * noise)
        points.append(descent.point)
    assert float((points[0] - points[1]).norm() / points[0].norm()) < 1e-4
