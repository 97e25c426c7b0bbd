"""What an accelerator makes of the editor: z, rebuild and covariance on a model of full size, in time and memory.

Each part returns plain JSON. Seconds are measured with the device idle before and after.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kbsync.bench.fullsize import (
    Size,
    build_model,
    default_settings,
    sentences,
    synthetic_requests,
    word_encoder,
)
from kbsync.edit.adapters import Adapter
from kbsync.edit.batches import weight_bytes
from kbsync.edit.contexts import build_contexts
from kbsync.edit.covariance import Covariance, compute_covariance
from kbsync.edit.memit import Editor
from kbsync.edit.target import TargetSolver
from kbsync.facts import EditRequest
from kbsync.lm.rows import Encoder

_GIB = 1024**3
_NEVER = 1e-9  # a stopping loss that no request reaches: every z takes all its evaluations


@dataclass(frozen=True, slots=True)
class Subject:
    """One model on one device, ready to be edited."""

    adapter: Adapter
    encoder: Encoder
    layers: tuple[int, ...]
    weight: float

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.adapter.device


def prepare(size: Size, device: torch.device, dtype: torch.dtype, tiny: bool, layers: Sequence[int]) -> Subject:
    """Build the model."""
    adapter = Adapter(build_model(size, device, dtype, tiny))
    return Subject(adapter, word_encoder(), tuple(layers), size.weight)


def idle(device: torch.device) -> float:
    """Wait until the device has done all it was given; the time then."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Multiplications and additions per second of large square matrices: what the device can do at most."""
    n = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    started, count = idle(device), 0
    while (now := idle(device)) - started < seconds:
        for _ in range(4):
            a @ b
        count += 4
    return float(2 * n**3 * count / (now - started))


def peak(device: torch.device) -> int | None:
    """The most bytes that tensors held since `forget_peak`; None where nobody counts."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    """Begin to count anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def memory(subject: Subject, weights: int) -> dict[str, float | None]:
    """Weights and peak in GiB, and what the peak has beside the weights."""
    most = peak(subject.device)
    return {
        "weights_gib": round(weights / _GIB, 2),
        "peak_gib": None if most is None else round(most / _GIB, 2),
        "beside_weights_gib": None if most is None else round((most - weights) / _GIB, 2),
    }


def measure_z(
    subject: Subject, edits: int, evaluations: int, seconds: float, rate: float, batch_size: int | str = "auto"
) -> dict[str, Any]:
    """z of as many of `edits` requests as fit into `seconds`, each in exactly `evaluations` evaluations; the time
    for all of them is extrapolated. `rate`: the device's multiplications and additions per second."""
    settings = default_settings("Edit", steps=evaluations, stop_loss=_NEVER, batch_size=batch_size)
    said = [f"{one.rewrite.text} {one.target_new}." for one in synthetic_requests(60)]  # each wording twice
    contexts = build_contexts(subject.adapter.model, subject.encoder, settings, said)
    solver = TargetSolver(subject.adapter, subject.encoder, contexts, subject.layers[-1], settings)
    requests = sorted(synthetic_requests(edits), key=solver.place)
    weights = weight_bytes(subject.adapter, solver.top)
    # Batches are cut by length, so the ones measured are taken from all over the order.
    batches = [requests[part] for part in solver.cut(requests)]
    stride = [batches[i] for i in sorted(range(len(batches)), key=lambda i: (i * 7919) % max(1, len(batches)))]
    halved = _solve(solver, stride[0][: max(1, len(stride[0]) // 8)])  # first kernels, first allocations
    forget_peak(subject.device)
    started, done, flops = idle(subject.device), 0, 0.0
    sizes: list[int] = []
    while stride and (not done or idle(subject.device) - started < seconds):
        batch = stride.pop(0)
        halved += _solve(solver, batch)
        done += len(batch)
        sizes.append(len(batch))
        flops += sum(floor_flops(solver, request) for request in batch) * evaluations
    spent = idle(subject.device) - started
    per_edit = spent / done
    return {
        "edits": edits,
        "measured": done,
        "extrapolated": done < edits,
        "evaluations": evaluations,
        "solved_in": str(solver.top.dtype).removeprefix("torch."),
        "seconds_per_edit": per_edit,
        "seconds_for_all": per_edit * edits,
        "batch_sizes": [min(sizes), max(sizes)],
        "batches_halved_for_memory": halved,
        "limit": solver.limit.rule,
        "matmul_tflops": round(rate / 1e12, 3),
        "floor_seconds_per_edit": flops / done / rate,
        "flop_utilisation": flops / rate / spent,
        **memory(subject, weights),
    }


def _solve(solver: TargetSolver, batch: Sequence[EditRequest]) -> int:
    """Solve a batch; where memory is short, its halves. Returns how often it had to be halved."""
    try:
        solver.solve(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    else:
        return 0
    if solver.top.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return 1 + _solve(solver, batch[:middle]) + _solve(solver, batch[middle:])


def floor_flops(solver: TargetSolver, request: EditRequest) -> float:
    """What one evaluation of one request can't do without: with frozen weights twice the forward pass, over the
    tokens from the subject's last one on, through the layers above z, and the vocabulary where it is read."""
    adapter = solver.adapter
    matrices = sum(
        p.numel() for layer in adapter.layers[solver.layer + 1 :] for p in layer.parameters() if p.dim() > 1
    )
    vocabulary = int(adapter.model.get_output_embeddings().weight.numel())
    rows = solver.rows(request)
    behind = sum(len(row.inputs) - row.subject_last for row in rows)
    read = sum(max(1, row.target_len) for row in rows)
    return 2.0 * 2.0 * (behind * matrices + read * vocabulary)


def measure_rebuild(subject: Subject, facts: int) -> dict[str, Any]:
    """One rebuild of `facts` live facts with z of random numbers and C the identity; what is missed is counted and
    not repaired."""
    settings = default_settings("Edit", repair_rounds=0, covariance_weight=subject.weight)
    d = subject.adapter.d_in
    identity = torch.eye(d, dtype=torch.float64)
    covariance = Covariance(dict.fromkeys(subject.layers, identity), 10 * d, "the identity")
    contexts = build_contexts(subject.adapter.model, subject.encoder, settings)
    editor = Editor(subject.adapter, subject.encoder, contexts, subject.layers, covariance, settings)
    requests = synthetic_requests(facts)
    hidden = int(subject.adapter.model.config.hidden_size)
    generator = torch.Generator().manual_seed(0)
    targets = {r.content_hash: torch.randn(hidden, generator=generator) for r in requests}
    weights = weight_bytes(subject.adapter, editor.solver.top)
    editor.rebuild(requests[:8], targets)
    forget_peak(subject.device)
    started = idle(subject.device)
    rebuilt = editor.rebuild(requests, targets)
    spent = idle(subject.device) - started
    editor.restore()
    return {
        "facts": facts,
        "layers": list(subject.layers),
        "seconds": spent,
        "seconds_per_fact": spent / facts,
        "seconds_solve": rebuilt.seconds["solve"],
        "seconds_asking_what_is_missed": rebuilt.seconds["repair"],
        **memory(subject, weights),
    }


def measure_covariance(subject: Subject, tokens: int) -> dict[str, Any]:
    """C over `tokens` tokens of made-up text, from the first report of progress to the last: writing the finished
    file is left out, saving what is done so far is not."""
    settings = default_settings("Covariance", tokens=tokens, facts_share=1.0)
    weights = sum(p.numel() * p.element_size() for p in subject.adapter.model.parameters())
    marks: list[tuple[int, float]] = []
    forget_peak(subject.device)
    with tempfile.TemporaryDirectory() as folder:
        compute_covariance(
            subject.adapter,
            subject.encoder,
            "random weights",
            subject.layers,
            settings,
            Path(folder),
            lambda done, _: marks.append((done, idle(subject.device))),
            sentences(tokens),
        )
    (first, started), (last, ended) = marks[0], marks[-1]
    rate = (last - first) / (ended - started) if last > first else None  # one report has no time between
    return {
        "tokens": last,
        "layers": list(subject.layers),
        "tokens_per_second": rate,
        "seconds_for_ten_times_a_key": 10 * subject.adapter.d_in / rate if rate else None,
        **memory(subject, weights),
    }
