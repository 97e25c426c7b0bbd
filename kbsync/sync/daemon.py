"""The daemon: syncs and reconciles by its agenda, when triggered through the store, and at once when overdue.

One thread works, so two runs never overlap. One daemon leads a store: it holds the leader's lease, whose epoch each
of its writes checks. Another one is refused, or stands by and takes over when the leader is gone.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import datetime, timedelta
from types import FrameType

import structlog

from kbsync.errors import KbsyncError, LeaseHeld, SourceError, Stopped, StoreError
from kbsync.settings import Settings, duration
from kbsync.store import pauses, touches, triggers
from kbsync.store.engine import Store
from kbsync.store.leases import Fence
from kbsync.store.pauses import Pause
from kbsync.store.tables import Wants
from kbsync.sync.clock import now
from kbsync.sync.follower import Follower
from kbsync.sync.leading import Leadership
from kbsync.sync.notify import Notifier
from kbsync.sync.overdue import look_back, prune_overdue
from kbsync.sync.progress import Progress
from kbsync.sync.pruning import prune
from kbsync.sync.pulse import Pulse, Ticking, Watchdog
from kbsync.sync.reconcile import ReconcileReport, reconcile_once
from kbsync.sync.run import STREAM, Report, sync_once
from kbsync.sync.stopping import ending_in_time
from kbsync.sync.timetable import Agenda
from kbsync.sync.workbench import Workbench

Work = Callable[[Workbench, str], Report | ReconcileReport]

log = structlog.get_logger("kbsync")

_AGAIN = timedelta(seconds=60)  # until work is tried again that another process's run has kept from starting
_BURST_S = 5.0  # between two runs that the stream asks for: edits come in bursts
_FOLLOWER_S = 2.0  # that the end waits for the stream's thread, which a silent connection may hold
_PRUNE_LOOK_S = 60.0  # between two looks whether it is time to prune
_BEHIND_S = 60.0  # between two tries to read what the endpoint did not show yet


class Daemon:
    """The long-running service on one store."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        sync: Callable[[Workbench, str], Report] = sync_once,
        reconcile: Callable[[Workbench, str], ReconcileReport] = reconcile_once,
        standby: bool = False,
        notifier: Notifier | None = None,
    ):
        self.settings = settings
        self._notifier, self.pulse = notifier or Notifier(), Pulse()
        self._watchdog = Watchdog(self.pulse, self._notifier, settings.schedule.stall_s)
        self.bench = Workbench(settings, Ticking(progress, self.pulse, self._notifier), self.pulse.beat)
        self._work_of: dict[Wants, Work] = {Wants.SYNC: sync, Wants.RECONCILE: reconcile}
        self._stop = threading.Event()
        self._touched = threading.Event()
        self._looked_at = 0.0
        self._pruned_at = float("-inf")
        self._agenda = Agenda.of(settings.schedule)
        self._standby, self._leads = standby, False

    def stop(self) -> None:
        """Ask the daemon to end; safe from a signal handler."""
        self._stop.set()

    @property
    def leads(self) -> bool:
        """Whether this daemon leads its store; one that stands by, or has lost the lead, does not."""
        return self._leads and not self._stop.is_set()

    def run(self) -> None:
        """Work until stopped.

        Raises LeaseHeld when another daemon is up on this store (one that stands by waits for its end instead), and
        when another one has taken over from this one.
        """
        try:
            store = self.bench.store
            self._leadership = Leadership(store, self._stop)
            with self._watchdog.watching():
                fence = self._lead()
                if fence is not None:
                    with store.fenced(fence):
                        self._work(store)
        finally:
            self._notifier.stopping()
            self.bench.close()
        if self._leadership.lost is not None:
            raise self._leadership.lost

    def _lead(self) -> Fence | None:
        """The leader's lease, at once or when the leader is gone; None when told to stop before that."""
        if not self._standby:
            return self._leadership.take()
        return self._leadership.stand_by(self.settings.schedule.poll_s, self._stands_by)

    def _stands_by(self) -> None:
        self.pulse.beat()
        self._notifier.ready()
        self._notifier.status("standing by: another daemon leads")

    def _work(self, store: Store) -> None:
        self._leads = True
        self._notifier.ready()
        with ExitStack() as stack:
            stack.enter_context(self._leadership.beating())
            follower = self._follow()
            if follower is not None:
                stack.callback(follower.stop, _FOLLOWER_S)
            stack.callback(self._stop.set)
            if self._look_back(store):
                self._loop(store)

    def _follow(self) -> Follower | None:
        """Follow the mutation stream, where the settings want it: a touched item is read within seconds."""
        if not self.settings.source.stream:
            return None
        self.bench.follows_stream = True
        follower = Follower(self.bench, self._touched.set)
        follower.start()
        return follower

    def _look_back(self, store: Store) -> bool:
        """See what should have been done while no daemon was up, and do it; wait for a store that is gone. False
        when told to stop before that."""
        while not self._stop.is_set():
            try:
                look_back(store, self._agenda, now())
                pause = self._pause(store)
            except StoreError as error:
                log.warning("the store can't be read", error=str(error))
                self.pulse.beat()
                self._stop.wait(self.settings.schedule.poll_s)
                continue
            if self._agenda.due(now(), pause) is Wants.SYNC:
                self._start(Wants.SYNC, "startup")
            return True
        return False

    def _loop(self, store: Store) -> None:
        while not self._stop.is_set():
            self.pulse.beat()
            try:
                self._turn(store)
            except StoreError as error:
                log.warning("the store can't be read", error=str(error))
            # Also after a run: a trigger that could not be taken (another process syncs) is not tried in a rush.
            self._stop.wait(self.settings.schedule.poll_s)

    def _turn(self, store: Store) -> None:
        """Start what is due or asked for, one thing at most. Who asks gets a run at any time; the rest is held back
        in quiet hours and in a pause. Raises StoreError when the store can't be read."""
        at, pause = now(), self._pause(store)
        self._tell(at, pause)
        due, free = self._agenda.due(at, pause), self._agenda.free(at, pause)
        if due is Wants.SYNC:
            self._start(Wants.SYNC, "schedule")
            return
        with store.read() as tx:
            wanted = {one.wants for one in triggers.waiting(tx)}
        if wanted:
            self._start(Wants.SYNC if Wants.SYNC in wanted else Wants.RECONCILE, "trigger")
        elif free and self._touches(store):
            self._once(self._work_of[Wants.SYNC], STREAM)
        elif due is Wants.RECONCILE:
            self._start(Wants.RECONCILE, "schedule")
        elif free:
            self._prune(store)

    def _pause(self, store: Store) -> Pause | None:
        with store.read() as tx:
            return pauses.paused(tx, now())

    def _tell(self, at: datetime, pause: Pause | None) -> None:
        """Let the heartbeat and the service manager know what comes next."""
        following = self._agenda.next_sync(at, pause)
        self._leadership.runs_next(following)
        state = "idle" if pause is None else "paused"
        words = "none" if following is None else f"{following:%Y-%m-%d %H:%M} UTC"
        self._notifier.status(f"{state}; next sync: {words}")

    def _touches(self, store: Store) -> bool:
        """Whether the stream has touched something, or the endpoint was behind with what it touched before."""
        since = time.monotonic() - self._looked_at
        news = self._touched.is_set()
        if not self.settings.source.stream or since < (_BURST_S if news else _BEHIND_S):
            return False
        self._looked_at = time.monotonic()
        with store.read() as tx:
            pending = bool(touches.pending(tx))
        self._touched.clear()
        return news or pending

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

    def _start(self, wants: Wants, trigger: str) -> None:
        """A whole run of a kind, from whose begin on its timetable counts. Where another process's run keeps it
        from starting, it is tried again in a minute."""
        at = now()
        timetable = self._agenda.sync if wants is Wants.SYNC else self._agenda.reconcile
        due = timetable.next_time(at)
        timetable.start(at)
        self._leadership.runs_next(self._agenda.sync.next_time(at))
        if not self._once(self._work_of[wants], trigger):
            timetable.wait_until(max(due or at, now() + _AGAIN))

    def _once(self, work: Work, trigger: str) -> bool:
        """One run; False when another process has the lease. A failure is logged and stored; the daemon goes on to
        the next time."""
        try:
            report = work(self.bench, trigger)
        except Stopped as error:
            log.info("stopped", reason=str(error))
            self._stop.set()
        except SourceError as error:
            log.warning("the source can't be read; the next run tries again", error=str(error))
        except LeaseHeld as error:
            log.warning("another process has the lease", error=str(error))
            self._leadership.see()
            return False
        except KbsyncError as error:
            log.error("run failed", error=str(error))
        except Exception:  # a fault of ours: its run says failed, and the next one may well succeed
            log.exception("run failed")
        else:
            log.info(
                "run ended", run=report.run_id, status=str(report.status), reason=report.reason,
                seconds=round(report.seconds, 1),
            )  # fmt: skip
        return True


def run_daemon(
    settings: Settings,
    progress: Progress,
    standby: bool = False,
    beside: Callable[[Daemon], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C, which end a run under way at its last committed step.

    `standby` waits while another daemon leads, and takes over when it is gone. Where a service manager asks for it
    (systemd's `NOTIFY_SOCKET`), it is told of the daemon's state, and its watchdog is fed while the work advances.
    `beside` is entered for as long as the daemon is there: what others see of it.
    """
    daemon = Daemon(settings, progress, standby=standby, notifier=Notifier.from_environment())

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        daemon.stop()
        raise KeyboardInterrupt

    with ending_in_time(settings.store.url, exit_code=0):
        before = {s: signal.signal(s, on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            with beside(daemon):
                daemon.run()
        except KeyboardInterrupt:
            log.info("daemon stopped")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
