"""The gate and publish stages: verdicts → rows, candidate → disk → row → live."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from kbsync import __version__
from kbsync.checkpoint.manifest import FILE_NAME, Base, LiveFact, Manifest, read_manifest
from kbsync.checkpoint.write import write_candidate
from kbsync.disk import file_sha256
from kbsync.edit.memit import Rebuilt
from kbsync.errors import StoreError
from kbsync.evaluate.gate import Verdict
from kbsync.evaluate.metrics import Metric
from kbsync.facts import EditRequest, digest
from kbsync.store import changes, checkpoints, outcomes, requests, runs
from kbsync.store.checkpoints import NewCheckpoint
from kbsync.store.outcomes import Metric as StoredMetric
from kbsync.store.outcomes import Verdict as StoredVerdict
from kbsync.store.requests import StoredRequest
from kbsync.store.tables import RequestStatus
from kbsync.store.words import prompts_json
from kbsync.sync.clock import now
from kbsync.sync.linking import align_link
from kbsync.sync.workbench import Workbench


def keep_verdicts(bench: Workbench, run_id: int, verdicts: Sequence[Verdict]) -> None:
    """Make these the run's verdicts in the store."""
    rows = [StoredVerdict(v.metric, v.value, v.threshold, v.comparison, v.passed, v.reason) for v in verdicts]
    with bench.store.begin() as tx:
        outcomes.save_verdicts(tx, run_id, rows)


def write(
    bench: Workbench, run_id: int, live: Sequence[StoredRequest], rebuilt: Rebuilt, metrics: Sequence[Metric]
) -> tuple[int, Path]:
    """Write the candidate to disk, then give it its row; returns the row's id and the folder.

    The folder's name holds the run, so a run that starts over never meets another run's files.
    """
    name = f"sync-{run_id:06d}"
    manifest = manifest_of(bench, run_id, [stored.request for stored in live], metrics)
    path = write_candidate(bench.settings.checkpoint.folder, name, rebuilt.tensors, manifest)
    written = read_manifest(path)
    manifest_sha256, size = on_disk(path)
    row = NewCheckpoint(
        name=name,
        path=str(path),
        weights_hash=written.weights_hash,
        manifest_sha256=manifest_sha256,
        base_hash=bench.base.hash,
        settings_hash=bench.settings_hash,
        live_hash=written.live_hash,
        bytes=size,
    )
    with bench.store.begin() as tx:
        return checkpoints.add_candidate(tx, run_id, now(), row, [stored.id for stored in live]), path


def on_disk(path: Path) -> tuple[str, int]:
    """What a checkpoint's row says of its files: the sha256 of the manifest, and the bytes of all."""
    return file_sha256(path / FILE_NAME), sum(file.stat().st_size for file in path.iterdir())


def manifest_of(
    bench: Workbench, run_id: int, live: Sequence[EditRequest], metrics: Sequence[Metric | StoredMetric]
) -> Manifest:
    """Everything that the weights are a function of, and how they were judged."""
    base = bench.base
    return Manifest(
        kbsync=__version__,
        run_id=str(run_id),
        created_at=now(),
        base=Base(
            spec=base.spec,
            weights_hash=base.weights_hash,
            tokenizer_hash=base.tokenizer_hash,
            family=bench.editor.adapter.family.name,
            dtype=str(base.dtype).removeprefix("torch."),
        ),
        settings=bench.weight_settings,
        live=tuple(sorted(_live_fact(request) for request in live)),
        metrics={f"{m.name}.{m.phase}": {"value": m.value, "count": m.count} for m in metrics},
    )


def _live_fact(request: EditRequest) -> LiveFact:
    return LiveFact(
        content_hash=request.content_hash,
        subject=request.fact.subject,
        relation=request.fact.relation,
        value=request.fact.value,
        subject_label=request.subject_label,
        target_new=request.target_new,
    )


def judged_hash(live: Iterable[StoredRequest], held: Iterable[str]) -> str:
    """sha256 over all that a candidate is judged by, besides base model and settings: its live set, every prompt
    that is asked about it, and what the live model holds (content hashes), since what is retired is asked too."""
    asked = sorted([one.request.content_hash, one.request.target_old, prompts_json(one.request)] for one in live)
    return digest([asked, sorted(held)])


def reject(
    bench: Workbench, run_id: int, live: Sequence[StoredRequest], checkpoint_id: int | None, stands: bool
) -> None:
    """The gate refused the candidate: it keeps its row and its files, where it has come to that, and never goes
    live. What it would have brought is told from what the live model holds anyway.

    `stands`: built again, it would be refused again."""
    with bench.store.begin() as tx:
        if checkpoint_id is not None:
            checkpoints.reject(tx, checkpoint_id)
        held = checkpoints.live_hashes(tx)
        if stands:
            runs.note_refusal(tx, run_id, judged_hash(live, held))
        name_refused(tx, run_id, live, held)


def name_refused(tx: Session, run_id: int, live: Iterable[StoredRequest], held: Collection[str]) -> None:
    """The outcome of what a refused candidate would have brought, beyond what the live model holds (content
    hashes)."""
    new = [stored.request.fact for stored in live if stored.request.content_hash not in held]
    changes.settle(tx, dict.fromkeys(new, f"refused: run {run_id}"))


def publish(
    bench: Workbench, run_id: int, live: Sequence[StoredRequest], checkpoint_id: int, planned_on: int | None
) -> None:
    """Make the candidate the live model: the row first, which is the truth, then the link that files-only
    readers follow. A kill between the two is mended by `align_link` at the next start.

    `planned_on` is the publication that was live when the run planned. Raises StoreError when another one is by
    now: the run knows nothing of what that rollback has set aside.
    """
    with bench.store.begin() as tx:
        now_live = checkpoints.live(tx)
        if (now_live.id if now_live is not None else None) != planned_on:
            raise StoreError(
                f"a rollback was made while run {run_id} was under way, so it publishes nothing; the next run goes "
                "by what is live now"
            )
        checkpoints.publish(tx, checkpoint_id, run_id, now())
        requests.set_status(tx, run_id, now(), [stored.id for stored in live], RequestStatus.EDITED)
        changes.settle(tx, {stored.request.fact: "edited" for stored in live})
    align_link(bench)
