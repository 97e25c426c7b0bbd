"""One relation's pull: its filter, the tail of what was read, and the next pages of its first pull.

The first pull has a cursor of its own, the last subject's IRI, that commits with each page: cut off anywhere, or
bounded by `source.backfill_pages`, it goes on there. The tail begins where the first pull began, and reads what is
tracked or behind that IRI; what lies ahead the first pull will see as it is then. A tracked subject is the tail's:
the first pull passes it over, so a change is never taken for what was always there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from kbsync.errors import BadAnswer
from kbsync.facts import Cursor, Watch
from kbsync.source import pull as source
from kbsync.source.client import SparqlClient
from kbsync.source.page import Page
from kbsync.source.reconcile import read_again
from kbsync.source.subjects import finds_any, members
from kbsync.store import backfills, known
from kbsync.sync.clock import now
from kbsync.sync.pages import take
from kbsync.sync.workbench import Workbench

SUBJECTS, UNDER_WAY = "first pull: subjects", "first pull: under way"


@dataclass(slots=True)
class Pulling:
    """One relation under way; `until` is how far the endpoint can be read."""

    bench: Workbench
    client: SparqlClient
    run_id: int
    watch: Watch
    until: datetime | None
    seen_labels: set[str]
    counts: Counter[str] = field(default_factory=Counter)
    revisits: bool = True  # some of the subjects ahead may be tracked already

    @property
    def at(self) -> datetime:
        """The source's time; an endpoint without one holds nothing of this relation."""
        return self.until or now()

    def choose(self) -> None:
        """After a change of the filter: retire what it no longer lets through, and begin the first pull anew.

        The filter's key is written last, so what was cut off is done again. Raises BadAnswer when the new filter
        finds nothing at all: it is wrong, or the endpoint has lost what it asks for.
        """
        relation, subjects = self.watch.relation, self.watch.subjects
        with self.bench.store.read() as tx:
            key = backfills.filter_key(tx, relation)
            if (key or "") == subjects.key:
                return
            tracked = sorted(known.tracked(tx, relation))
        if key is None and not tracked:
            return
        inside = members(self.client, subjects, tracked)
        outside = [one for one in tracked if one not in inside]
        # a list is taken at its word
        if subjects.ids is None and outside and not inside and not finds_any(self.client, relation, subjects):
            where = self.client.settings.endpoint
            raise BadAnswer(
                f"the new filter of {relation} ({subjects.words}) finds no subject at {where}; "
                f"nothing was retired: check it"
            )
        for page in read_again(self.client, relation, outside, self.bench.settings.source, subjects):
            self._take(page, baseline=False)
        with self.bench.store.begin() as tx:
            backfills.begin(tx, self.run_id, relation, subjects.key, self._start, now())
        self.counts["filter changed"] += 1

    def tail(self, cursor: Cursor) -> None:
        """What changed since `cursor`, of what was read."""
        relation = self.watch.relation
        with self.bench.store.read() as tx:
            versions, progress = known.versions(tx, relation), backfills.backfill(tx, relation)
        reach = progress.after if progress is not None and not progress.done else None
        pages = source.tail(
            self.client,
            relation,
            cursor,
            self.until,
            versions,
            self.bench.settings.source,
            known_labels=self.seen_labels,
            subjects=self.watch.subjects,
            reach=reach,
        )
        for page in pages:
            self._take(page, baseline=False)

    def backfill(self) -> None:
        """The first pull, or as much of it as one sync may read."""
        relation, settings = self.watch.relation, self.bench.settings.source
        with self.bench.store.read() as tx:
            complete = known.first_pull_complete(tx, relation) is not None
            progress, tail = backfills.backfill(tx, relation), known.cursor(tx, relation)
            self.revisits = known.statement_count(tx, relation) > 0
        if complete and tail is not None and (progress is None or progress.done):
            return
        if progress is None or progress.done:
            with self.bench.store.begin() as tx:
                progress = backfills.begin(
                    tx, self.run_id, relation, self.watch.subjects.key, self._start, now(), complete
                )
        pages = source.first_pull(
            self.client,
            relation,
            self.until,
            settings,
            known_labels=self.seen_labels,
            subjects=self.watch.subjects,
            after=progress.after,
        )
        for number, page in enumerate(pages, 1):
            self._take(page, baseline=not complete)
            if number == settings.backfill_pages and page.after is not None:
                self.counts[UNDER_WAY] += 1
                return

    def _take(self, page: Page, *, baseline: bool) -> None:
        """Store a page with its place in the first pull, if it is of that: one transaction."""
        relation = self.watch.relation
        with self.bench.store.begin() as tx:
            subjects = len(page.subjects)
            if page.baseline and self.revisits:
                page = page.without(known.statements_of(tx, relation, page.subjects).keys())
            pulled = take(tx, self.run_id, page, self.at, baseline=baseline)
            if page.after is not None:
                backfills.advance(tx, self.run_id, relation, page.after, subjects)
            elif page.baseline:
                backfills.finish(tx, self.run_id, relation, self.watch.subjects.key, now())
                known.complete_first_pull(tx, self.run_id, relation, now())
        self.counts.update(pulled.counts)
        self.counts["changes"] += len(pulled.changes)
        if page.after is not None:
            self.counts[SUBJECTS] += subjects
        self.seen_labels.update(item.id for item in (*pulled.items, *pulled.labels))

    @property
    def _start(self) -> Cursor | None:
        return Cursor(self.until, "") if self.until is not None else None
