"""The reconcile: all of a relation read again and compared with the store, difference by difference.

1. the tail, so that what is found afterwards is what it has missed (or not, to compare without it);
2. the snapshot, page by page: what came or changed is stored at once, what would take a fact or a statement away
   waits for the end;
3. the verdict on the snapshot: known items that it lacks although they still have the relation, or more gone than
   `source.max_shrink`, and nothing is taken away;
4. the subjects that wait, and those that the snapshot lacks, are read once more, and statements that are missing
   are asked for by their ids. Only what is gone by all three looks is retired.

Everything goes into the store on the tail's own path (`assemble`, `mirror.apply`), each page with its divergences
in one transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from kbsync.errors import BadAnswer, EndpointDown
from kbsync.facts import Cursor, Divergence, Item, Pulled, Statement, Subjects
from kbsync.source import pull as source
from kbsync.source import reconcile as full
from kbsync.source.client import SparqlClient
from kbsync.source.divergence import divergences, label_divergences, loses
from kbsync.source.page import Page, assemble, newest
from kbsync.source.reader import fetch_labels
from kbsync.source.subjects import NO_LONGER
from kbsync.store import backfills, entities, known, mirror, readings, reconciles
from kbsync.store.reconciles import COMPLETE, Reconciled
from kbsync.sync import watching
from kbsync.sync.asking import asking
from kbsync.sync.clock import now
from kbsync.sync.progress import Task
from kbsync.sync.pulling import pull_relation
from kbsync.sync.workbench import Workbench

log = structlog.get_logger("kbsync")

INCOMPLETE, SHRANK, BEHIND, NOT_PULLED = "incomplete", "shrank", "behind", "not pulled yet"


class _Kept(Exception):
    """Why nothing of a relation is retired: the outcome's name, and the reason in words."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


def reconcile(
    bench: Workbench,
    run_id: int,
    relations: Sequence[str],
    task: Task,
    *,
    alone: bool = False,
    client: SparqlClient | None = None,
) -> tuple[list[Reconciled], Counter[str]]:
    """Compare `relations` with the source and heal the store; how each came out, and counts by named outcome.

    `alone`: without the tail. `client` asks in place of one that knows the store's budget.

    One relation that can't be compared does not keep the others from it; an endpoint
    that throttles, or that can't be reached when a relation begins, ends the pass: Throttled, EndpointDown. What
    was completed stays.
    """
    results: list[Reconciled] = []
    counts: Counter[str] = Counter()
    seen_labels: set[str] = set()
    with bench.store.read() as tx:
        task.total(sum(len(known.tracked(tx, relation)) for relation in relations))
    with asking(bench) if client is None else nullcontext(client) as client:
        for relation in relations:
            task.describe(relation)
            one = _Pass(bench, client, run_id, relation, task, seen_labels)
            result = one.run(alone)
            counts += one.counts
            counts["divergences"] += sum(result.counts.values())
            counts["relations complete" if result.complete else f"relations kept: {result.outcome}"] += 1
            if not result.complete:
                log.warning("nothing was retired", run=run_id, relation=relation, reason=result.reason)
            results.append(result)
    counts["requests"] = client.counters.requests
    return results, +counts  # without zeros


@dataclass(slots=True)
class _Pass:
    """One relation under way."""

    bench: Workbench
    client: SparqlClient
    run_id: int
    relation: str
    task: Task
    seen_labels: set[str]
    at: datetime = field(default_factory=now)  # the source's time; set when the pass begins
    missing: set[str] = field(default_factory=set)  # tracked subjects that the snapshot has not shown (yet)
    waiting: set[str] = field(default_factory=set)  # subjects that would lose something
    subjects_wanted: Subjects = field(default_factory=Subjects)  # the filter
    confirmed: int = 0  # known statements that the snapshot has shown
    subjects: int = 0
    statements: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def run(self, alone: bool) -> Reconciled:
        """All steps; the relation's row is written whatever the outcome."""
        outcome, read_before = COMPLETE, self.client.counters.bytes
        reason: str | None = None
        cursor: Cursor | None = None
        try:
            with self.bench.store.read() as tx:
                watch = watching.watch_of(tx, self.bench.settings, self.relation)
                self.subjects_wanted = Subjects() if watch is None else watch.subjects
                first = not self._is_complete(tx)
            if first and alone:
                raise _Kept(NOT_PULLED, "its first pull is not complete; `kbsync sync` makes it")
            until = self._begin(alone)
            if first:
                with self.bench.store.read() as tx:
                    if not self._is_complete(tx):
                        raise _Kept(NOT_PULLED, "its first pull is under way; the next sync goes on with it")
                reason = "first pull"
            else:
                self._compare()
                cursor = Cursor(until, "") if until is not None else None
        except _Kept as kept:
            outcome, reason = kept.outcome, kept.reason
        except BadAnswer as error:
            outcome, reason = INCOMPLETE, str(error)
        except EndpointDown as error:
            if self.client.counters.bytes == read_before:  # the endpoint as a whole is away
                raise
            outcome, reason = INCOMPLETE, str(error)
        with self.bench.store.begin() as tx:
            if cursor is not None:  # all edits up to it have been read
                mirror.apply(tx, self.run_id, now(), Pulled(self.relation, (), (), (), (), (), {}, cursor), False)
            return reconciles.finish(
                tx, self.run_id, now(), self.relation, outcome, reason, self.subjects, self.statements
            )

    def _is_complete(self, tx: Session) -> bool:
        return backfills.is_complete(tx, self.relation, self.subjects_wanted.key)

    def _begin(self, alone: bool) -> datetime | None:
        """Pull the tail, unless `alone`, and see how far the endpoint can be read."""
        if not alone:
            self.counts += pull_relation(self.bench, self.client, self.run_id, self.relation, self.seen_labels)
        with self.bench.store.read() as tx:
            cursor = known.cursor(tx, self.relation)
        until = source.window_end(self.client, self.relation, cursor)
        if until is not None and cursor is not None and until < cursor.modified:
            raise _Kept(
                BEHIND, f"the endpoint is at {until.isoformat()}, the store at {cursor.modified.isoformat()}"
            )
        self.at = until or now()
        return until

    def _compare(self) -> None:
        with self.bench.store.read() as tx:
            self.missing = known.tracked(tx, self.relation)
            total = known.statement_count(tx, self.relation)
        self._relation_label()
        for page in full.snapshot(
            self.client, self.relation, self.bench.settings.source, subjects=self.subjects_wanted
        ):
            self.missing -= set(page.subjects)
            self.subjects += len(page.subjects)
            self.statements += len(page.statements)
            self._settle(page, wait=True)
            self.task.advance(len(page.subjects))
        self._judge(total)
        for page in full.read_again(
            self.client,
            self.relation,
            sorted(self.missing | self.waiting),
            self.bench.settings.source,
            self.subjects_wanted,
        ):
            self._settle(self._only_gone(page), wait=False)

    def _judge(self, total: int) -> None:
        """Raises _Kept when the snapshot must not retire anything."""
        still = full.with_statements(self.client, self.relation, sorted(self.missing), self.subjects_wanted)
        if still:
            raise _Kept(
                INCOMPLETE,
                f"the snapshot lacks {len(still)} known subjects that still have it, such as {min(still)}",
            )
        gone, share = total - self.confirmed, self.bench.settings.source.max_shrink
        if source.too_many(gone, total, share):
            raise _Kept(
                SHRANK,
                f"{gone} of {total} known statements are gone, more than source.max_shrink ({share:g}) allows",
            )

    def _only_gone(self, page: Page) -> Page:
        """The page without subjects of which it lacks a statement that the endpoint still knows by its id."""
        with self.bench.store.read() as tx:
            held = known.statements_of(tx, self.relation, page.subjects)
        there = {s.id for s in page.statements}
        gone = {
            s.id: subject
            for subject, rows in held.items()
            if subject not in page.outside
            for s in rows
            if s.id not in there
        }
        doubtful = {gone[key] for key in full.not_deleted(self.client, sorted(gone))} if gone else set()
        self.counts["kept: its statement is still there"] += len(doubtful)
        return page.without(doubtful)

    def _settle(self, page: Page, *, wait: bool) -> None:
        """Store a page and write down how it differed. With `wait`, not the subjects that would lose something."""
        with self.bench.store.begin() as tx:
            standing = readings.readings_of(tx, self.relation, page.subjects)
            held, seen = known.statements_of(tx, self.relation, page.subjects), page.by_subject()
            current = newest(page, standing, self.at)
            if wait:
                for one in set(page.subjects) - set(current.subjects):  # it is older, and says nothing of them
                    self.confirmed += len(held.get(one, ()))
                for one in current.subjects:
                    self.confirmed += len({s.id for s in held.get(one, ())} & {s.id for s in seen[one]})
                losing = {one for one in current.subjects if loses(held.get(one, ()), seen[one])}
                self.waiting |= losing
                current = current.without(losing)
            page, names = current, known.named(tx, (*current.items, *current.labels))
            page, again = _news(page, held, seen, names, {k: r.revision for k, r in standing.items() if r.present})
            found = self._divergences(tx, page, held, seen, names)
            pulled = assemble(page, held, now=self.at)
            readings.touch(tx, self.relation, again, self.at)
            mirror.apply(tx, self.run_id, now(), pulled, baseline=False)
            reconciles.save_divergences(tx, self.run_id, now(), self.relation, found)
        self.counts.update({name: n for name, n in pulled.counts.items() if name != "unchanged"})
        self.counts["unchanged"] += len(again)
        self.counts["changes"] += len(pulled.changes)

    def _divergences(
        self,
        tx: Session,
        page: Page,
        held: dict[str, list[Statement]],
        seen: dict[str, list[Statement]],
        names: dict[str, str | None],
    ) -> list[Divergence]:
        """How a page differs from the store, but for items edited since the endpoint's time was read."""
        newer = {item.id for item in (*page.items, *page.labels) if item.modified and item.modified >= self.at}
        subjects = [one for one in page.subjects if one not in newer]
        self.counts["edited meanwhile"] += len(page.subjects) - len(subjects)
        subjects = [one for one in subjects if one not in page.outside]  # the source has not lost anything of them
        self.counts[NO_LONGER] += sum(1 for one in page.outside if held.get(one))
        past = known.retired_statements(tx, self.relation, subjects)
        found = [
            divergence
            for one in subjects
            for divergence in divergences(
                one, held.get(one, ()), seen[one], fate=page.fates.get(one), past=past.get(one), moved=page.moved
            )
        ]
        labels = [item for item in (*page.items, *page.labels) if item.id not in newer]
        return found + label_divergences(labels, names)

    def _relation_label(self) -> None:
        """The relation's own label may have moved, too."""
        item = fetch_labels(self.client, [self.relation], self.bench.settings.source.language)[self.relation]
        with self.bench.store.begin() as tx:
            found = label_divergences([item], known.named(tx, [item]))
            entities.save(tx, now(), [item])
            reconciles.save_divergences(tx, self.run_id, now(), self.relation, found)


def _news(
    page: Page,
    held: dict[str, list[Statement]],
    seen: dict[str, list[Statement]],
    names: dict[str, str | None],
    revisions: dict[str, int | None],
) -> tuple[Page, list[str]]:
    """The page with nothing but what the store has not, and the subjects that it has just so.

    Most of a full pass is what is known; writing it again would take most of its time.
    """

    def is_known(item: Item) -> bool:
        return item.id in names and names[item.id] == item.label

    same = {
        item.id
        for item in page.items
        if is_known(item)
        and item.id in revisions
        and revisions[item.id] == item.revision
        and sorted(held.get(item.id, ()), key=_id) == sorted(seen[item.id], key=_id)
    }
    labels = tuple(item for item in page.labels if not is_known(item))
    return replace(page.without(same), labels=labels), sorted(same)


def _id(statement: Statement) -> str:
    return statement.id
