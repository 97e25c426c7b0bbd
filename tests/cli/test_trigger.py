"""`kbsync trigger` asks a daemon through the store, and ends as its run does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kbsync.store import daemons, runs, triggers
from kbsync.store.engine import Store, open_store
from kbsync.store.tables import RunStatus
from tests.cli.conftest import Call, data, error, url_of


@contextmanager
def daemon(config: Path, status: RunStatus | None) -> Iterator[Store]:
    """A daemon as the store sees one: up, and answering a trigger with a run that ends in `status`."""
    with open_store(url_of(config)) as store:
        with store.begin() as tx:
            number = daemons.start(tx, "elsewhere", 1, datetime.now(UTC))
        over = threading.Event()
        worker = threading.Thread(target=_answer, args=(store, status, over))
        worker.start()
        try:
            yield store
        finally:
            over.set()
            worker.join()
            with store.begin() as tx:
                daemons.stop(tx, number, datetime.now(UTC))


def _answer(store: Store, status: RunStatus | None, over: threading.Event) -> None:
    while status is not None and not over.wait(0.05):
        with store.begin() as tx:
            if triggers.waiting(tx):
                now = datetime.now(UTC)
                run = runs.start_run(tx, "trigger", now, {})
                triggers.take(tx, run)
                runs.finish_run(tx, run, status, now, "because")
                triggers.finish(tx, run, now)


def test_no_daemon(told: Call) -> None:
    """Nobody is up: code 9, what to do instead, and no trigger is left behind."""
    result = told("trigger", "--json")
    assert result.exit_code == 9
    assert error(result)["kind"] == "NotRunning"
    assert "`kbsync run`" in result.stderr
    assert data(told("sql", "SELECT * FROM triggers", "--json"))["rows"] == []


def test_asking_without_waiting(told: Call, config: Path) -> None:
    """The trigger is a row that says who asked, and the command ends at once."""
    with daemon(config, None):
        assert data(told("trigger", "--json")) == {"trigger": 1, "run": None, "status": None, "reason": None}
        assert "asked for a sync (trigger 2)" in told("trigger").stdout
    ((by, run),) = data(told("sql", "SELECT requested_by, taken_run FROM triggers LIMIT 1", "--json"))["rows"]
    assert "@" in by
    assert run is None


@pytest.mark.parametrize("status", [RunStatus.PUBLISHED, RunStatus.UNCHANGED])
def test_waiting_for_a_good_end(told: Call, config: Path, status: RunStatus) -> None:
    """The run's number and status, and code 0."""
    with daemon(config, status):
        assert data(told("trigger", "--wait", "--json")) == {
            "trigger": 1,
            "run": 4,
            "status": status.value,
            "reason": "because",
        }
        assert told("trigger", "--wait").stdout == f"run 5 {status.value}: because\n"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (RunStatus.REJECTED, 7, "GateRefused"),
        (RunStatus.FAILED, 1, "KbsyncError"),
        (RunStatus.INTERRUPTED, 1, "KbsyncError"),
    ],
)
def test_waiting_for_a_bad_end(told: Call, config: Path, status: RunStatus, code: int, kind: str) -> None:
    """A refusal has its own code, also when somebody else ran the sync."""
    with daemon(config, status):
        result = told("trigger", "--wait", "--json")
    assert result.exit_code == code
    assert error(result)["kind"] == kind
    assert f"run 4 {status.value}: because" in result.stderr


def test_waiting_too_long(told: Call, config: Path) -> None:
    """--timeout ends the wait, not the run."""
    began = time.monotonic()
    with daemon(config, None):
        result = told("trigger", "--wait", "--timeout", "0.3")
    assert result.exit_code == 1
    assert "trigger 1 is not done" in result.stderr
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("seconds", ["nan", "inf"])
def test_a_timeout_that_is_no_number(told: Call, config: Path, seconds: str) -> None:
    """It would wait for ever, or end in a traceback; no trigger is left behind."""
    with daemon(config, None):
        result = told("trigger", "--wait", "--timeout", seconds)
    assert result.exit_code == 2
    assert "--timeout: a number is needed that is finite" in result.stderr
    assert data(told("sql", "SELECT * FROM triggers", "--json"))["rows"] == []


def test_the_daemon_stops_meanwhile(told: Call, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for somebody who has gone ends with 9, not at the timeout."""
    sleep = time.sleep

    def stop_then_sleep(seconds: float) -> None:
        with open_store(url_of(config)) as store, store.begin() as tx:
            daemons.stop(tx, 1, datetime.now(UTC))
        sleep(0)

    with daemon(config, None):
        monkeypatch.setattr("kbsync.cli.trigger.time.sleep", stop_then_sleep)
        assert told("trigger", "--wait").exit_code == 9
