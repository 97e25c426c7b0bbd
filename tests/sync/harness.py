"""A kbsync that is put back to one moment again and again: killed, failed or stopped, then healed and compared.

The moment: it has synced the first window, and the world has gone on to the second. Children are forked, so that a
kill costs a sync and not the import of torch.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kbsync import failpoints
from kbsync.cli.main import main
from kbsync.errors import KbsyncError
from kbsync.store.tables import RunStatus
from tests.sync.content import Content
from tests.sync.rig import Rig
from tests.sync.world import WINDOW_1, WINDOW_2

FAILURES = {  # what fails, at each of its turns
    "commit, disk full": "commit.before=full",
    "commit, I/O error": "commit.before=error",
    "commit, connection lost before": "commit.before=gone",
    "commit, connection lost after": "commit.after=gone",
    "fsync, I/O error": "fsync.before=error",
    "fsync, disk full": "fsync.before=full",
    "rename, I/O error": "rename.before=error",
    "rename, done but reported as failed": "rename.after=error",
    "write, disk full": "write.before=full",
    "write, I/O error after": "write.after=error",
    "HTTP, connection reset": "http.before=gone",
    "HTTP, answer lost": "http.after=gone",
}


@dataclass
class Bed:
    """The rig, how its store is put back, and what an undisturbed sync leaves."""

    rig: Rig
    kept: Path
    content: Content
    _trace: list[tuple[str, str]] = field(default_factory=list)

    @property
    def store(self) -> str:
        """The kind of store, `sqlite` or `postgres`."""
        return self.rig.stores.name

    def enter(self) -> None:
        """Bring the world to the moment; syncs do not change it."""
        self.rig.world.reset()
        self.rig.world.changes(*WINDOW_1)
        self.rig.world.changes(*WINDOW_2)
        self.reset()

    def reset(self) -> None:
        """Bring store and checkpoints back to the moment."""
        self.rig.put_back(self.kept)

    def trace(self) -> list[tuple[str, str]]:
        """Every failpoint that an undisturbed sync comes by, in its order, each with the function it is in."""
        if not self._trace:
            self.reset()
            plan = failpoints.arm("")
            try:
                self.rig.sync()
            finally:
                failpoints.disarm()
            self._trace = plan.trace
        return self._trace

    def heal(self, what: str) -> None:
        """One normal run, and then everything is as an undisturbed run leaves it, bit for bit."""
        from tests.sync.content import read_content

        report = self.rig.sync()
        assert report.status in (RunStatus.PUBLISHED, RunStatus.UNCHANGED), what
        found = read_content(self.rig)
        for name, rows in self.content.rows.items():
            assert found.rows[name] == rows, (what, name)
        assert found.targets == self.content.targets, what
        assert self.rig.link() == self.rig.published(), what
        assert [p.name for p in self.rig.checkpoints.glob(".tmp-*")] == [], what
        assert self.rig.rows("SELECT id FROM runs WHERE status = 'running'") == [], what

    def kill_at(self, number: int) -> None:
        """SIGKILL at the `number`-th failpoint of a sync, whichever it is; then heal."""
        what = f"killed at {number}: {' in '.join(self.trace()[number - 1])}"
        self.reset()
        status = wait(fork(self.rig.sync, f"*=kill@{number}"))
        assert os.WIFSIGNALED(status), what
        assert os.WTERMSIG(status) == signal.SIGKILL, what
        self.heal(what)

    def kill_after(self, seconds: float, number: int = signal.SIGKILL) -> int:
        """A signal after some time, wherever the sync is then; then heal. The status that the child ended with."""
        self.reset()
        child = fork(self.rig.sync)
        time.sleep(seconds)
        os.kill(child, number)
        status = wait(child)
        self.heal(f"signal {number} after {seconds:.3f} s")
        return status

    def fail_at(self, rule: str, number: int) -> bool:
        """Let the `number`-th hit of a rule fail; whether it came to it. The run may heal by itself, or end by a
        named error, and the next one is as if nothing had been."""
        self.reset()
        plan, ended = failpoints.arm(f"{rule}@{number}"), ""
        try:
            self.rig.sync()
        except KbsyncError as error:
            ended = str(error)
        finally:
            failpoints.disarm()
        assert "\n" not in ended
        if plan.fired:
            self.heal(f"{rule}@{number} in {plan.fired[0][1]}")
        return bool(plan.fired)

    def command(self, *words: str, rules: str | None = None) -> int:
        """`kbsync` with these words as a child process, with the rig's settings; its id."""
        file = self.rig.folder / "kbsync.toml"
        file.write_text(self.rig.toml(schedule={"poll_s": 0.1}), encoding="utf-8")

        def work() -> None:
            sys.argv = ["kbsync", "-c", str(file), *words]
            try:
                main()
            finally:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is over: no signal may change how it ended

        return fork(work, rules)

    def until(self, sql: str, seconds: float = 60.0) -> None:
        """Wait until a query finds something."""
        until = time.monotonic() + seconds
        while not self.rig.rows(sql):
            assert time.monotonic() < until, f"it never came to this: {sql}"
            time.sleep(0.02)

    def ends_in_good_order(self, child: int, number: int, seconds: float) -> None:
        """A command that is told to stop ends within some seconds, by itself; then heal."""
        with suppress(ProcessLookupError):
            os.kill(child, number)
        code = os.waitstatus_to_exitcode(wait(child, seconds))
        assert code in (0, 130), code
        self.heal(f"signal {number}")

    def seconds(self) -> float:
        """How long an undisturbed sync of a forked child takes."""
        self.reset()
        began = time.monotonic()
        assert wait(fork(self.rig.sync)) == 0
        return time.monotonic() - began


def fork(work: Callable[[], object], rules: str | None = None) -> int:
    """A child process that does the work with these failpoints, and exits with 0 or its error's code.

    It has all modules imported already, and only the thread of the caller goes on in it. Libraries keep pools of
    threads that wait for work; what they do in a child is single-threaded. That a child which nobody disturbs comes
    through is checked by `Bed.seconds`.
    """
    child = os.fork()
    if child:
        return child
    code = 99  # pragma: no cover -- the child's coverage is nobody's business
    try:
        os.setpgid(0, 0)
        if rules is not None:
            failpoints.arm(rules)
        work()
        code = 0
    except KbsyncError as error:
        code = error.exit_code
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 98
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int, seconds: float = 120.0) -> int:
    """The status that a child ends with. It is killed when it takes longer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"the child did not end within {seconds} s")


def wait_stopped(child: int) -> None:
    """Wait until a child has stopped itself."""
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"it did not stop but end with {status}"


def sampled(whole: Sequence[int], most: int, seed: int) -> list[int]:
    """Some of a sequence, always the same ones for a seed, in their order."""
    return sorted(random.Random(seed).sample(list(whole), min(most, len(whole))))
