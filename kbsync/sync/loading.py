"""The first load of the watched relations from a dump, in place of their first pull from the endpoint.

The dump is read once into a scratch file (`kbsync.source.staging`), then goes into the store relation by relation,
page by page, as a first pull would. A relation whose first pull is complete already is left alone: a dump is older
than what is known. The tail then begins at the dump's own time, so nothing that was edited since is missed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from kbsync.errors import ConfigError
from kbsync.facts import UNTOLD_UNIT, Cursor, Item, Statement, Subjects, ValueKind
from kbsync.source import parse
from kbsync.source.dump import Dump, Format, open_dump, read
from kbsync.source.page import Page
from kbsync.source.staging import StagedPage, Staging
from kbsync.store import backfills, entities, known, runs
from kbsync.store.tables import RunStatus
from kbsync.sync import watching
from kbsync.sync.clock import now
from kbsync.sync.pages import take
from kbsync.sync.progress import Task
from kbsync.sync.run import begin, carried, check_watched
from kbsync.sync.workbench import Workbench

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load came to. `counts` by relation and named outcome; `triples` are those of the whole dump.

    `time` is where the tail begins. `run_id` is None when there was nothing to load. `complete` were left alone,
    since their first pull was complete; `left` are watched by a pattern, which no dump can be asked for.
    """

    run_id: int | None
    time: datetime | None
    triples: int
    read_s: float
    seconds: float
    counts: Mapping[str, Mapping[str, int]]
    complete: tuple[str, ...]
    left: tuple[str, ...] = ()


def load(bench: Workbench, path: Path, form: Format | None = None, as_of: datetime | None = None) -> Loaded:
    """Load the watched relations whose first pull is not complete from the dump at `path`.

    `as_of` is the dump's time where it does not tell one itself, and wins where it does. Raises ConfigError (no
    such file, no time), BadDump, StoreError, and Stopped on an interrupt; a load that was cut off by any of these
    goes on where it was when it is started again.
    """
    started = time.monotonic()
    dump = open_dump(path, form)
    check_watched(bench)
    with bench.store.read() as tx:
        watched = watching.watches(tx, bench.settings)
        # a filter that has changed since is the sync's to see to, like everything that is known already
        complete = tuple(one for one in watched if known.first_pull_complete(tx, one) is not None)
    left = tuple(one for one, watch in watched.items() if watch.subjects.where and one not in complete)
    chosen = {one: watch.subjects for one, watch in watched.items() if one not in (*complete, *left)}
    relations = list(chosen)
    if not relations:
        return Loaded(None, None, 0, 0.0, time.monotonic() - started, {}, complete, left)
    run_id = begin(bench, "load", None)
    with carried(bench, run_id, "stopped; the same command goes on from there") as end:
        loaded = _Load(bench, run_id, dump, chosen, as_of)
        counts = loaded.run()
        end(RunStatus.UNCHANGED, f"loaded {', '.join(relations)} from {path.name}")
    seconds = time.monotonic() - started
    return Loaded(run_id, loaded.time, loaded.triples, loaded.read_s, seconds, counts, complete, left)


class _Load:
    """One load under way."""

    def __init__(
        self, bench: Workbench, run_id: int, dump: Dump, chosen: dict[str, Subjects], as_of: datetime | None
    ) -> None:
        self.bench, self.run_id, self.dump, self.chosen = bench, run_id, dump, chosen
        self.relations = list(chosen)
        self.time = as_of
        self.triples, self.read_s = 0, 0.0

    def run(self) -> dict[str, dict[str, int]]:
        """Read, then store; counts by relation and named outcome."""
        settings = self.bench.settings
        scratch = settings.model.cache / f"load-{self.dump.path.name}.db"
        staging = Staging(scratch, self.dump.identity, self.relations, settings.source.language, self.chosen)
        try:
            self._read(staging)
            self.time = self.time or staging.time
            if self.time is None:
                raise ConfigError(
                    f"{self.dump.path} does not say when it was made; give the day before that as --as-of "
                    f"(what was edited since will be pulled from the endpoint)"
                )
            counts = self._store(staging, self.time)
        except BaseException:
            staging.close()
            raise
        staging.remove()
        return counts

    def _read(self, staging: Staging) -> None:
        """The dump → the scratch file."""
        began = time.monotonic()
        with self.bench.progress.stage("read dump", unit="MB") as task:
            task.total(self.dump.size // MEGABYTE)
            if not staging.complete:
                if staging.position is None:
                    staging.begin_anew()
                self._stage(staging, task, began)
                staging.put_in_order()
        self.triples, self.read_s = staging.triples, time.monotonic() - began

    def _stage(self, staging: Staging, task: Task, began: float) -> None:
        done, before = 0, staging.triples
        for batch in read(self.dump, staging.wanted, staging.position):
            staging.add(batch)
            passed = batch.read // MEGABYTE
            task.advance(passed - done)
            done = passed
            rate = (batch.triples - before) / max(time.monotonic() - began, 1e-9)
            task.describe(f"{batch.triples:,} triples, {rate:,.0f}/s")

    def _store(self, staging: Staging, at: datetime) -> dict[str, dict[str, int]]:
        """The scratch file → the store, each page in one transaction; the last one brings the cursor."""
        store, counts = self.bench.store, {}
        with store.begin() as tx:
            runs.stage_started(tx, self.run_id, "pull", now())
            entities.save(tx, now(), staging.items(self.relations).values())
        with self.bench.progress.stage("load", unit="subjects") as task:
            for relation in self.relations:
                task.describe(relation)
                counts[relation] = dict(self._relation(staging, relation, at, task))
        with store.begin() as tx:
            runs.stage_finished(tx, self.run_id, "pull", now(), _total(counts))
        return counts

    def _relation(self, staging: Staging, relation: str, at: datetime, task: Task) -> Counter[str]:
        store, counts = self.bench.store, Counter[str]()
        with store.begin() as tx:
            backfills.forget(tx, relation)
        for staged in staging.pages(relation, self.bench.settings.source.page_size):
            page = _page(staging, relation, staged, self.bench.settings.source.language)
            with store.begin() as tx:
                pulled = take(tx, self.run_id, page, at, baseline=True)
            counts.update(pulled.counts)
            counts["subjects"] += len(staged.subjects)
            task.advance(len(staged.subjects))
        with store.begin() as tx:
            take(tx, self.run_id, Page(relation, True, Cursor(at, "")), at, baseline=True)
            key = self.chosen[relation].key
            backfills.finish(tx, self.run_id, relation, key, now(), counts["subjects"])
            known.complete_first_pull(tx, self.run_id, relation, now())
        return counts


def _page(staging: Staging, relation: str, staged: StagedPage, language: str) -> Page:
    parsed = parse.statements(relation, staged.rows, language)
    statements = tuple(_untold(one) for one in parsed.statements)
    parsed.counts["without a statement's record"] += sum(one.from_truthy_dump for one in statements)
    named = staging.items({*staged.subjects, *(one for s in statements for one in s.value.entities)})
    objects = sorted(named.keys() - set(staged.subjects))
    return Page(
        relation=relation,
        baseline=True,
        cursor=None,
        subjects=staged.subjects,
        items=tuple(named[one] for one in staged.subjects),
        statements=statements,
        labels=tuple(_label_only(named[one]) for one in objects),
        counts=dict(parsed.counts),
    )


def _label_only(item: Item) -> Item:
    """An object without its revision: none of its own statements were read, so it must not look as if."""
    return Item(item.id, item.label, item.language, None, None)


def _untold(statement: Statement) -> Statement:
    """A bare triple has a quantity's amount and not its unit, which must not be said as if there were none."""
    if statement.from_truthy_dump and statement.value.kind is ValueKind.QUANTITY:
        return replace(statement, value=replace(statement.value, detail=UNTOLD_UNIT))
    return statement


def _total(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for own in counts.values():
        total.update(own)
    return dict(total)
