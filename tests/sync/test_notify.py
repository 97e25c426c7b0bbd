"""systemd is told on a real socket, and its watchdog is fed only while the work advances."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.sync.notify import Notifier
from kbsync.sync.progress import Silent
from kbsync.sync.pulse import Pulse, Ticking, Watchdog


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(10)

    def next(self) -> str:
        """What is told next."""
        return self._socket.recv(4096).decode("utf-8")

    def told(self) -> list[str]:
        """All that was told until now."""
        found = []
        self._socket.setblocking(False)
        try:
            while True:
                found.append(self._socket.recv(4096).decode("utf-8"))
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(10)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """One that listens."""
    path = str(tmp_path / "notify")
    one = Manager(path if request.param == "a path" else f"@kbsync-test-{os.getpid()}")
    yield one
    one.close()


def test_what_is_told(manager: Manager) -> None:
    """A datagram for each state; a status is told once, on one line."""
    one = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})
    one.ready()
    one.status("run 7:\nsolve")
    one.status("run 7:\nsolve")
    one.alive()
    one.stopping()
    assert manager.told() == ["READY=1", "STATUS=run 7: solve", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "90000000"}, 90.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "90000000", "WATCHDOG_PID": str(os.getpid())}, 90.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/x"}, None),
        ({"WATCHDOG_USEC": "90000000"}, None),
        ({}, None),
    ],
)
def test_who_watches(environment: dict[str, str], seconds: float | None) -> None:
    """The watchdog is for the process that it names, and only where there is a socket."""
    assert Notifier.from_environment(environment).watchdog_s == seconds


def test_nobody_listens(tmp_path: Path) -> None:
    """A manager that is gone, or was never there, is no failure."""
    Notifier(str(tmp_path / "gone")).ready()
    Notifier().ready()


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_hang_starves_the_watchdog(manager: Manager) -> None:
    """It is fed up to the bound after the last sign of progress and no longer, and again once work advances."""
    clock = Clock()
    pulse = Pulse(clock)
    dog = Watchdog(pulse, Notifier(manager.address, 90.0), stall_s=600)
    assert dog.look()
    clock.now += 600
    assert dog.look()
    clock.now += 1
    assert not dog.look()
    assert not dog.look()
    pulse.beat()
    assert dog.look()
    assert manager.told() == ["WATCHDOG=1"] * 3


def test_each_report_of_a_stage_is_a_beat(manager: Manager) -> None:
    """Begin, advance, total, describe, note and end; the manager is told the stage."""
    clock = Clock()
    pulse = Pulse(clock)
    progress = Ticking(Silent(), pulse, Notifier(manager.address))

    def beaten() -> bool:
        age, clock.now = pulse.age_s(), clock.now + 5
        return age == 0

    with progress.stage("solve", 3, "edits") as task:
        assert beaten()
        assert not beaten()
        assert pulse.at_work == "solve"
        for report in (
            lambda: task.advance(),
            lambda: task.total(4),
            lambda: task.describe("P6"),
            lambda: progress.note("slow"),
        ):
            report()
            assert beaten()
    assert beaten()
    assert pulse.at_work == ""
    assert manager.told() == ["STATUS=solve"]


def test_the_watchdog_is_fed_by_a_thread(manager: Manager) -> None:
    """Three times in the time that the manager waits, until the block ends; and never where nobody watches."""
    before = threading.active_count()
    with Watchdog(Pulse(), Notifier(manager.address, 0.06), 60).watching():
        assert [manager.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
    manager.told()
    with Watchdog(Pulse(), Notifier(manager.address, None), 60).watching():
        assert threading.active_count() == before
    assert manager.told() == []


def test_a_thread_that_hangs_the_work_is_not_taken_for_progress(manager: Manager) -> None:
    """The real thread with a real bound: fed, then starved while the stage stands still."""
    pulse = Pulse()
    with Watchdog(pulse, Notifier(manager.address, 0.03), stall_s=0.1).watching():
        assert manager.next() == "WATCHDOG=1"
        over = threading.Event()
        over.wait(0.3)
        manager.told()
        over.wait(0.2)
        assert manager.told() == []
        pulse.beat()
        assert manager.next() == "WATCHDOG=1"
