"""The daemon: on time, on a trigger, at once when it is overdue; one of it; and gone when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kbsync.errors import EndpointDown, LeaseHeld, Stopped, StoreError
from kbsync.settings import ScheduleSettings
from kbsync.store import daemons, pauses, runs, triggers
from kbsync.store.engine import Store, open_store
from kbsync.store.tables import RunStatus, Wants
from kbsync.sync.clock import now
from kbsync.sync.daemon import Daemon
from kbsync.sync.notify import Notifier
from kbsync.sync.overdue import last_reconcile, look_back
from kbsync.sync.progress import Silent
from kbsync.sync.reconcile import ReconcileReport, reconcile_once
from kbsync.sync.run import Report, sync_once
from kbsync.sync.timetable import Agenda
from kbsync.sync.workbench import Workbench
from tests.sync.rig import Rig
from tests.sync.test_notify import Manager

PATIENCE = timedelta(seconds=60)


@dataclass
class FakeSync:
    """A sync that only writes its run's row, and raises the next of `errors` if there is one."""

    errors: list[Exception | None] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    hold: threading.Event | None = None

    def __call__(self, bench: Workbench, trigger: str) -> Report:
        error = self.errors.pop(0) if self.errors else None
        if isinstance(error, LeaseHeld):  # refused: no row was written, the trigger waits on
            self.seen.append(trigger)
            raise error
        with bench.store.begin() as tx:
            run_id = runs.start_run(tx, trigger, now(), {})
            triggers.take(tx, run_id)
        self.seen.append(trigger)  # what is asked for from now on is for the next run
        if self.hold is not None:
            self.hold.wait(10)
        status = RunStatus.FAILED if error else RunStatus.UNCHANGED
        with bench.store.begin() as tx:
            runs.finish_run(tx, run_id, status, now(), str(error) if error else None)
            triggers.finish(tx, run_id, now())
        if error is not None:
            raise error
        return Report(run_id, status, None, {}, [], [], None, 0.0)


@dataclass
class FakeReconcile:
    """A reconcile that only writes its run's row."""

    seen: list[str] = field(default_factory=list)

    def __call__(self, bench: Workbench, trigger: str) -> ReconcileReport:
        with bench.store.begin() as tx:
            run_id = runs.start_run(tx, trigger, now(), {})
            triggers.take(tx, run_id, Wants.RECONCILE)
            runs.finish_run(tx, run_id, RunStatus.RECONCILED, now())
            triggers.finish(tx, run_id, now())
        self.seen.append(trigger)
        return ReconcileReport(run_id, RunStatus.RECONCILED, None, [], {}, {}, 0.0)


@contextmanager
def running(
    rig: Rig,
    sync: Callable[[Workbench, str], Report],
    full: Callable[[Workbench, str], ReconcileReport] | None = None,
    watch: dict[str, Any] | None = None,
    **schedule: object,
) -> Iterator[Daemon]:
    """A daemon at work in a thread, which has ended when the block has."""
    settings = rig.settings(schedule={"poll_s": 0.02, "reconcile": "off", **schedule}, watch=watch or {})
    daemon = Daemon(settings, Silent(), sync, full or FakeReconcile())
    failures: list[BaseException] = []

    def work() -> None:
        try:
            daemon.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join(20)
    assert not thread.is_alive()
    assert failures == []


@pytest.fixture
def store(fresh: Rig) -> Iterator[Store]:
    """The daemon's store, from another connection."""
    with open_store(fresh.settings().store.url) as one:
        yield one


def test_the_store_is_gone_as_it_starts(fresh: Rig, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that can't look back waits for the store, and then makes up for what it missed."""
    answers = [False, False, True]

    def look(store: Store, agenda: Agenda, at: datetime) -> None:
        if not answers.pop(0):
            raise StoreError("the store can't be reached")
        look_back(store, agenda, at)

    monkeypatch.setattr("kbsync.sync.daemon.look_back", look)
    sync = FakeSync()
    with running(fresh, sync):
        wait_for(lambda: sync.seen == ["startup"])
    assert answers == []


def wait_for(happened: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until it has happened."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def ask(store: Store) -> int:
    """Trigger a run, as another process would."""
    with store.begin() as tx:
        return triggers.request(tx, "tests", now())


def settled(store: Store, started: datetime, status: RunStatus = RunStatus.UNCHANGED) -> None:
    """A run that began and ended at a time."""
    with store.begin() as tx:
        runs.finish_run(tx, runs.start_run(tx, "schedule", started, {}), status, started)


def answered(store: Store, trigger: int) -> Callable[[], bool]:
    """Whether the trigger's run has ended."""

    def check() -> bool:
        with store.read() as tx:
            return triggers.state(tx, trigger).done_at is not None

    return check


def test_it_runs_at_start_when_overdue(fresh: Rig, store: Store) -> None:
    """A store that was never synced is synced at once, and the next run is on the schedule."""
    sync = FakeSync()
    with running(fresh, sync):
        wait_for(lambda: sync.seen == ["startup"])

        def told() -> bool:
            with store.read() as tx:
                one = daemons.latest(tx)
                return one is not None and one.next_run_at is not None

        wait_for(told)
        with store.read() as tx:
            one = daemons.latest(tx)
            assert one is not None
            assert one.is_up(now(), PATIENCE)
            assert one.pid == os.getpid()
            assert one.next_run_at is not None
            assert timedelta(minutes=59) < one.next_run_at - now() <= timedelta(minutes=60)


def test_it_reconciles_when_that_is_overdue(fresh: Rig, store: Store) -> None:
    """A full pass that was missed is made up for once, after the sync that is due; the next waits for its time."""
    settled(store, now() - timedelta(days=8))
    sync, reconcile = FakeSync(), FakeReconcile()
    with running(fresh, sync, reconcile, reconcile="0 4 * * 0"):
        wait_for(lambda: reconcile.seen == ["schedule"])
        assert sync.seen == ["startup"]
    with store.read() as tx:
        last = last_reconcile(tx)
    assert last is not None
    assert now() - last < timedelta(minutes=1)


def test_it_reconciles_on_a_trigger(fresh: Rig, store: Store) -> None:
    """A trigger that wants a reconcile gets one, and no sync."""
    settled(store, now())
    sync, reconcile = FakeSync(), FakeReconcile()
    with running(fresh, sync, reconcile):
        with store.begin() as tx:
            asked = triggers.request(tx, "tests", now(), Wants.RECONCILE)
        wait_for(answered(store, asked))
    assert (sync.seen, reconcile.seen) == ([], ["trigger"])


def test_it_waits_when_it_is_not_overdue(fresh: Rig, store: Store) -> None:
    """A restart shortly after a run does not run again."""
    settled(store, now())
    sync = FakeSync()
    with running(fresh, sync):
        wait_for(answered(store, ask(store)))
    assert sync.seen == ["trigger"]


def test_it_runs_on_schedule(fresh: Rig, store: Store) -> None:
    """When the interval has passed a run starts."""
    settled(store, now())
    sync = FakeSync()
    with running(fresh, sync, interval_minutes=0.002):
        wait_for(lambda: sync.seen.count("schedule") >= 2)


def test_it_runs_on_a_trigger(fresh: Rig, store: Store) -> None:
    """A trigger in the store is answered by a run, which the trigger names."""
    settled(store, now())
    sync = FakeSync()
    with running(fresh, sync):
        trigger = ask(store)
        wait_for(answered(store, trigger))
    with store.read() as tx:
        state = triggers.state(tx, trigger)
        run = runs.run_of(tx, state.taken_run or 0)
    assert (run.trigger, run.status) == ("trigger", RunStatus.UNCHANGED)


@pytest.mark.parametrize("wants", Wants)
@pytest.mark.parametrize(
    ("watch", "said"),
    [
        ({"relations": []}, "watch.relations is empty"),
        ({"subjects_file": {"P6": "/nowhere/ids.txt"}}, "the list of subjects /nowhere/ids.txt can't be read"),
        ({"where": {"P6": "?item a ?class . SERVICE <http://a.b/> { ?item a ?c }"}}, "watch.where.P6: "),
    ],
)
def test_a_trigger_while_there_is_nothing_to_watch(
    fresh: Rig, store: Store, wants: Wants, watch: dict[str, Any], said: str
) -> None:
    """A run that fails by name answers it, once; the daemon goes on, and does not try again at each look."""
    settled(store, now())
    tries: list[str] = []

    def sync(bench: Workbench, trigger: str) -> Report:
        tries.append(trigger)
        return sync_once(bench, trigger)

    def full(bench: Workbench, trigger: str) -> ReconcileReport:
        tries.append(trigger)
        return reconcile_once(bench, trigger)

    with store.begin() as tx:
        asked = triggers.request(tx, "tests", now(), wants)
    with running(fresh, sync, full, watch):
        wait_for(lambda: len(tries) > 1 or answered(store, asked)())
        time.sleep(0.3)  # a dozen looks
        assert tries == ["trigger"]
        wait_for(answered(store, ask(store)))
    with store.read() as tx:
        run = runs.run_of(tx, triggers.state(tx, asked).taken_run or 0)
    assert run.status is RunStatus.FAILED
    assert said in (run.reason or "")


def test_triggers_are_coalesced(fresh: Rig, store: Store) -> None:
    """Three triggers that wait are answered by one run; one that comes while it runs, by a second."""
    settled(store, now())
    asked = [ask(store) for _ in range(3)]
    sync = FakeSync(hold=threading.Event())
    assert sync.hold is not None
    with running(fresh, sync):
        wait_for(lambda: sync.seen == ["trigger"])
        late = ask(store)
        sync.hold.set()
        wait_for(answered(store, late))
    assert sync.seen == ["trigger", "trigger"]
    with store.read() as tx:
        assert len({triggers.state(tx, one).taken_run for one in asked}) == 1


def test_a_trigger_that_is_refused_is_not_tried_in_a_rush(fresh: Rig, store: Store) -> None:
    """While another process syncs, the daemon looks again at its own pace, and answers in the end."""
    settled(store, now())
    sync = FakeSync(errors=[LeaseHeld("run 7 is running"), LeaseHeld("run 7 is running")])
    began = time.monotonic()
    with running(fresh, sync, poll_s=0.2):
        wait_for(answered(store, ask(store)))
    assert sync.seen == ["trigger"] * 3
    assert time.monotonic() - began > 0.4


def paused(store: Store, until: datetime | None = None) -> None:
    """Pause, as another process would."""
    with store.begin() as tx:
        pauses.pause(tx, "tests", now(), until, "moving")


def resumed(store: Store) -> None:
    with store.begin() as tx:
        pauses.resume(tx, "tests", now())


def test_any_number_of_triggers_in_a_run_are_one_more(fresh: Rig, store: Store) -> None:
    """However many come while it runs, one run answers them all, and no third one follows."""
    settled(store, now())
    sync = FakeSync(hold=threading.Event())
    assert sync.hold is not None
    with running(fresh, sync):
        first = ask(store)
        wait_for(lambda: sync.seen == ["trigger"])
        late = [ask(store) for _ in range(5)]
        sync.hold.set()
        for one in (first, *late):
            wait_for(answered(store, one))
        time.sleep(0.2)
    assert sync.seen == ["trigger", "trigger"]
    with store.read() as tx:
        assert len({triggers.state(tx, one).taken_run for one in late}) == 1


def test_paused_nothing_starts_but_what_is_asked_for(fresh: Rig, store: Store) -> None:
    """An overdue daemon that is paused waits, and tells so; a trigger is answered; resumed, it catches up once."""
    paused(store)
    sync, full = FakeSync(), FakeReconcile()
    with running(fresh, sync, full, interval_minutes=0.002, reconcile="* * * * *"):
        wait_for(answered(store, ask(store)))
        time.sleep(0.3)
        assert sync.seen == ["trigger"]
        with store.read() as tx:
            one = daemons.latest(tx)
        assert one is not None
        assert one.next_run_at is None
        resumed(store)
        wait_for(lambda: "schedule" in sync.seen)
    assert full.seen == []


def test_a_pause_that_ends_by_itself(fresh: Rig, store: Store) -> None:
    """At its time the work that was due begins."""
    paused(store)
    sync = FakeSync()
    with running(fresh, sync, interval_minutes=0.002):
        wait_for(answered(store, ask(store)))
        assert sync.seen == ["trigger"]
        paused(store, end := now() + timedelta(seconds=0.5))
        wait_for(lambda: "schedule" in sync.seen)
        assert now() >= end


def test_quiet_hours_let_only_triggers_through(fresh: Rig, store: Store) -> None:
    """A daemon that is overdue in its quiet hours waits for their end."""
    hours = f"{now() - timedelta(hours=1):%H:%M}-{now() + timedelta(hours=1):%H:%M}"
    sync = FakeSync()
    with running(fresh, sync, quiet_hours=hours):
        time.sleep(0.2)
        assert sync.seen == []
        wait_for(answered(store, ask(store)))
    assert sync.seen == ["trigger"]


def test_the_clock_steps_back_under_a_daemon(fresh: Rig, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By two days: the next run is an interval away, and not two days."""
    settled(store, now())
    sync, back = FakeSync(), timedelta(0)
    monkeypatch.setattr("kbsync.sync.daemon.now", lambda: now() - back)
    with running(fresh, sync, interval_minutes=0.01):
        wait_for(lambda: "schedule" in sync.seen)
        back = timedelta(days=2)
        seen = len(sync.seen)
        wait_for(lambda: len(sync.seen) > seen + 1, 5)


def test_a_run_that_was_kept_from_starting_is_tried_again(fresh: Rig, store: Store) -> None:
    """Not at the schedule's next time, which may be a week away, but in a minute."""
    settled(store, now() - timedelta(days=1))
    sync = FakeSync(errors=[LeaseHeld("run 7 is running")])
    with running(fresh, sync):
        wait_for(lambda: sync.seen == ["startup"])

        def soon() -> bool:
            with store.read() as tx:
                one = daemons.latest(tx)
            return (
                one is not None and one.next_run_at is not None and one.next_run_at < now() + timedelta(minutes=2)
            )

        wait_for(soon)


def test_the_service_manager_is_told(fresh: Rig, store: Store, tmp_path: Path) -> None:
    """Ready once it leads, then what it does, then that it stops; and its watchdog is fed."""
    settled(store, now())
    manager = Manager(str(tmp_path / "notify"))
    settings = fresh.settings(schedule={"poll_s": 0.02, "reconcile": "off"})
    daemon = Daemon(settings, Silent(), FakeSync(), notifier=Notifier(manager.address, 0.6))
    thread = threading.Thread(target=daemon.run, daemon=True)
    thread.start()
    heard = [manager.next()]
    while not heard[-1].startswith("STATUS=idle"):
        heard.append(manager.next())
    daemon.stop()
    thread.join(20)
    heard += manager.told()
    manager.close()
    assert heard.count("READY=1") == 1
    assert "WATCHDOG=1" in heard
    assert any(one.startswith("STATUS=idle; next sync: 20") for one in heard)
    assert "STOPPING=1" in heard


def test_a_failed_run_does_not_end_it(fresh: Rig, store: Store) -> None:
    """Neither an endpoint that is down nor a fault of our own ends the daemon: it runs again when asked."""
    sync = FakeSync(errors=[EndpointDown("no answer"), RuntimeError("unforeseen")])
    with running(fresh, sync):
        wait_for(lambda: sync.seen == ["startup"])
        wait_for(answered(store, ask(store)))
        wait_for(answered(store, ask(store)))
    assert sync.seen == ["startup", "trigger", "trigger"]
    with store.read() as tx:
        assert [run.status for run in runs.runs(tx)] == ["unchanged", "failed", "failed"]


def test_a_stopped_run_ends_it(fresh: Rig, store: Store) -> None:
    """A run that was told to stop stops the daemon too."""
    sync = FakeSync(errors=[Stopped("stopped by the user")])
    Daemon(fresh.settings(), Silent(), sync).run()
    assert sync.seen == ["startup"]
    with store.read() as tx:
        one = daemons.latest(tx)
    assert one is not None
    assert one.stopped_at is not None


def test_only_one(fresh: Rig, store: Store) -> None:
    """A second daemon on one store is refused with the pid of the first; a dead one does not count."""
    sync = FakeSync()
    with running(fresh, sync):
        wait_for(lambda: sync.seen == ["startup"])
        with pytest.raises(LeaseHeld, match=rf"pid {os.getpid()} on .*stop it first"):
            Daemon(fresh.settings(), Silent(), sync).run()
    with store.begin() as tx:
        tx.execute(text("UPDATE daemons SET stopped_at = NULL, pid = 4194304"))
    with running(fresh, sync):
        wait_for(answered(store, ask(store)))


def test_it_says_that_it_has_stopped(fresh: Rig, store: Store) -> None:
    """After `stop` its row has an end, and it is not up."""
    sync = FakeSync()
    with running(fresh, sync):
        wait_for(lambda: sync.seen == ["startup"])
    with store.read() as tx:
        one = daemons.latest(tx)
        assert daemons.up(tx, now(), PATIENCE) == []
    assert one is not None
    assert one.stopped_at is not None
    assert one.next_run_at is None


AT = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ended", "schedule", "due"),
    [
        ([], {}, True),
        ([(59, RunStatus.UNCHANGED)], {}, False),
        ([(60, RunStatus.UNCHANGED)], {}, True),
        ([(200, RunStatus.PUBLISHED)], {}, True),
        ([(10, RunStatus.PUBLISHED)], {}, False),
        ([(10, RunStatus.REJECTED)], {}, False),
        ([(10, RunStatus.FAILED)], {}, True),
        ([(10, RunStatus.INTERRUPTED)], {}, True),
        ([(30, RunStatus.UNCHANGED), (10, RunStatus.FAILED)], {}, False),
        ([(90, RunStatus.UNCHANGED), (10, RunStatus.FAILED)], {}, True),
        ([(30, RunStatus.UNCHANGED)], {"interval_minutes": 15}, True),
        ([(30, RunStatus.UNCHANGED)], {"cron": "45 11 * * *"}, True),
        ([(10, RunStatus.UNCHANGED)], {"cron": "45 11 * * *"}, False),
        ([(15, RunStatus.UNCHANGED)], {"cron": "45 11 * * *"}, False),
        ([(60 * 24, RunStatus.UNCHANGED)], {"cron": "0 12 * * *"}, True),
        ([(60 * 23, RunStatus.UNCHANGED)], {"cron": "30 12 * * *"}, False),
    ],
)
def test_overdue(store: Store, ended: list[tuple[int, RunStatus]], schedule: dict[str, object], due: bool) -> None:
    """A run is overdue when its time came after the last one that reached an end (minutes ago, in this table)."""
    for minutes, status in ended:
        settled(store, AT - timedelta(minutes=minutes), status)
    agenda = Agenda.of(ScheduleSettings.model_validate(schedule))
    look_back(store, agenda, AT)
    assert (agenda.due(AT, None) is Wants.SYNC) is due


def test_a_real_daemon(synced: Rig) -> None:
    """`kbsync run`: it catches up at start, answers a trigger with a run, and ends on SIGTERM within ten seconds
    with exit code 0."""
    file = synced.folder / "kbsync.toml"
    file.write_text(synced.toml(schedule={"poll_s": 0.1}), encoding="utf-8")
    synced.world.changes(("Q1012", "P6", "Q2026"))
    log = synced.folder / "daemon.log"
    with log.open("wb") as stream:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "kbsync.cli.main", "-c", str(file), "run"], stdout=stream, stderr=stream
        )
    try:
        with open_store(synced.settings().store.url) as store:
            trigger = ask(store)

            def ended() -> bool:
                assert daemon.poll() is None, log.read_text()
                return answered(store, trigger)()

            wait_for(ended, 120)
            with store.read() as tx:
                run = runs.run_of(tx, triggers.state(tx, trigger).taken_run or 0)
                assert (run.status, run.pid) == (RunStatus.PUBLISHED, daemon.pid)
            before = time.monotonic()
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0, log.read_text()
            assert time.monotonic() - before < 10
            with store.read() as tx:
                one = daemons.latest(tx)
            assert one is not None
            assert (one.pid, one.stopped_at is not None) == (daemon.pid, True)
    finally:
        daemon.kill()
        daemon.wait()
    assert "Traceback" not in log.read_text()
    assert synced.published() == synced.link() == "sync-000003"
