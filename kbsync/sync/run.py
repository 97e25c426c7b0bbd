"""One sync as a run in the ledger: started, carried through its stages, and ended with a named status."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from structlog.contextvars import bound_contextvars

from kbsync.errors import CircuitOpen, ConfigError, KbsyncError, LeaseHeld, Stopped, StoreError
from kbsync.settings import secrets_of
from kbsync.store import quarantines, runs, triggers
from kbsync.store.quarantines import Quarantine
from kbsync.store.tables import RunStatus, Wants
from kbsync.sync import watching
from kbsync.sync.clock import now
from kbsync.sync.repeating import repeated
from kbsync.sync.stages import Sync
from kbsync.sync.workbench import Workbench

if TYPE_CHECKING:
    from kbsync.evaluate.gate import Verdict
    from kbsync.evaluate.metrics import Metric
    from kbsync.evaluate.room import Room

Ending = tuple[RunStatus, str | None]  # and why

STREAM = "stream"  # the trigger of a run that only reads what the mutation stream has touched
_BEAT_S = 60.0  # well under the patience of `runs.interrupt_stale_runs`


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. `counts` by stage and named outcome; `checkpoint` is the candidate's folder; `room` is None
    where no candidate was judged; `kept_out` is what its bisections found."""

    run_id: int
    status: RunStatus
    reason: str | None
    counts: Mapping[str, Mapping[str, float]]
    metrics: list[Metric]
    verdicts: list[Verdict]
    checkpoint: Path | None
    seconds: float
    room: Room | None = None
    kept_out: Sequence[Quarantine] = ()


def sync_once(bench: Workbench, trigger: str = "manual", force: bool = False) -> Report:
    """Pull, plan, solve, rebuild, evaluate, gate, publish.

    `force` rebuilds even if the live model holds the wanted facts already. Raises LeaseHeld while another run is
    under way or when one has taken over from this one, Stopped when the user interrupts, and the KbsyncError of the
    stage that failed; in each case the run's row says so, and the next run carries on from what was committed.
    """
    started = time.monotonic()
    touched = trigger == STREAM
    wants = None if touched else Wants.SYNC  # who asked for a sync wants all of it
    check_watched(bench, trigger, wants)
    run_id = begin(bench, trigger, wants)
    sync = Sync(bench, run_id, force, only_touched=touched)
    with carried(bench, run_id) as end:
        _mend(bench)
        status, reason = end(*sync.run())
    with bench.store.read() as tx:
        kept_out = quarantines.of_run(tx, run_id)
    return Report(
        run_id=run_id,
        status=status,
        reason=reason,
        counts=sync.counts,
        metrics=sync.metrics,
        verdicts=sync.verdicts,
        checkpoint=sync.checkpoint,
        seconds=time.monotonic() - started,
        room=sync.room,
        kept_out=kept_out,
    )


def check_watched(bench: Workbench, trigger: str = "manual", wants: Wants | None = None) -> None:
    """Raises ConfigError when there is nothing to watch, or a filter of what is watched can't be used.

    There is no run then, unless triggers wait for its kind: one that fails answers them.
    """
    try:
        _check_watched(bench)
    except ConfigError:
        with bench.store.read() as tx:
            asked = any(one.wants is wants for one in triggers.waiting(tx))
        if not asked:
            raise
        with carried(bench, begin(bench, trigger, wants)):
            raise


def _check_watched(bench: Workbench) -> None:
    with bench.store.read() as tx:
        watched = watching.watches(tx, bench.settings)
    if not watched:
        raise ConfigError(
            'watch.relations is empty: name the properties to keep in sync, such as ["P35", "P6"], '
            "or add them with `kbsync watch add`"
        )
    watching.check(watched.values())


def begin(bench: Workbench, trigger: str, wants: Wants | None) -> int:
    """A run's row, which is its lease; it answers the triggers that wait for its kind, where it is of one. Raises
    LeaseHeld and StoreError."""
    with bench.store.begin() as tx:
        settings = watching.effective(tx, bench.settings).model_dump(mode="json")
        settings["store"] = {}  # the URL may hold a password
        settings["trust"] = secrets_of(bench.settings).mask_all(settings["trust"])
        runs.interrupt_stale_runs(tx, now())
        run_id = runs.start_run(tx, trigger, now(), settings)
        if wants is not None:
            triggers.take(tx, run_id, wants)
    return run_id


@contextmanager
def carried(
    bench: Workbench, run_id: int, stopped: str | None = None
) -> Iterator[Callable[[RunStatus, str | None], Ending]]:
    """Keep a run's row alive while the block works, and write how it ended.

    The block calls what it is given with status and reason, last of all; whatever it raises is written down too.
    `stopped` is what the user who interrupts is told. Every line that is logged meanwhile names the run. Raises
    LeaseHeld when another process takes over.
    """
    with bench.store.read() as tx:
        fence = runs.fence(tx, run_id)
    with bound_contextvars(run=run_id), bench.store.fenced(fence), _written_down(bench, run_id, stopped) as end:
        yield end


@contextmanager
def _written_down(
    bench: Workbench, run_id: int, stopped: str | None
) -> Iterator[Callable[[RunStatus, str | None], Ending]]:
    ending: list[Ending] = []
    secrets = secrets_of(bench.settings)

    def end(status: RunStatus, reason: str | None) -> Ending:
        ending.append((status, secrets.mask(reason) if reason else reason))
        return ending[-1]

    try:
        with _heartbeat(bench, run_id):
            yield end
    except KeyboardInterrupt:
        _end(bench, run_id, RunStatus.INTERRUPTED, "stopped by the user")
        raise Stopped(
            stopped or f"run {run_id} stopped; what it committed stays, and the next run goes on from there"
        ) from None
    except Stopped as error:
        _end(bench, run_id, RunStatus.INTERRUPTED, secrets.mask(str(error)))
        raise
    except CircuitOpen as error:
        _end(bench, run_id, RunStatus.PAUSED, secrets.mask(str(error)))
        raise
    except KbsyncError as error:
        _end(bench, run_id, RunStatus.FAILED, secrets.mask(str(error)))
        raise
    except BaseException as error:
        _end(bench, run_id, RunStatus.FAILED, secrets.mask(f"{type(error).__name__}: {error}"))
        raise
    ((status, reason),) = ending
    _end(bench, run_id, status, reason)


@contextmanager
def _heartbeat(bench: Workbench, run_id: int) -> Iterator[None]:
    """Let the run's row say that it is alive, from a thread: one stage may well take longer than others wait."""

    def beat() -> None:
        with suppress(StoreError, LeaseHeld), bench.store.begin() as tx:
            runs.beat(tx, run_id, now())

    with repeated(beat, _BEAT_S, f"heartbeat of run {run_id}"):
        yield


def _mend(bench: Workbench) -> None:
    """Finish what a killed run may have left half done outside the store, and see that the live model's files are
    sound: whatever comes of this run, they answer."""
    from kbsync.sync.damage import mend_live
    from kbsync.sync.linking import align_link

    if mend_live(bench):
        align_link(bench)


def _end(bench: Workbench, run_id: int, status: RunStatus, reason: str | None) -> None:
    """Write the end of a run; a store that can't be reached must not hide the error that came first."""
    try:
        with bench.store.begin() as tx:
            runs.finish_run(tx, run_id, status, now(), reason)
            triggers.finish(tx, run_id, now())
    except (StoreError, LeaseHeld):
        if status not in (RunStatus.INTERRUPTED, RunStatus.FAILED):
            raise
