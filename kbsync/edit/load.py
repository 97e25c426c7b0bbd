"""How much of the edited layers' room a live set takes, and how far it moves what ordinary text says there.

Nothing here shapes weights: it is what the solve leaves behind for those who must know when a model is full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kbsync.edit.solve import cholesky

if TYPE_CHECKING:
    from kbsync.edit.memit import Editor, Rebuilt


@dataclass(frozen=True, slots=True)
class Taken:
    """What the live keys K (d_in, n) of one layer take from it.

    `directions` is tr Kᵀ(P + KKᵀ)⁻¹K with P what the solve preserves: the effective degrees of freedom of a ridge
    regression (Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, eq. 3.50). A direction that
    only the keys use counts as one, a direction in which P outweighs them as nearly none; the sum lies between 0
    and min(n, d_in). `energy` is the mean of ‖k‖².
    """

    directions: float
    energy: float


@dataclass(frozen=True, slots=True)
class Load:
    """What one rebuild takes of the model: means over the edited layers.

    `occupied`: directions that the live keys take, as a share of the room that C leaves (see `room`); a model
    without edits has 0. `drift`: tr(Δ C Δᵀ) / tr(W C Wᵀ), the energy over ordinary text of what the edits add to
    the values, as a share of the values' own; W are the base weights and Δ is all that was added to them.
    """

    occupied: float
    drift: float


def taken_by(directions: float, keys: Tensor) -> Taken:
    """What the solve found of a layer, with the energy of its keys (d_in, n)."""
    n = keys.shape[1]
    return Taken(directions, float(keys.double().square().sum()) / n if n else 0.0)


def room(covariance: Tensor, weight: float, energy: float) -> float:
    """How many directions of a layer are free for keys of this energy κ: Σ κ / (κ + λσ) over the eigenvalues σ of
    C (d_in, d_in).

    It is what d_in keys of the length of the live ones would take, laid one along each eigenvector of C: all of
    d_in where ordinary text uses nothing, nearly none where it uses everything more than a key does. So it is the
    yardstick for the directions that are taken, and it knows d_in, λ and the spectrum of C. 0 without keys. Raises
    EditError where C is not finite.
    """
    if energy <= 0:
        return 0.0
    shifted = weight * covariance.double()
    shifted.diagonal().add_(energy)
    factor = cholesky(shifted, "λC + κI")
    return energy * float(torch.cholesky_inverse(factor).diagonal().sum())


def drift(base: Tensor, change: Tensor, covariance: Tensor) -> float:
    """tr(Δ C Δᵀ) / tr(W C Wᵀ) for W and Δ of (d_out, d_in): E‖Δk‖² over E‖Wk‖², k being keys of ordinary text."""
    W, D, C = base.double(), change.double(), covariance.double()
    if not bool(D.any()):
        return 0.0
    return float(((D @ C) * D).sum() / ((W @ C) * W).sum())


def load_of(editor: Editor, rebuilt: Rebuilt) -> Load:
    """The load of a rebuild, whether or not the model still holds it. Takes a few products of (d_in, d_in)."""
    layers, matrices = editor.layers, editor.covariance.matrices
    weight = editor.weight_for(rebuilt.facts)
    shares, drifts = [], []
    for layer in layers:
        base = editor.base_weight(layer)
        C = matrices[layer].to(base.device)
        taken = rebuilt.taken.get(layer)
        free = room(C, weight, taken.energy) if taken is not None else 0.0
        shares.append(taken.directions / free if taken is not None and free else 0.0)
        edited = editor.adapter.oriented(rebuilt.tensors[editor.adapter.weight_name(layer)]).to(base.device)
        drifts.append(drift(base, edited.double() - base.double(), C))
    return Load(sum(shares) / len(layers), sum(drifts) / len(layers))
