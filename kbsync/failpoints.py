"""Named places where a test can let a run die, fail or wait. Nothing in production but one comparison.

    KBSYNC_FAILPOINT="rename.before=kill@2"           SIGKILL at the second rename
    KBSYNC_FAILPOINT="commit.before=full"             the first commit finds no room on the disk
    KBSYNC_FAILPOINT="stage.solve.begin=pause:5"      waits for five seconds there, e.g. to be stopped
    KBSYNC_FAILPOINT="fsync.before=error@3;http.*=gone@9"

A rule is `name=action@n`: a name or a pattern of `POINTS`, what happens, and at which hit of it (the first unless
said). The variable is read once, when this module is imported. Actions: `kill`, `stop` (SIGSTOP, until somebody
sends SIGCONT), `pause:seconds`, and the failures, which the point turns into the error that its real part would
raise: `error` (the disk or the server reports one), `full` (no room), `gone` (the connection is lost).
"""

from __future__ import annotations

import errno
import fnmatch
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from kbsync.errors import ConfigError

VARIABLE = "KBSYNC_FAILPOINT"
FAILURES = ("error", "full", "gone")
_STAGES = ("pull", "plan", "solve", "rebuild", "evaluate", "gate", "publish")
_STEPS = ("commit", "fsync", "rename", "write", "http")

POINTS = frozenset(
    {f"stage.{stage}.{edge}" for stage in _STAGES for edge in ("begin", "end")}
    | {f"{step}.{edge}" for step in _STEPS for edge in ("before", "after")}
)
_OWN = ("kbsync.failpoints", "kbsync.store.engine", "kbsync.disk", "kbsync.checkpoint.durable", "contextlib")


@dataclass(frozen=True, slots=True)
class Rule:
    """At the `at`-th hit of a point that `pattern` fits, `action` happens; `argument` is its seconds."""

    pattern: str
    action: str
    argument: float
    at: int


class Plan:
    """The rules that are switched on, and what was hit since: each hit as its name and the function it was in."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules
        self.trace: list[tuple[str, str]] = []
        self.fired: list[tuple[str, str]] = []
        self._hits: Counter[Rule] = Counter()
        self._lock = threading.Lock()

    def hit(self, name: str, failure: Callable[[str], BaseException]) -> None:
        """One hit: count it, and do what a rule says of it."""
        assert name in POINTS, f"{name} is not registered"
        with self._lock:
            self.trace.append((name, _place()))
            due = [rule for rule in self.rules if self._is_due(rule, name)]
            self.fired += [self.trace[-1] for _ in due]
        for rule in due:
            if rule.action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif rule.action == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif rule.action == "pause":
                time.sleep(rule.argument)
            else:
                raise failure(rule.action)

    def _is_due(self, rule: Rule, name: str) -> bool:
        if not fnmatch.fnmatchcase(name, rule.pattern):
            return False
        self._hits[rule] += 1
        return self._hits[rule] == rule.at


def os_failure(action: str) -> OSError:
    """What the operating system reports: an I/O error, a full disk, a connection that was reset."""
    code = {"error": errno.EIO, "full": errno.ENOSPC, "gone": errno.ECONNRESET}[action]
    return OSError(code, os.strerror(code))


def hit(name: str, failure: Callable[[str], BaseException] = os_failure) -> None:
    """This place was reached. `failure` makes the error that the real part would raise."""
    if _plan is not None:
        _plan.hit(name, failure)


def parse(text: str) -> list[Rule]:
    """The rules of `KBSYNC_FAILPOINT`. Raises ConfigError for a point or an action that there is not."""
    return [_rule(part.strip()) for part in text.split(";") if part.strip()]


def arm(text: str) -> Plan:
    """Switch rules on, in place of those that are on; an empty text only keeps the trace."""
    global _plan
    _plan = Plan(parse(text))
    return _plan


def disarm() -> None:
    """Switch everything off."""
    global _plan
    _plan = None


def _rule(text: str) -> Rule:
    pattern, _, rest = text.partition("=")
    what, _, number = rest.partition("@")
    action, _, argument = what.partition(":")
    if not fnmatch.filter(POINTS, pattern):
        raise ConfigError(f"{VARIABLE} names the failpoint {pattern!r}, which there is not")
    if action not in ("kill", "stop", "pause", *FAILURES):
        raise ConfigError(f"{VARIABLE} asks for {action!r}; write kill, stop, pause:seconds, {', '.join(FAILURES)}")
    try:
        return Rule(pattern, action, float(argument or 1), int(number or 1))
    except ValueError:
        raise ConfigError(f"{VARIABLE} can't be read at {text!r}; write name=action@number") from None


def _place() -> str:
    """The function that the hit is in, past those that only pass it on."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _OWN:
        frame = frame.f_back
    module = str(frame.f_globals.get("__name__", "?"))
    return f"{module.removeprefix('kbsync.')}.{frame.f_code.co_qualname}"


_plan: Plan | None = Plan(parse(os.environ[VARIABLE])) if os.environ.get(VARIABLE) else None
