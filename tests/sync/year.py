"""Day after day in one process: the world changes, kbsync reconciles, syncs and prunes when it is time, and what
the process and its files have become is measured.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from kbsync.settings import duration
from kbsync.store import prunes
from kbsync.store.tables import RunStatus
from kbsync.sync.overdue import look_back, prune_overdue
from kbsync.sync.pruning import prune
from kbsync.sync.reconcile import reconcile_once
from kbsync.sync.run import sync_once
from kbsync.sync.timetable import Agenda
from kbsync.sync.workbench import Workbench
from tests.sync.clock import Clock
from tests.sync.rig import Rig
from tests.sync.world import COUNTRIES, PEOPLE, RELATIONS, person

RETENTION = {
    "every": "23h", "checkpoints_count": 5, "outcomes_count": 10, "targets_age": "14d", "runs_age": "30d",
}  # fmt: skip
Pair = tuple[str, str]


@dataclass(frozen=True)
class Day:
    """What a day left: memory and files of the process, bytes on disk, live facts; and CPU seconds of its sync."""

    rss: int
    files: int
    threads: int
    database: int
    checkpoints: int
    cache: int
    live: int
    seconds: float


NAMES = tuple(one.name for one in fields(Day))


def median(days: Sequence[Day], name: str) -> float:
    """The middle of one figure."""
    return float(statistics.median(getattr(one, name) for one in days))


def quarters(days: Sequence[Day], name: str) -> tuple[float, float]:
    """The medians of the second and of the last quarter: by the second everything has come to its size."""
    quarter = len(days) // 4
    return median(days[quarter : 2 * quarter], name), median(days[-quarter:], name)


class Year:
    """A rig, a clock, and chance with a seed."""

    def __init__(self, rig: Rig, clock: Clock, seed: int = 1) -> None:
        self.rig, self.clock, self.chance = rig, clock, random.Random(seed)
        self.there: dict[Pair, str] = {}
        for i, country in enumerate(COUNTRIES):
            self.there |= {(country, RELATIONS[0]): person(i), (country, RELATIONS[1]): person(31 - i)}
        self.first = dict(self.there)
        self.pairs = sorted(self.there)
        self.changes = self.reconciles = self.prunes = 0

    def run(self, days: int, steps: int) -> list[Day]:
        """The first pull, and then so many days. More steps for each z make a day longer."""
        self.clock.set(self.rig.world.now)
        with self.rig.bench(retention=RETENTION, edit={"steps": steps}) as bench:
            sync_once(bench)
            return [self.day(bench) for _ in range(days)]

    def day(self, bench: Workbench) -> Day:
        """Edits, and then what a daemon does when it looks at its clock."""
        world, settings = self.rig.world, bench.settings
        world.now += timedelta(hours=23)
        edits = list(self.edits())
        self.changes += len(edits)
        world.changes(*edits)
        self.clock.set(world.now + timedelta(minutes=1))
        agenda = Agenda.of(settings.schedule)
        look_back(bench.store, agenda, self.clock())
        if agenda.reconcile.due(self.clock()):
            self.reconciles += 1
            reconcile_once(bench)
        began = time.process_time()
        report = sync_once(bench, "schedule")
        seconds = time.process_time() - began
        assert report.status in (RunStatus.PUBLISHED, RunStatus.UNCHANGED), report
        if prune_overdue(bench.store, duration(settings.retention.every), self.clock()):
            self.prunes += 1
            prune(bench.store, settings, "daemon")
        return self.measured(bench, seconds)

    def edits(self) -> Iterable[tuple[str, str, str | None]]:
        """One to three pairs get another person, lose theirs, or get one again."""
        for pair in self.chance.sample(self.pairs, self.chance.randint(1, 3)):
            who = person(self.chance.randrange(len(PEOPLE)))
            if pair in self.there and (self.there[pair] == who or self.chance.random() < 0.3):
                del self.there[pair]
                yield (*pair, None)
            else:
                self.there[pair] = who
                yield (*pair, who)

    def measured(self, bench: Workbench, seconds: float) -> Day:
        """The process and its files now."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        with bench.store.read() as tx:
            live = tx.execute(text("SELECT count(*) FROM live_facts")).scalar_one()
            assert prunes.last_prune(tx) is not None
        return Day(
            rss=pages * os.sysconf("SC_PAGE_SIZE"),
            files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            threads=sum(1 for _ in Path("/proc/self/task").iterdir()),
            database=self.rig.stores.size(self.rig.place),
            checkpoints=tree(self.rig.checkpoints),
            cache=tree(self.rig.cache),
            live=live,
            seconds=seconds,
        )

    def holds_what_the_world_says(self) -> None:
        """Each fact that the model holds is true, and each that has come since the first day is held."""
        held = self.rig.rows("SELECT subject, relation, object FROM live_facts")
        assert {(subject, relation): who for subject, relation, who in held}.items() <= self.there.items()
        come = {pair for pair, who in self.there.items() if self.first.get(pair) != who}
        assert come <= {(subject, relation) for subject, relation, _ in held}


def tree(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
