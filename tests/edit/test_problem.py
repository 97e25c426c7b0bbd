"""The loss of z: the same however its rows are put together, and few rows are put together."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kbsync.edit import problem
from kbsync.edit.problem import Problem
from tests.edit.setups import NO_BOS, ONE, WATCHED, solver
from tests.tiny import FAMILIES, requests, some_requests


def losses(made: Problem, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """NLL, KL, and the gradient of their sum."""
    delta = delta.clone().requires_grad_(True)
    nll, kl = made.losses(delta)
    (gradient,) = torch.autograd.grad((nll + kl).sum(), delta)
    return nll.detach(), kl.detach(), gradient


class TestMerging:
    """Rows of unlike lengths, run apart and as one."""

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("bos", [True, False])
    def test_it_changes_no_loss(self, family: str, bos: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor a gradient, also when requests have left, and where a subject without BOS has nothing before it."""
        words = {} if bos else {"encoder": NO_BOS}
        made = solver(family, WATCHED, others_weight=2.0, **words)
        asked = some_requests(family)
        groups = [[one] for one in asked]
        found = []
        for apart in (0, 10**6):
            monkeypatch.setattr(problem, "_APART", apart)
            one = made._problem(groups)
            found.append((one, len(one.groups)))
        (several, many), (whole, single) = found
        assert many > 1 == single
        delta = torch.randn(
            len(asked), whole.groups[0].suffix.shape[-1], generator=torch.Generator().manual_seed(1)
        )
        left = torch.arange(1, len(asked))
        for gone in (False, True):
            if gone:
                several.keep(left)
                whole.keep(left)
                delta = delta[left]
            for a, b in zip(losses(several, delta), losses(whole, delta), strict=True):
                assert float(a.abs().max()) > 0
                assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)

    def test_few_rows_are_one_group(self) -> None:
        """It costs the same to run one row and ten."""
        assert len(solver(contexts=ONE)._problem([[one] for one in requests()[:4]]).groups) == 1

    def test_what_is_left_is_put_together(self) -> None:
        """Rows that stood apart, because they were many, are one group when most of them have left."""
        made = solver(contexts=ONE)
        rows = made._problem([[one] for one in requests() for _ in range(60)])
        assert len(rows.groups) > 1
        rows.keep(torch.tensor([0, 70, 300]))
        assert len(rows.groups) == 1


@dataclass
class Shaped:
    """What `_merged` looks at."""

    shape: tuple[int, int, int]


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60), st.integers(1, 30)), max_size=9))
def test_merging_only_saves(shapes: list[tuple[int, int, int]]) -> None:
    """No row is lost, nothing costs more than before, and no two groups are left that would better be one."""

    def joined(parts: list[Shaped]) -> Shaped:
        rows, before, behind = zip(*(part.shape for part in parts), strict=True)
        return Shaped((sum(rows), max(before), max(behind)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem._Group, "joined", joined)
        left = problem._merged([Shaped(shape) for shape in shapes])  # type: ignore[misc]
    after = [one.shape for one in left]
    assert sum(rows for rows, _, _ in after) == sum(rows for rows, _, _ in shapes)
    assert sum(problem._cost(*one) for one in after) <= sum(problem._cost(*one) for one in shapes) + 1e-6
    assert all(problem._saved(a, b) <= 0 for i, a in enumerate(after) for b in after[:i])
