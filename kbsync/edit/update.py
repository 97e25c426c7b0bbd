"""MEMIT's update over the critical layers (Meng et al. 2023, algorithm 1), on the weights as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kbsync.edit.adapters import Adapter
from kbsync.edit.collide import Overlap
from kbsync.edit.conditioning import Conditioning
from kbsync.edit.keys import SubjectPass
from kbsync.edit.load import Taken, taken_by
from kbsync.edit.solve import solution
from kbsync.errors import NotFinite
from kbsync.lm.finite import broken, is_finite

# Where a norm stands behind the down-projection: passes over the critical layers at most; what may be missing
# without another one, as a share of ‖z‖; and how much less must be missing than before, or there is no use in it.
_PASSES, _NEGLIGIBLE, _GAIN = 6, 0.001, 0.9


class Update:
    """What every update of one rebuild stands on: the live prompts, carried through the layers by `subject`, and
    λC + bystanders per layer, (d_in, d_in). `taken` and `conditioning` are noted by the first update, per layer."""

    def __init__(
        self, adapter: Adapter, layers: Sequence[int], subject: SubjectPass, preserved: Mapping[int, Tensor]
    ) -> None:
        self.adapter = adapter
        self.layers = tuple(layers)
        self.subject = subject
        self.preserved = preserved
        self.taken: dict[int, Taken] = {}
        self.conditioning: dict[int, Conditioning] = {}

    def write(self, targets: Mapping[int, Tensor], held: float = 1.0) -> float:
        """Bring the live requests numbered in `targets` to their z, (d,) each.

        Requests without a target are constraints: their keys are in KKᵀ, their residual is zero. Returns the
        mean relative residual that is left at the last layer. Raises NotFinite for a layer whose weight can't be
        solved for, or can't be stored; the layers below have their new weights then.

        Behind a norm the last layer may miss part of what it is asked for. Then further passes ask for that part
        alone, which all layers share. What λ held back is not asked for again, so λ means what it does elsewhere.
        `held` is what λC and the bystanders are multiplied by.
        """
        wanted = sorted(targets)
        z = torch.stack([targets[i] for i in wanted], dim=1).to(self.adapter.device)  # (d, m)
        goal, before = z, float("inf")
        for _ in range(1 if self.adapter.exact else _PASSES):
            missing, hidden = self._pass(goal, wanted, held)
            share = float((missing.norm(dim=0) / z.norm(dim=0)).mean())
            if not _NEGLIGIBLE < share < _GAIN * before:
                break
            goal, before = hidden + missing, share
        return float(((z - hidden).norm(dim=0) / z.norm(dim=0)).mean())

    def _pass(self, goal: Tensor, wanted: list[int], held: float) -> tuple[Tensor, Tensor]:
        """Once over the critical layers towards hidden states `goal` (d, m) of the requests `wanted`. Returns what
        the last layer could not be asked for, and the hidden states now, both (d, m)."""
        subject = self.subject
        subject.rewind()
        last = self.layers[-1]
        missing = torch.zeros_like(goal)
        for left, layer in zip(range(len(self.layers), 0, -1), self.layers, strict=True):
            subject.climb(layer)
            found = subject.read(last)
            residual = torch.zeros_like(found.hidden)
            residual[:, wanted] = (goal - found.hidden[:, wanted]) / left
            change, unheard = self.adapter.into_values(layer, found.values, residual)
            preserved = self.preserved[layer].to(found.keys.device)
            try:
                solved = solution(change, found.keys, preserved, held, examine=layer not in self.conditioning)
            except NotFinite as error:
                raise NotFinite(f"{self.adapter.weight_name(layer)} can't be solved: {error}") from None
            self.taken.setdefault(layer, taken_by(solved.directions, found.keys))
            if solved.conditioning is not None:
                self.conditioning[layer] = solved.conditioning
            add(self.adapter, layer, solved.delta)
            missing = unheard[:, wanted].to(goal.dtype)
        return missing, subject.read(last).hidden[:, wanted]

    def overlap(self) -> Overlap:
        """How far the live keys of the last critical layer collide, on the weights as they are."""
        last = self.layers[-1]
        self.subject.rewind()
        self.subject.climb(last)
        return Overlap(self.subject.read(last).keys, self.preserved[last])


def add(adapter: Adapter, layer: int, delta: Tensor) -> None:
    """W + Δ into the model, in the weight's own type; `delta`: (d_out, d_in). Raises NotFinite where that can't
    hold it: here a rebuild looks at each weight that it edits, before the next layer builds upon it."""
    weight = adapter.read_weight(layer)
    wanted = weight.double() + delta.to(weight.device)
    stored = wanted.to(weight.dtype)
    name = adapter.weight_name(layer)
    if (found := broken(name, stored)) is not None:
        if is_finite(wanted):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise NotFinite(f"{name} overflows {dtype}: {float(wanted.abs().max()):.3g} is beyond it")
        raise NotFinite(f"{found} after its solve")
    adapter.write_weight(layer, stored)
