"""Is what comes out of the editor right on a device? Asked on tiny models of the same types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kbsync.bench.fullsize import TINY_LAYERS, Size, default_settings, synthetic_requests
from kbsync.bench.gpu import Subject, prepare
from kbsync.edit.contexts import build_contexts
from kbsync.edit.covariance import Covariance
from kbsync.edit.memit import Editor
from kbsync.edit.target import TargetSolver
from kbsync.facts import EditRequest
from kbsync.lm.rows import Row


def check(size: Size, device: torch.device) -> dict[str, Any]:
    """On a tiny model of the same type: is a z of a batch that of the request alone, does a rerun give the same
    bits, are the weights those of the closed form in float64, and does bfloat16 end in numbers?"""
    exact = prepare(size, device, torch.float32, True, TINY_LAYERS)
    requests = synthetic_requests(10)
    solver = _solver(exact, 6)
    together = solver.solve(requests)
    alone = [solver.solve([request])[0] for request in requests]
    again = solver.solve(requests)
    half = _solver(prepare(size, device, torch.bfloat16, True, TINY_LAYERS), 6).solve(requests)
    nearness = [float(torch.cosine_similarity(a.z, b.z, dim=0)) for a, b in zip(together, half, strict=True)]
    found: dict[str, Any] = {
        "z_batch_against_alone": max(_apart(a.z, b.z) for a, b in zip(together, alone, strict=True)),
        "z_rerun_same_bits": all(torch.equal(a.z, b.z) for a, b in zip(together, again, strict=True)),
        "weights_against_float64": _against_closed_form(exact, requests),
        "bfloat16_finite": all(bool(target.z.isfinite().all()) for target in half),
        "bfloat16_least_cosine": min(nearness),
    }
    found["ok"] = (
        found["z_batch_against_alone"] < 1e-3
        and found["z_rerun_same_bits"]
        and found["weights_against_float64"] < 1e-4
        and found["bfloat16_finite"]
    )
    return found


def _solver(subject: Subject, steps: int) -> TargetSolver:
    settings = default_settings("Edit", steps=steps, solve_dtype="float32")
    contexts = build_contexts(subject.adapter.model, subject.encoder, settings)
    return TargetSolver(subject.adapter, subject.encoder, contexts, subject.layers[-1], settings)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@torch.no_grad()
def _against_closed_form(subject: Subject, requests: Sequence[EditRequest]) -> float:
    """How far the change of one layer's weights is from R Kᵀ (λC + KKᵀ)⁻¹ in float64, as a share of its size; keys
    and hidden states are read from whole forward passes of one prompt each."""
    layer, weight = subject.layers[-1], 10.0
    settings = default_settings("Edit", repair_rounds=0, bystander_weight=0.0, covariance_weight=weight)
    contexts = build_contexts(subject.adapter.model, subject.encoder, settings)
    d = subject.adapter.d_in
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(4 * d, d, generator=generator, dtype=torch.float64)
    C = X.T @ X / len(X)
    editor = Editor(
        subject.adapter, subject.encoder, contexts, (layer,), Covariance({layer: C}, len(X), "random"), settings
    )
    keys, residuals, targets = [], [], {}
    for request in requests:
        rows = contexts.key_rows(subject.encoder, request)
        read = [_key_and_hidden(subject, row, layer) for row in rows]
        keys.append(torch.stack([key for key, _ in read]).mean(0))
        residuals.append(0.5 * torch.randn(len(read[0][1]), generator=generator, dtype=torch.float64))
        targets[request.content_hash] = (read[0][1] + residuals[-1]).float()
    K, R = torch.stack(keys, 1), torch.stack(residuals, 1)  # (d_in, n), (d_out, n)
    expected = R @ K.T @ torch.linalg.inv(weight * C + K @ K.T)
    before = subject.adapter.read_weight(layer).double().cpu()
    editor.rebuild(requests, targets)
    change = subject.adapter.read_weight(layer).double().cpu() - before
    editor.restore()
    return _apart(change, expected)


def _key_and_hidden(subject: Subject, row: Row, layer: int) -> tuple[Tensor, Tensor]:
    """What the down-projection reads, and the layer's output, at the subject's last token, float64 on the CPU."""
    read: list[Tensor] = []
    handle = subject.adapter.down(layer).register_forward_pre_hook(lambda _, args: read.append(args[0]))
    ids = torch.tensor([row.ids[: row.subject_last + 1]], device=subject.device)
    out = subject.adapter.model(input_ids=ids, output_hidden_states=True, use_cache=False)
    handle.remove()
    return read[0][0, -1].double().cpu(), out.hidden_states[layer + 1][0, -1].double().cpu()
