"""Facts whose keys collide: an update that is made for one is read at the other as well.

The update for a residual r at key kᵢ moves the output at key kⱼ by r times kᵢᵀ M⁻¹ kⱼ, M being what the solve
inverts. Facts of one subject have nearly one key. So have subjects whose names end alike ("Chelsea F.C.",
"Olympiacos F.C."), where a small model has read little more than the end. Different values can't be written to one
key, so such facts are solved for a common δ, which says each object in its own prompt (MEMIT-Merge, arXiv
2502.07322, for facts of one subject).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kbsync.edit.solve import cholesky
from kbsync.facts import EditRequest

COLLIDE = 0.3  # least overlap; on real changes pairs lie above 0.45 or below 0.1
TOGETHER = 16  # facts that are solved for one δ: more objects than one state says


class Overlap:
    """How far keys share what is written to them, after the whitening that the solve does.

    `keys` K: (d_in, n); `preserved` λC + βB: (d_in, d_in). Raises EditError when λC + βB + KKᵀ is not positive
    definite.
    """

    def __init__(self, keys: Tensor, preserved: Tensor) -> None:
        K = keys.double()
        factor = cholesky(preserved.to(K.device).double() + K @ K.T, "λC + KKᵀ")
        whitened: Tensor = torch.linalg.solve_triangular(factor, K, upper=False)  # UᵀU = Kᵀ M⁻¹ K
        self._unit = (whitened / whitened.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)).float()

    def of(self, facts: Sequence[int]) -> Tensor:
        """|kᵢᵀ M⁻¹ kⱼ| / √(kᵢᵀ M⁻¹ kᵢ · kⱼᵀ M⁻¹ kⱼ), from 0 to 1, of these facts with all: (len(facts), n)."""
        shares: Tensor = (self._unit[:, list(facts)].T @ self._unit).abs()
        return shares.cpu()


def groups_of(live: Sequence[EditRequest], missed: Sequence[int], overlap: Tensor) -> list[list[int]]:
    """The missed facts, each with the live ones of its subject and those that it collides with; nobody twice.

    `overlap`: (len(missed), n). At most `TOGETHER` are in a group; further missed ones begin another.
    """
    subjects: dict[str, list[int]] = {}
    for i, request in enumerate(live):
        subjects.setdefault(request.rewrite.subject, []).append(i)
    wanted, taken, groups = set(missed), set[int](), []
    for i, shares in zip(missed, overlap, strict=True):
        if i in taken:
            continue
        own = set(subjects[live[i].rewrite.subject])
        near = own | set((shares >= COLLIDE).nonzero()[:, 0].tolist())
        order = sorted(near - taken - {i}, key=lambda j: (j not in wanted, j not in own, -float(shares[j]), j))
        group = sorted([i, *order[: TOGETHER - 1]])
        taken.update(group)
        groups.append(group)
    return groups
