"""Traces of many facts as average indirect effects, and the layers that they speak for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kbsync.edit.states import StateKind
from kbsync.edit.trace import KINDS, Trace

ROLES = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first token after",
    "further tokens",
    "last token",
)
SUBJECT_LAST = ROLES.index("last subject token")


@dataclass(frozen=True, slots=True)
class Level:
    """A mean over facts and its standard error (not a number for fewer than two facts)."""

    mean: float
    error: float


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Average indirect effects: means over facts and their standard errors, (kinds, roles, layers) float64.

    `counts[role]` is how many facts have a token of that role; where there is none, the mean is not a number.
    """

    mean: Tensor
    error: Tensor
    counts: tuple[int, ...]

    def at_subject_last(self, kind: StateKind) -> tuple[Tensor, Tensor]:
        """Mean and standard error (layers,) at the subject's last token."""
        number = KINDS.index(kind)
        return self.mean[number, SUBJECT_LAST], self.error[number, SUBJECT_LAST]


def roles_of(trace: Trace) -> tuple[range, ...]:
    """The traced tokens of each role, in the order of `ROLES`.

    As in the paper's figures a token may have two: a subject's only token is its first and its last, and a single
    token behind it is the first after it and the last of all.
    """
    subject, tokens = trace.subject_len, trace.effects.shape[1]
    return (
        range(1),
        range(1, subject - 1),
        range(subject - 1, subject),
        range(subject, min(subject + 1, tokens)),
        range(subject + 1, tokens - 1),
        range(tokens - 1, tokens),
    )


def average(traces: Sequence[Trace]) -> Effects:
    """Each role's effect: the mean over its tokens in a fact, then over facts. There must be a trace."""
    means, errors, counts = [], [], []
    for role in range(len(ROLES)):
        places = [(trace, roles_of(trace)[role]) for trace in traces]
        each = [trace.effects[:, list(tokens)].mean(1) for trace, tokens in places if tokens]
        counts.append(len(each))
        mean, error = _mean_and_error(torch.stack(each) if each else torch.full_like(_nothing(traces), math.nan))
        means.append(mean)
        errors.append(error)
    return Effects(torch.stack(means, 1), torch.stack(errors, 1), tuple(counts))


def _nothing(traces: Sequence[Trace]) -> Tensor:
    return traces[0].effects[None, :, 0]  # (1, kinds, layers)


def _mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the first dimension, and its standard error."""
    count = len(values)
    error = values.std(0) / math.sqrt(count) if count > 1 else torch.full_like(values[0], math.nan)
    return values.mean(0), error


def level(values: Sequence[float]) -> Level:
    """Mean and standard error of one number per fact."""
    mean, error = _mean_and_error(torch.tensor(values, dtype=torch.float64))
    return Level(float(mean), float(error))


def propose(effect: Tensor, count: int) -> tuple[int, ...]:
    """The `count` neighbouring layers whose mean effect (layers,) is highest, the lower ones among equals.

    The last layer is left out: nothing is above it to carry an edit. `count` must be below the number of layers.
    """
    sums = effect[:-1].unfold(0, count, 1).mean(1)  # one per first layer
    first = int(sums.argmax())
    return tuple(range(first, first + count))


def over_layers(traces: Sequence[Trace], layers: Sequence[int]) -> list[float]:
    """Each fact's mean MLP effect at the subject's last token over some layers."""
    number = KINDS.index(StateKind.MLP)
    return [float(t.effects[number, t.subject_len - 1, list(layers)].mean()) for t in traces]
