"""The solve stage: every wanted request ends as known, failed, or with a z in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kbsync.edit.target import Target
from kbsync.errors import EditError
from kbsync.evaluate.probes import known_already, unaskable
from kbsync.facts import EditRequest, digest
from kbsync.store import changes, requests, targets
from kbsync.store.requests import Batch, StoredRequest
from kbsync.store.tables import RequestStatus
from kbsync.store.targets import Target as StoredTarget
from kbsync.sync.clock import now
from kbsync.sync.progress import Task
from kbsync.sync.workbench import Workbench


def z_hash(target_hash: str, content_hash: str) -> str:
    """The key of a z in the cache: base model, editor settings and request text, and nothing else."""
    return digest([target_hash, content_hash])


def solve(
    bench: Workbench, run_id: int, wanted: Sequence[StoredRequest], anew: bool, task: Task
) -> tuple[list[StoredRequest], Counter[str]]:
    """Solve what is not solved yet, batch by batch, each stored at once; returns the live set and the counts.

    A batch is fixed in the store before it is solved, since its composition shapes the last bits of z: a run
    that was killed goes on with the same batches. `anew` asks the base model again what it knows already.
    """
    bench.editor.restore()
    counts: Counter[str] = Counter()
    standing = _sort_out(bench, run_id, wanted, anew, counts)
    todo = _without_target(bench, run_id, standing, counts)
    _assign(bench, run_id, todo)
    with bench.store.read() as tx:
        batches = requests.pending_batches(tx)
    wanted_ids = {stored.id for stored in standing}
    batches = [batch for batch in batches if any(stored.id in wanted_ids for stored in batch.requests)]
    task.total(sum(len(batch.requests) for batch in batches))
    for batch in batches:
        _solve_batch(bench, run_id, batch, counts)
        task.advance(len(batch.requests))
    return standing, counts


def _sort_out(
    bench: Workbench, run_id: int, wanted: Sequence[StoredRequest], anew: bool, counts: Counter[str]
) -> list[StoredRequest]:
    """Leave out what the model can't be asked, and what the base model says already."""
    encoder, model = bench.base.encoder, bench.base.model
    failed = {s.id: reason for s in wanted if (reason := unaskable(encoder, s.request)) is not None}
    askable = [s for s in wanted if s.id not in failed]
    fresh = [s for s in askable if anew or s.status is RequestStatus.PLANNED]
    said = known_already(model, encoder, [s.request for s in fresh])
    knows = {s.id for s, known in zip(fresh, said, strict=True) if known}
    knows |= {s.id for s in askable if not anew and s.status is RequestStatus.KNOWN}
    with bench.store.begin() as tx:
        requests.set_statuses(tx, run_id, now(), {i: (RequestStatus.FAILED, why) for i, why in failed.items()})
        requests.set_status(tx, run_id, now(), sorted(knows), RequestStatus.KNOWN)
        changes.settle(tx, {s.request.fact: f"failed: {failed[s.id]}" for s in wanted if s.id in failed})
        changes.settle(tx, {s.request.fact: "known" for s in askable if s.id in knows})
    counts["known"], counts["failed"] = len(knows), len(failed)
    return [s for s in askable if s.id not in knows]


def _without_target(
    bench: Workbench, run_id: int, standing: Sequence[StoredRequest], counts: Counter[str]
) -> list[StoredRequest]:
    """The requests whose z is not in the cache; the others become solved."""
    keys = {s.id: z_hash(bench.target_hash, s.request.content_hash) for s in standing}
    with bench.store.begin() as tx:
        cached = targets.solved(tx, keys.values())
        hits = [s.id for s in standing if keys[s.id] in cached and s.status is not RequestStatus.EDITED]
        requests.set_status(tx, run_id, now(), hits, RequestStatus.SOLVED)
        todo = [s for s in standing if keys[s.id] not in cached]
        requests.set_status(tx, run_id, now(), [s.id for s in todo], RequestStatus.PLANNED)
    counts["cached"] = len(standing) - len(todo)
    return todo


def _assign(bench: Workbench, run_id: int, todo: Sequence[StoredRequest]) -> None:
    """Put requests that have no batch yet into batches of like length, in an order that only they decide."""
    solver = bench.editor.solver
    with bench.store.read() as tx:
        placed = {s.id for batch in requests.pending_batches(tx) for s in batch.requests}
    new = [s for s in todo if s.id not in placed]
    new.sort(key=lambda s: solver.place(s.request))
    with bench.store.begin() as tx:
        for number, part in enumerate(solver.cut([s.request for s in new])):
            requests.assign_batch(tx, f"{run_id:06d}-{number:05d}", [s.id for s in new[part]])


def _solve_batch(bench: Workbench, run_id: int, batch: Batch, counts: Counter[str]) -> None:
    """Solve a batch and store it; one that the device has no memory for is halved in the store first, so that a run
    that is killed goes on with the same halves."""
    solved = _attempt(bench, batch)
    if solved is None:
        for half in _halved(bench, batch):
            _solve_batch(bench, run_id, half, counts)
        return
    rows = [_row(bench, target) for target in solved]
    # the others are only there so that the batch is whole: what they are stays
    waited = [stored.id for stored in batch.requests if stored.status is RequestStatus.PLANNED]
    with bench.store.begin() as tx:
        targets.save_solved_batch(tx, run_id, now(), rows, waited)
    counts["solved"] += len(solved)
    counts["steps"] += sum(target.steps for target in solved)


def _attempt(bench: Workbench, batch: Batch) -> list[Target] | None:
    """The batch's z, or None when the device's memory is not enough for it."""
    try:
        return bench.editor.solver.solve([stored.request for stored in batch.requests])
    except torch.OutOfMemoryError:
        pass  # what the failed attempt holds is let go with the exception, before the cache is emptied
    if bench.base.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _halved(bench: Workbench, batch: Batch) -> list[Batch]:
    """Two batches in a batch's place, committed. Raises EditError for a single request."""
    solver = bench.editor.solver
    ordered = sorted(batch.requests, key=lambda s: solver.place(s.request))
    if len(ordered) == 1:
        raise EditError(
            f"{bench.base.device} has no memory for z of {ordered[0].request.rewrite.text!r} alone; free some, or "
            "see model.device_map"
        )
    middle = (len(ordered) + 1) // 2
    parts = ordered[:middle], ordered[middle:]
    halves = [  # in the order in which the store gives them back
        Batch(f"{batch.name}-{i}", tuple(sorted(part, key=lambda s: s.id))) for i, part in enumerate(parts)
    ]
    with bench.store.begin() as tx:
        for half in halves:
            requests.assign_batch(tx, half.name, [stored.id for stored in half.requests])
    return halves


def _row(bench: Workbench, target: Target) -> StoredTarget:
    z = target.z.to(torch.float32).contiguous()
    return StoredTarget(
        z_hash=z_hash(bench.target_hash, target.content_hash),
        content_hash=target.content_hash,
        base_hash=bench.base.hash,
        settings_hash=bench.target_hash,
        layer=bench.editor.layers[-1],
        dim=len(z),
        vector=z.numpy().astype("<f4").tobytes(),
        loss=target.loss,
        steps=target.steps,
        delta_norm=target.delta_norm,
        hidden_norm=target.hidden_norm,
        seconds=target.seconds,
    )


def load_targets(bench: Workbench, live: Sequence[EditRequest]) -> dict[str, Tensor]:
    """z by content hash, from the store; what is not solved is not in the dict."""
    keys = {z_hash(bench.target_hash, request.content_hash): request.content_hash for request in live}
    with bench.store.read() as tx:
        found = targets.load_targets(tx, keys)
    return {
        keys[key]: torch.frombuffer(bytearray(target.vector), dtype=torch.float32) for key, target in found.items()
    }


def built_from_store(bench: Workbench, live: Sequence[EditRequest]) -> Mapping[str, Tensor]:
    """The edited weights of a live set whose z are all in the store, by state-dict name; the model holds the base
    weights afterwards. Raises EditError when a z is missing."""
    tensors = bench.editor.rebuild(live, load_targets(bench, live)).tensors
    bench.editor.restore()
    return tensors
