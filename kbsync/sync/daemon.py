"""The daemon: syncs and reconciles on schedule, when triggered through the store, and at once when overdue.

One thread works, so two runs never overlap; missed times are coalesced into one run. One daemon leads a store: it
holds the leader's lease, whose epoch each of its writes checks. Another one is refused, or stands by and takes over
when the leader is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from kbsync.errors import KbsyncError, LeaseHeld, SourceError, Stopped, StoreError
from kbsync.settings import ScheduleSettings, Settings, duration
from kbsync.store import daemons, leases, prunes, reconciles, runs, touches, triggers
from kbsync.store.engine import Store
from kbsync.store.leases import Fence
from kbsync.store.tables import RunStatus, Wants
from kbsync.sync.clock import now
from kbsync.sync.cron import cron_trigger
from kbsync.sync.follower import Follower
from kbsync.sync.progress import Progress
from kbsync.sync.pruning import prune
from kbsync.sync.reconcile import ReconcileReport, reconcile_once
from kbsync.sync.run import STREAM, Report, sync_once
from kbsync.sync.workbench import Workbench

log = structlog.get_logger("kbsync")

PATIENCE = timedelta(seconds=60)  # a daemon that has not beaten for so long is gone
_BEAT_S = 10.0
_BURST_S = 5.0  # between two runs that the stream asks for: edits come in bursts
_PRUNE_LOOK_S = 60.0  # between two looks whether it is time to prune
_BEHIND_S = 60.0  # between two tries to read what the endpoint did not show yet


def schedule_of(settings: ScheduleSettings) -> Any:
    """The APScheduler trigger: cron where one is given, else the interval. Times are UTC."""
    if settings.cron is not None:
        return cron_trigger(settings.cron, "schedule.cron")
    return IntervalTrigger(minutes=settings.interval_minutes or 60.0, timezone=UTC)


def reconcile_schedule(settings: ScheduleSettings) -> Any:
    """The APScheduler trigger of the full pass, or None where there is none."""
    return None if settings.reconcile == "off" else cron_trigger(settings.reconcile, "schedule.reconcile")


def reconcile_overdue(store: Store, schedule: Any, at: datetime) -> bool:
    """Whether a full pass should have been made since the last one; where none ever was, since the first run."""
    with store.read() as tx:
        last = reconciles.latest(tx)
        since = last.started_at if last is not None else runs.first_started(tx)
    if schedule is None or since is None:
        return False
    due = schedule.get_next_fire_time(since, since + timedelta(seconds=1))
    return due is not None and due <= at


def overdue(store: Store, schedule: Any, at: datetime) -> bool:
    """Whether a run should have started since the last one that reached its end (or none ever did)."""
    ended = (RunStatus.PUBLISHED, RunStatus.UNCHANGED, RunStatus.REJECTED, RunStatus.WAITING)
    with store.read() as tx:
        last = next(
            (run for run in runs.runs(tx, limit=200) if run.status in ended and run.trigger != STREAM), None
        )
    if last is None:
        return True
    due = schedule.get_next_fire_time(last.started_at, last.started_at + timedelta(seconds=1))
    return due is not None and due <= at


def prune_overdue(store: Store, every: timedelta, at: datetime) -> bool:
    """Whether it is time to prune: never when `every` is 0, else so long after the last time, whoever pruned."""
    if not every:
        return False
    with store.read() as tx:
        last = prunes.last_prune(tx)
    return last is None or last + every <= at


class Daemon:
    """The long-running service on one store."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        sync: Callable[[Workbench, str], Report] = sync_once,
        reconcile: Callable[[Workbench, str], ReconcileReport] = reconcile_once,
        standby: bool = False,
    ):
        self.settings = settings
        self.bench = Workbench(settings, progress)
        self._sync, self._reconcile = sync, reconcile
        self._stop = threading.Event()
        self._due, self._reconcile_due = threading.Event(), threading.Event()
        self._touched = threading.Event()
        self._looked_at = 0.0
        self._pruned_at = float("-inf")
        self._schedule = schedule_of(settings.schedule)
        self._reconcile_schedule = reconcile_schedule(settings.schedule)
        self._daemon_id = 0
        self._standby = standby
        self._lost: LeaseHeld | None = None

    def stop(self) -> None:
        """Ask the daemon to end; safe from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Work until stopped.

        Raises LeaseHeld when another daemon is up on this store (one that stands by waits for its end instead), and
        when another one has taken over from this one.
        """
        store = self.bench.store
        try:
            fence = self._await_lead(store)
            if fence is None:
                return
            with store.fenced(fence):
                self._work(store)
        finally:
            self.bench.close()
        if self._lost is not None:
            raise self._lost

    def _work(self, store: Store) -> None:
        scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)})
        job = scheduler.add_job(
            self._due.set, self._schedule, coalesce=True, max_instances=1, misfire_grace_time=None
        )
        if self._reconcile_schedule is not None:
            scheduler.add_job(
                self._reconcile_due.set, self._reconcile_schedule, coalesce=True, misfire_grace_time=None
            )
        scheduler.start()
        beating = threading.Thread(target=self._beat, args=(job,), daemon=True)
        beating.start()
        follower = self._follow()
        try:
            self._catch_up(store)
            self._loop(store)
        finally:
            self._stop.set()
            if follower is not None:
                follower.stop()
            scheduler.shutdown(wait=False)
            beating.join(timeout=_BEAT_S)
            with suppress(StoreError, LeaseHeld), store.begin() as tx:
                daemons.stop(tx, self._daemon_id, now())

    def _catch_up(self, store: Store) -> None:
        """Run at once what should have run while no daemon was up; wait for a store that is gone."""
        while not self._stop.is_set():
            try:
                late = overdue(store, self._schedule, now())
                reconcile_late = reconcile_overdue(store, self._reconcile_schedule, now())
            except StoreError as error:
                log.warning("the store can't be read", error=str(error))
                self._stop.wait(self.settings.schedule.poll_s)
                continue
            if late:
                self._once(self._sync, "startup")
            if reconcile_late:
                self._reconcile_due.set()
            return

    def _follow(self) -> Follower | None:
        """Follow the mutation stream, where the settings want it: a touched item is read within seconds."""
        if not self.settings.source.stream:
            return None
        self.bench.follows_stream = True
        follower = Follower(self.bench, self._touched.set)
        follower.start()
        return follower

    def _await_lead(self, store: Store) -> Fence | None:
        """Become the leader, at once or when the leader is gone; None when told to stop before that."""
        if not self._standby:
            return self._register(store)
        told = False
        while not self._stop.is_set():
            pause_s = self.settings.schedule.poll_s
            try:
                return self._register(store)
            except LeaseHeld as error:
                if not told:
                    log.info("standing by", reason=str(error))
                told = True
            except StoreError as error:  # the leader can't beat now either: it is given time to before it is judged
                log.warning("standing by; the store can't be reached", error=str(error))
                pause_s = 2 * _BEAT_S
            self._stop.wait(pause_s)
        return None

    def _register(self, store: Store) -> Fence:
        """Take the leader's lease. Raises LeaseHeld while another daemon is up. What the one before has left
        running is over: its writes are refused from now on."""
        with store.begin() as tx:
            others = [d for d in daemons.up(tx, now(), PATIENCE) if self._alive(d)]
            if others:
                raise LeaseHeld(
                    f"a daemon runs on this store already (pid {others[0].pid} on {others[0].host}); stop it "
                    "first, or let this one stand by: `kbsync run --standby`"
                )
            gone = daemons.displace(tx, now())
            runs.interrupt_stale_runs(tx, now(), gone=[(one.host, one.pid) for one in gone])
            fence = leases.take(tx, leases.LEADER)
            self._daemon_id = daemons.start(tx, socket.gethostname(), os.getpid(), now())
        log.info("daemon started", daemon=self._daemon_id, pid=os.getpid(), epoch=fence.epoch)
        return fence

    @staticmethod
    def _alive(daemon: daemons.Daemon) -> bool:
        """Another host's daemon is believed; one of this host must have a process."""
        return daemon.host != socket.gethostname() or runs.process_alive(daemon.pid)

    def _beat(self, job: Any) -> None:
        """Tell the store every few seconds that this daemon is up, and when it runs next."""
        while True:
            try:
                with suppress(StoreError), self.bench.store.begin() as tx:
                    daemons.beat(tx, self._daemon_id, now(), job.next_run_time)
            except LeaseHeld as error:
                self._give_up(error)
            if self._stop.wait(_BEAT_S):
                return

    def _see_who_leads(self) -> None:
        """End this daemon when another one has taken over."""
        try:
            with suppress(StoreError), self.bench.store.begin():
                pass  # that it begins is what is asked
        except LeaseHeld as error:
            self._give_up(error)

    def _give_up(self, error: LeaseHeld) -> None:
        if self._lost is None:
            log.error("another daemon has taken over", error=str(error))
        self._lost = error
        self._stop.set()

    def _loop(self, store: Store) -> None:
        while not self._stop.is_set():
            if self._due.is_set():
                self._due.clear()
                self._once(self._sync, "schedule")
            elif Wants.SYNC in (wanted := self._triggered(store)):
                self._once(self._sync, "trigger")
            elif Wants.RECONCILE in wanted:
                self._once(self._reconcile, "trigger")
            elif self._touches(store):
                self._once(self._sync, STREAM)
            elif self._reconcile_due.is_set():
                self._reconcile_due.clear()
                self._once(self._reconcile, "schedule")
            else:
                self._prune(store)
            # Also after a run: a trigger that could not be taken (another process syncs) is not tried in a rush.
            self._stop.wait(self.settings.schedule.poll_s)

    def _triggered(self, store: Store) -> set[Wants]:
        try:
            with store.read() as tx:
                return {one.wants for one in triggers.waiting(tx)}
        except StoreError as error:
            log.warning("the store can't be read", error=str(error))
            return set()

    def _touches(self, store: Store) -> bool:
        """Whether the stream has touched something, or the endpoint was behind with what it touched before."""
        since = time.monotonic() - self._looked_at
        news = self._touched.is_set()
        if not self.settings.source.stream or since < (_BURST_S if news else _BEHIND_S):
            return False
        self._looked_at = time.monotonic()
        self._touched.clear()
        try:
            with store.read() as tx:
                return news or bool(touches.pending(tx))
        except StoreError as error:
            log.warning("the store can't be read", error=str(error))
            return False

    def _prune(self, store: Store) -> None:
        """Prune when it is time. A failure is logged, and tried again with the next look."""
        if time.monotonic() - self._pruned_at < _PRUNE_LOOK_S:
            return
        self._pruned_at = time.monotonic()
        try:
            if prune_overdue(store, duration(self.settings.retention.every), now()):
                found = prune(store, self.settings, "daemon")
                log.info(
                    "pruned", checkpoints=len(found.survey.checkpoints), outcomes=found.survey.outcome_rows,
                    targets=len(found.survey.targets), runs=len(found.survey.runs), bytes=found.bytes,
                )  # fmt: skip
        except KbsyncError as error:
            log.warning("not pruned", error=str(error))

    def _once(self, work: Callable[[Workbench, str], Report | ReconcileReport], trigger: str) -> None:
        """One run. A failure is logged and stored; the daemon goes on to the next time."""
        try:
            report = work(self.bench, trigger)
        except Stopped as error:
            log.info("stopped", reason=str(error))
            self._stop.set()
        except SourceError as error:
            log.warning("the source can't be read; the next run tries again", error=str(error))
        except LeaseHeld as error:
            log.warning("another process has the lease", error=str(error))
            self._see_who_leads()
        except KbsyncError as error:
            log.error("run failed", error=str(error))
        except Exception:  # a fault of ours: its run says failed, and the next one may well succeed
            log.exception("run failed")
        else:
            log.info(
                "run ended", run=report.run_id, status=str(report.status), reason=report.reason,
                seconds=round(report.seconds, 1),
            )  # fmt: skip


def run_daemon(settings: Settings, progress: Progress, standby: bool = False) -> None:
    """Run the daemon until SIGTERM or Ctrl-C, which end a run under way at its last committed step.

    `standby` waits while another daemon leads, and takes over when it is gone.
    """
    daemon = Daemon(settings, progress, standby=standby)

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        daemon.stop()
        raise KeyboardInterrupt

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        daemon.run()
    except KeyboardInterrupt:
        log.info("daemon stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
