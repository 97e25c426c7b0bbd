"""Average indirect effects by role and layer, and the layers that they propose."""

from __future__ import annotations

import math

import pytest
import torch

from kbsync.edit.effects import ROLES, Effects, average, level, over_layers, propose, roles_of
from kbsync.edit.states import StateKind
from kbsync.edit.trace import KINDS, Trace


def trace(subject: int, tokens: int, layers: int = 6, fill: float = 0.0) -> Trace:
    """A trace whose effect at a token is the token's number plus `fill`, for every kind and layer."""
    effects = torch.arange(tokens, dtype=torch.float64)[None, :, None].expand(len(KINDS), tokens, layers) + fill
    return Trace(0.9, 0.1, effects.clone(), subject)


@pytest.mark.parametrize(
    ("subject", "tokens", "expected"),
    [
        (3, 7, ([0], [1], [2], [3], [4, 5], [6])),
        (4, 6, ([0], [1, 2], [3], [4], [], [5])),
        (2, 3, ([0], [], [1], [2], [], [2])),
        (1, 2, ([0], [], [0], [1], [], [1])),
        (1, 1, ([0], [], [0], [], [], [0])),
    ],
)
def test_roles_of_tokens(subject: int, tokens: int, expected: tuple[list[int], ...]) -> None:
    """Long subjects, short ones, and prompts that end soon after the subject or with it."""
    found = roles_of(trace(subject, tokens))
    assert tuple(map(list, found)) == expected
    assert len(found) == len(ROLES)
    assert {token for role in found for token in role} == set(range(tokens))


def test_the_average_is_over_tokens_and_then_over_facts() -> None:
    """A fact with many tokens of a role weighs no more than one with few; a role that no fact has is not a
    number."""
    made = average([trace(3, 9), trace(1, 3, fill=10.0)])
    means = {role: float(made.mean[0, i, 0]) for i, role in enumerate(ROLES)}
    assert made.counts == (2, 1, 2, 2, 1, 2)
    assert means == {
        "first subject token": 5.0,
        "middle subject tokens": 1.0,
        "last subject token": 6.0,
        "first token after": 7.0,
        "further tokens": 5.5,
        "last token": 10.0,
    }
    few = average([trace(1, 2)])
    assert few.counts == (1, 0, 1, 1, 0, 1)
    assert few.mean[:, 1].isnan().all()
    assert not few.mean[:, 2].isnan().any()


def test_standard_errors() -> None:
    """Sample deviation over the root of the count; none for a single fact."""
    made = average([trace(1, 2, fill=f) for f in (0.0, 1.0, 5.0)])
    assert float(made.error[0, 0, 0]) == pytest.approx(math.sqrt(7.0) / math.sqrt(3))
    assert average([trace(1, 2)]).error.isnan().all()
    found = level([0.0, 1.0, 5.0])
    assert (found.mean, found.error) == (pytest.approx(2.0), pytest.approx(math.sqrt(7 / 3)))
    assert math.isnan(level([1.0]).error)


def test_effects_at_the_subjects_last_token() -> None:
    """The row of that role, for one kind."""
    shape = (len(KINDS), len(ROLES), 4)
    mean = torch.arange(72, dtype=torch.float64).view(shape)
    made = Effects(mean, -mean, (1,) * len(ROLES))
    found, error = made.at_subject_last(StateKind.MLP)
    assert torch.equal(found, mean[1, 2])
    assert torch.equal(error, -mean[1, 2])


@pytest.mark.parametrize("first", [0, 3, 5])
def test_a_planted_peak_is_proposed(first: int) -> None:
    """Wherever it lies below the last layer, and although single layers elsewhere are higher."""
    effect = torch.full((10,), 0.1, dtype=torch.float64)
    effect[first : first + 4] = 0.5
    effect[8] = 0.9
    assert propose(effect, 4) == tuple(range(first, first + 4))


def test_the_last_layer_is_never_proposed() -> None:
    """Nothing is above it to carry an edit; among equals the lowest layers are taken."""
    effect = torch.zeros(6, dtype=torch.float64)
    effect[5] = 9.0
    assert propose(effect, 2) == (0, 1)
    assert propose(torch.arange(6, dtype=torch.float64), 2) == (3, 4)
    assert propose(torch.zeros(3, dtype=torch.float64), 2) == (0, 1)
    assert propose(torch.full((4,), -1.0, dtype=torch.float64), 3) == (0, 1, 2)


def test_effect_over_layers_is_the_mlps_at_the_subjects_last_token() -> None:
    """One number per fact: of that token, that kind and these layers alone."""
    one = trace(2, 4)
    one.effects[KINDS.index(StateKind.MLP), 1, 2:4] = torch.tensor([3.0, 5.0], dtype=torch.float64)
    assert over_layers([one, trace(3, 4)], (2, 3)) == [4.0, 2.0]
