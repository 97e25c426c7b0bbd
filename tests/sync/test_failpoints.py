"""Failpoints: each is real, and killed or failed there, the next run ends as if nothing had been."""

from __future__ import annotations

import os
import signal
import time

import pytest

from kbsync import failpoints
from kbsync.errors import ConfigError
from tests.sync.harness import FAILURES, Bed, sampled, wait

KILLS = {"sqlite": 2, "postgres": 3}  # of those that `make soak` makes in full; test_kills.py has more on SQLite
SHARES = {"sqlite": 0.85, "postgres": 0.15}  # of the time that a sync takes


def test_a_full_sync_comes_by_every_point(bed: Bed) -> None:
    """No registered failpoint is one that nothing ever reaches."""
    assert {name for name, _ in bed.trace()} == failpoints.POINTS


def test_every_commit_of_a_sync_is_between_two_points(bed: Bed) -> None:
    """Whatever commits has a failpoint before and one after it, in the same function."""
    commits = [(name, place) for name, place in bed.trace() if name.startswith("commit.")]
    before, after = commits[::2], commits[1::2]
    assert [place for _, place in before] == [place for _, place in after]
    assert {name for name, _ in before} == {"commit.before"}
    assert len(before) > 20


def test_killed_at_failpoints(bed: Bed) -> None:
    """SIGKILL at some of the failpoints, no two of one kind in one function; then one normal run."""
    firsts = {hit: number for number, hit in reversed(list(enumerate(bed.trace(), 1)))}
    for number in sampled(sorted(firsts.values()), KILLS[bed.store], seed=5):
        bed.kill_at(number)


def test_killed_at_random(bed: Bed) -> None:
    """SIGKILL at any time; then one normal run."""
    bed.kill_after(SHARES[bed.store] * bed.seconds())


@pytest.mark.parametrize("what", FAILURES)
def test_a_failure(own_bed: Bed, what: str) -> None:
    """In the middle of the run: a named error or none, and the next run heals."""
    own_bed.enter()
    name = FAILURES[what].partition("=")[0]
    turns = [one for one, _ in own_bed.trace()].count(name)
    assert own_bed.fail_at(FAILURES[what], (turns + 1) // 2)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "what",
    [
        "commit, disk full",
        "commit, connection lost after",
        "write, disk full",
        "HTTP, connection reset",
    ],
)
def test_a_failure_with_postgres(postgres_bed: Bed, what: str) -> None:
    """The same where the store is a server: it fails at a commit or is gone after it; or a file fails."""
    postgres_bed.enter()
    name = FAILURES[what].partition("=")[0]
    turns = [one for one, _ in postgres_bed.trace()].count(name)
    assert postgres_bed.fail_at(FAILURES[what], (2 * turns) // 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop(own_bed: Bed, number: int) -> None:
    """SIGTERM and Ctrl-C in the middle end the sync within ten seconds with code 130, and nothing is lost."""
    own_bed.enter()
    child = own_bed.command("sync", rules="stage.rebuild.begin=pause:60")
    own_bed.until("SELECT id FROM runs WHERE status = 'running' AND stage = 'rebuild'")
    began = time.monotonic()
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(wait(child)) == 130
    assert time.monotonic() - began < 10
    assert own_bed.rig.run_status() == ("interrupted", "stopped by the user")
    own_bed.heal(f"signal {number}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("commit.befor=kill", "names the failpoint 'commit.befor', which there is not"),
        ("commit.before=explode", "asks for 'explode'"),
        ("commit.before=kill@often", "can't be read at 'commit.before=kill@often'"),
    ],
)
def test_a_rule_that_can_not_be(text: str, error: str) -> None:
    """A misspelt rule is an error: it would test nothing."""
    with pytest.raises(ConfigError, match=error):
        failpoints.parse(text)


def test_nothing_is_switched_on() -> None:
    """Without the variable a failpoint does nothing, in less than a microsecond."""
    began = time.perf_counter()
    for _ in range(100_000):
        failpoints.hit("commit.before")
    assert time.perf_counter() - began < 0.1 * 5  # a busy machine
