"""One writer: whoever was paused beyond its lease writes nothing when it wakes. Real processes, really stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text

from kbsync.errors import CheckpointError, LeaseHeld, StoreError
from kbsync.store import daemons, leases, runs, schema, triggers
from kbsync.store.engine import open_store
from kbsync.store.tables import RunStatus
from kbsync.sync.clock import now
from kbsync.sync.run import begin, carried
from tests.sync.harness import Bed, fork, wait, wait_stopped

HELD = LeaseHeld.exit_code
PAUSES = ("stage.solve.begin", "stage.publish.begin", "stage.publish.end")


def time_passes(bed: Bed, table: str) -> None:
    """Ten minutes without a beat."""
    old = now() - timedelta(minutes=10)
    with open_store(bed.rig.settings().store.url) as store, store.begin() as tx:
        rows = {"runs": "status = 'running'", "daemons": "stopped_at IS NULL"}
        value = old.isoformat(timespec="microseconds").replace("+00:00", "Z")
        tx.execute(text(f"UPDATE {table} SET beat_at = :old WHERE {rows[table]}"), {"old": value})


@contextmanager
def stopped_at(bed: Bed, rules: str) -> Iterator[int]:
    """A sync in a child that stops itself at a failpoint, and is dead when the block ends."""
    child = fork(bed.rig.sync, rules)
    try:
        wait_stopped(child)
        yield child
    finally:
        kill(child)


def goes_on(child: int) -> int:
    """Wake it; the code that it exits with."""
    os.kill(child, signal.SIGCONT)
    return os.waitstatus_to_exitcode(wait(child))


@pytest.mark.parametrize("where", PAUSES)
def test_a_paused_run_can_not_write_any_more(own_bed: Bed, where: str) -> None:
    """Stopped there beyond its lease; another sync takes over and ends. Awake, the first one changes nothing and
    ends with the lease's own code."""
    own_bed.enter()
    is_fenced(own_bed, where)


@pytest.mark.postgres
def test_a_paused_run_on_postgres(postgres_bed: Bed) -> None:
    """The same in the moment before it would go live."""
    postgres_bed.enter()
    is_fenced(postgres_bed, "stage.publish.begin")


def is_fenced(bed: Bed, where: str) -> None:
    """Stop a sync there, let another one take over, and wake it."""
    child = fork(bed.rig.sync, f"{where}=stop")
    wait_stopped(child)
    time_passes(bed, "runs")
    bed.heal(f"took over from a run that was stopped at {where}")
    ((reason,),) = bed.rig.rows("SELECT reason FROM runs WHERE status = 'interrupted'")
    assert "no sign of life" in reason
    before = everything(bed)
    assert goes_on(child) == HELD
    assert everything(bed) == before
    assert bed.rig.link() == bed.rig.published()


def everything(bed: Bed) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables that a run writes to."""
    tables = ("runs", "run_stages", "facts", "changes", "edit_requests", "targets", "checkpoints", "publications")
    return {name: sorted(bed.rig.rows(f"SELECT * FROM {name}"), key=repr) for name in tables}


def test_a_run_within_its_lease_is_left_alone(bed: Bed) -> None:
    """While the lease lasts, a second sync is refused with a code of its own, and the first one ends in peace."""
    child = fork(bed.rig.sync, "stage.solve.begin=stop")
    wait_stopped(child)
    with pytest.raises(LeaseHeld, match=rf"is running \(process {child} on .*, stage solve\)"):
        bed.rig.sync()
    second = bed.command("sync")
    assert os.waitstatus_to_exitcode(wait(second)) == HELD
    assert goes_on(child) == 0
    bed.heal("after a run that was only slow")


def test_paused_with_the_checkpoints_lock(own_bed: Bed) -> None:
    """A process that is stopped while it writes files keeps the folder's lock: who takes over says so by name, and
    goes on once it is gone."""
    own_bed.enter()
    with stopped_at(own_bed, "write.before=stop"):
        time_passes(own_bed, "runs")
        with pytest.raises(CheckpointError, match="another kbsync is writing"):
            own_bed.rig.sync()
    own_bed.heal("after a process that kept the lock")


@pytest.mark.postgres
def test_paused_inside_a_transaction(postgres_bed: Bed) -> None:
    """A server ends a transaction whose client says nothing; what it had written is gone, and so is its writer."""
    postgres_bed.enter()
    with stopped_at(postgres_bed, "commit.before=stop@9") as child:
        time_out(postgres_bed)
        time_passes(postgres_bed, "runs")
        postgres_bed.heal("took over from a transaction")
        before = everything(postgres_bed)
        assert goes_on(child) in (HELD, StoreError.exit_code)
        assert everything(postgres_bed) == before


def time_out(bed: Bed) -> None:
    """What the server does once `idle_in_transaction_session_timeout` has passed, in this database and no other:
    somebody else's tests may be on the same server."""
    assert bed.rig.rows("SHOW idle_in_transaction_session_timeout") == [("5min",)]
    bed.rig.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE state = 'idle in transaction' AND datname = current_database() AND pid <> pg_backend_pid()"
    )


def test_every_write_transaction_is_fenced(bed: Bed) -> None:
    """Once the lease is taken, no write transaction of the run begins any more, from whichever thread and room."""
    with bed.rig.bench() as bench:
        run_id = begin(bench, "manual", None)
        with open_store(bench.settings.store.url) as other, other.begin() as tx:
            leases.take(tx, leases.RUN)
        with pytest.raises(LeaseHeld, match=r"epoch \d+, ours was \d+"), carried(bench, run_id) as end:  # noqa: PT012
            with pytest.raises(LeaseHeld), bench.store.begin():
                raise AssertionError("it began")
            end(RunStatus.UNCHANGED, None)
        with bench.store.begin() as tx:  # outside the run the store is anybody's again
            assert runs.running(tx) is not None


def test_an_upgrade_takes_all_leases(bed: Bed) -> None:
    """A daemon that runs on while the schema is changed under it can't write into the new one."""
    url = bed.rig.settings().store.url
    with open_store(url) as store:
        with store.begin() as tx:
            fence = leases.take(tx, leases.LEADER)
        schema.downgrade(url, "0005")
        schema.upgrade(url, "0006")
        with store.begin() as tx:
            leases.take(tx, leases.LEADER)
        schema.upgrade(url, "0006")
        with store.fenced(fence), pytest.raises(LeaseHeld), store.begin():
            raise AssertionError("it began")


def led_by(bed: Bed) -> list[int]:
    """The processes of the daemons that are up."""
    with open_store(bed.rig.settings().store.url) as store, store.read() as tx:
        return [one.pid for one in daemons.up(tx, now(), timedelta(seconds=60))]


@pytest.fixture
def settled(bed: Bed) -> Bed:
    """A store in which no run is overdue."""
    bed.rig.sync()
    return bed


def test_two_daemons_and_a_kill(settled: Bed) -> None:
    """One leads, a second is refused with its own code, a third stands by; the leader is killed, it takes over."""
    leader = settled.command("run")
    settled.until(f"SELECT id FROM daemons WHERE pid = {leader}")
    assert os.waitstatus_to_exitcode(wait(settled.command("run"))) == HELD
    standby = settled.command("run", "--standby")
    try:
        assert led_by(settled) == [leader]
        os.kill(leader, signal.SIGKILL)
        os.waitpid(leader, 0)
        settled.until(f"SELECT id FROM daemons WHERE pid = {standby} AND stopped_at IS NULL", 20)
        assert led_by(settled) == [standby]
        os.kill(standby, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(wait(standby, 15)) == 0
    finally:
        for child in (leader, standby):
            kill(child)
    assert led_by(settled) == []


def test_a_paused_leader_is_replaced(settled: Bed) -> None:
    """A leader that is stopped beyond its lease, in the middle of a run: the one that stands by takes over and ends
    that run; awake, the old one changes nothing and ends with the lease's code."""
    leader = settled.command("run", rules="stage.pull.begin=stop")
    settled.until(f"SELECT id FROM daemons WHERE pid = {leader}")
    with open_store(settled.rig.settings().store.url) as store, store.begin() as tx:
        triggers.request(tx, "tests", now())
    wait_stopped(leader)
    standby = settled.command("run", "--standby")
    try:
        assert led_by(settled) == [leader]
        time_passes(settled, "daemons")
        settled.until(f"SELECT id FROM daemons WHERE pid = {standby} AND stopped_at IS NULL", 20)
        settled.until("SELECT id FROM triggers WHERE done_at IS NOT NULL")
        ((reason,),) = settled.rig.rows("SELECT reason FROM runs WHERE status = 'interrupted'")
        assert f"the daemon of process {leader}" in reason
        os.kill(leader, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(wait(leader, 30)) == HELD
        assert led_by(settled) == [standby]
    finally:
        for child in (leader, standby):
            kill(child)


def kill(child: int) -> None:
    """Whatever is left of it."""
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
