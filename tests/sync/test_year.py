"""A year of days in one process: nothing that the process or its files have grows without end."""

from __future__ import annotations

import os
import re
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from kbsync.sync.inspect import verify_checkpoint
from tests.soak import record
from tests.sync.clock import Clock, install
from tests.sync.rig import Rig
from tests.sync.world import START
from tests.sync.year import RETENTION, Day, Year, median, quarters

KEPT = int(RETENTION["checkpoints_count"]) + 2  # what is counted, and what must stay beside it
HISTORY = 8000  # bytes of the database that one change may cost for good: it is what Wikidata said, and is kept
MARGINS = {"rss": 1.05, "files": 1.0, "threads": 1.0, "checkpoints": 1.25, "cache": 1.0, "seconds": 1.5}
DAYS = int(os.environ.get("KBSYNC_SOAK_DAYS", "365"))


@pytest.fixture
def year(fresh: Rig, monkeypatch: pytest.MonkeyPatch) -> Year:
    """The first day, by a clock that is set."""
    clock = Clock(START)
    install(monkeypatch, clock)
    return Year(fresh, clock)


def is_whole(year: Year, days: list[Day]) -> None:
    """The model holds what the world says and can be built again; what was pruned is gone."""
    year.holds_what_the_world_says()
    assert len(list(year.rig.checkpoints.glob("sync-*"))) <= KEPT
    assert year.rig.rows(
        "SELECT count(*) FROM runs WHERE status NOT IN ('published', 'unchanged', 'reconciled')"
    ) == [(0,)]
    assert year.prunes == len(days)
    assert year.rig.rows("SELECT count(*) FROM prunes") == [(len(days),)]
    with year.rig.bench(retention=RETENTION, edit={"steps": STEPS}) as bench:
        assert verify_checkpoint(bench, rebuild=True) == []


STEPS = 4


def test_a_week_and_a_day(year: Year) -> None:
    """Changes each day, one reconcile on Sunday, pruned each day: no file and no thread is left behind."""
    days = year.run(8, STEPS)
    assert year.reconciles == 1  # on the seventh of January 2024, a Sunday
    is_whole(year, days)
    assert {one.files for one in days[4:]} == {days[4].files}
    assert {one.threads for one in days[4:]} == {days[4].threads}
    assert days[-1].live > 0


@pytest.mark.soak("year")
@pytest.mark.timeout(0)
def test_a_year(year: Year) -> None:
    """The medians of the last quarter are those of the second, within margins; the ledger grows by what is kept."""
    began = time.monotonic()
    days = year.run(DAYS, STEPS)
    is_whole(year, days)
    assert abs(year.reconciles - DAYS // 7) <= 1
    for name, margin in MARGINS.items():
        second, last = quarters(days, name)
        assert last <= margin * second, (name, second, last)
    second, last = quarters(days, "database")
    assert last - second <= HISTORY * year.changes / 2, (second, last, year.changes)
    assert median(days, "live") >= 10
    figures = {name: quarters(days, name) for name in asdict(days[0])}
    drawn = [asdict(one) for one in days]
    store, took = year.rig.stores.name, time.monotonic() - began
    record("days in one process", store, DAYS, took, seed=1, quarters=figures, days=drawn)


def test_there_is_one_clock() -> None:
    """No module of kbsync but `sync/clock.py` asks what time it is, except where an answer of HTTP is read."""
    root = Path(__file__).parents[2] / "kbsync"
    asks = re.compile(r"datetime\.now\(|\btime\.time\(|utcnow|CURRENT_TIMESTAMP|func\.now")
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if asks.search(path.read_text("utf-8"))}
    found = {one for one in found if not one.startswith("bench/")}
    assert found == {"source/client.py", "source/stream.py", "sync/clock.py"}
