"""One reconcile as a run in the ledger, and what it came to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from structlog.contextvars import bound_contextvars

from kbsync.errors import ConfigError
from kbsync.facts import DivergenceKind
from kbsync.store import reconciles, runs
from kbsync.store.reconciles import Reconciled
from kbsync.store.tables import RunStatus, Wants
from kbsync.sync.clock import now
from kbsync.sync.reconciling import reconcile
from kbsync.sync.run import begin, carried, check_watched
from kbsync.sync.workbench import Workbench

STAGE = "reconcile"


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """How a reconcile ended. `skipped` maps relations to the run, cut off later, that had completed them."""

    run_id: int
    status: RunStatus
    reason: str | None
    relations: Sequence[Reconciled]
    skipped: Mapping[str, int]
    counts: Mapping[str, int]
    seconds: float

    @property
    def divergences(self) -> dict[DivergenceKind, int]:
        """Divergences of all relations, by kind."""
        return {kind: sum(one.counts.get(kind, 0) for one in self.relations) for kind in DivergenceKind}

    @property
    def kept(self) -> list[Reconciled]:
        """The relations of which nothing was retired."""
        return [one for one in self.relations if not one.complete]


def reconcile_once(
    bench: Workbench,
    trigger: str = "manual",
    relations: Sequence[str] = (),
    *,
    alone: bool = False,
    anew: bool = False,
) -> ReconcileReport:
    """Compare everything tracked with the source, and heal the store.

    `relations`: only these of the watched ones; `alone`: without the tail; `anew`: also what a pass that was cut
    off had completed. Raises ConfigError for a relation that is not watched, LeaseHeld while another run is under
    way, Stopped when the user interrupts, and SourceError when the endpoint can't be read; the run's row says so,
    relations that were completed stay so, and the next pass goes on with the others.
    """
    check_watched(bench, trigger, Wants.RECONCILE)
    watched = bench.relations
    unknown = sorted(set(relations) - set(watched))
    if unknown:
        raise ConfigError(f"{unknown[0]} is not one of the watched relations, so there is nothing to compare")
    started = time.monotonic()
    with bench.store.read() as tx:
        done = {} if relations or anew else reconciles.done_already(tx)
    run_id = begin(bench, trigger, Wants.RECONCILE)
    wanted = relations or watched
    todo = [one for one in dict.fromkeys(wanted) if one not in done]
    skipped = {one: done[one] for one in wanted if one in done}
    with carried(bench, run_id) as end:
        with bench.store.begin() as tx:
            runs.stage_started(tx, run_id, STAGE, now())
        with bound_contextvars(stage=STAGE), bench.progress.stage(STAGE, unit="subjects") as task:
            results, counts = reconcile(bench, run_id, todo, task, alone=alone)
        if skipped:
            counts["relations completed before"] = len(skipped)
        with bench.store.begin() as tx:
            runs.stage_finished(tx, run_id, STAGE, now(), counts)
        kept = [one for one in results if not one.complete]
        reason = f"nothing was retired in {'; '.join(_words(one) for one in kept)}" if kept else None
        status, reason = end(RunStatus.RECONCILED, reason)
    return ReconcileReport(run_id, status, reason, results, skipped, counts, time.monotonic() - started)


def _words(one: Reconciled) -> str:
    return f"{one.relation}: {one.outcome} ({one.reason})"
