"""Which facts collide, and how they are put together for repair."""

from __future__ import annotations

import pytest
import torch

from kbsync.edit.collide import COLLIDE, TOGETHER, Overlap, groups_of
from kbsync.errors import EditError
from kbsync.facts import EditRequest
from tests.tiny import request


def live_of(*subjects: str) -> list[EditRequest]:
    """One request for each subject named, each in words of its own."""
    return [
        request(subject, f"object{i}", None, f"Prompt {i} {{}}", number=100 + i, question=f"Why {i} {{}}?")
        for i, subject in enumerate(subjects)
    ]


class TestOverlap:
    """Against its formula, by plain inversion."""

    @pytest.fixture
    def problem(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        keys = torch.randn(12, 7, generator=generator)
        keys[:, 5] = keys[:, 2] + 0.01 * torch.randn(12, generator=generator)
        text = torch.randn(12, 50, generator=generator, dtype=torch.float64)
        return keys, text @ text.T / 50

    def test_it_is_what_the_formula_says(self, problem: tuple[torch.Tensor, torch.Tensor]) -> None:
        keys, preserved = problem
        K = keys.double()
        G = K.T @ torch.linalg.inv(preserved + K @ K.T) @ K
        expected = (G / (G.diagonal()[:, None] * G.diagonal()).sqrt()).abs()
        found = Overlap(keys, preserved).of([4, 2])
        torch.testing.assert_close(found, expected[[4, 2]].float(), rtol=1e-5, atol=1e-5)

    def test_nearly_one_key_collides_and_others_do_not(self, problem: tuple[torch.Tensor, torch.Tensor]) -> None:
        shares = Overlap(*problem).of([2])[0]
        assert (shares >= COLLIDE).nonzero()[:, 0].tolist() == [2, 5]
        assert float(shares[2]) == pytest.approx(1.0)

    def test_what_is_not_positive_definite_is_named(self) -> None:
        with pytest.raises(EditError, match="not positive definite"):
            Overlap(torch.ones(4, 1), torch.zeros(4, 4))


class TestGroups:
    """Every missed fact is in exactly one group, with what it must be solved with."""

    def test_facts_of_the_subject_and_those_that_collide(self) -> None:
        live = live_of("A", "B", "A", "C", "D")
        overlap = torch.tensor([[1.0, 0.1, 0.0, 0.35, 0.2], [0.2, 0.0, 0.0, 0.0, 1.0]])
        assert groups_of(live, [0, 4], overlap) == [[0, 2, 3], [4]]

    def test_a_missed_one_that_is_in_a_group_begins_no_other(self) -> None:
        live = live_of("A", "B", "C")
        overlap = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.9], [0.0, 0.9, 1.0]])
        assert groups_of(live, [0, 1, 2], overlap) == [[0, 1], [2]]

    def test_no_group_is_too_large_and_the_missed_come_first(self) -> None:
        live = live_of(*["A"] * (TOGETHER + 5))
        missed = [0, TOGETHER + 2, TOGETHER + 3, TOGETHER + 4]
        overlap = torch.ones(len(missed), len(live))
        groups = groups_of(live, missed, overlap)
        assert groups == [[*range(TOGETHER - 3), *missed[1:]]]

    def test_those_that_collide_most_are_chosen(self) -> None:
        live = live_of(*map(str, range(TOGETHER + 2)))
        shares = torch.linspace(0.4, 0.9, len(live))[None]
        assert groups_of(live, [0], shares) == [[0, *range(3, TOGETHER + 2)]]
