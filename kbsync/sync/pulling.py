"""The pull stage: Wikidata → changes → rows, each page with its cursor in one transaction."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import structlog

from kbsync.errors import SourceError
from kbsync.source import pull as source
from kbsync.source.client import SparqlClient
from kbsync.source.reader import fetch_labels
from kbsync.store import entities, known
from kbsync.sync import streaming, watching
from kbsync.sync.asking import asking
from kbsync.sync.backfilling import Pulling
from kbsync.sync.clock import now
from kbsync.sync.gathering import gather
from kbsync.sync.progress import Task
from kbsync.sync.workbench import Workbench

log = structlog.get_logger("kbsync")


def pull(
    bench: Workbench, run_id: int, task: Task, only_touched: bool = False, client: SparqlClient | None = None
) -> Counter[str]:
    """Bring the store up to the endpoint's own time, relation by relation; counts by named outcome.

    With `source.stream` the items that the stream has touched are read too; `only_touched` leaves out the tails.
    What was read before an error stays, with its cursor: the next run goes on from there. `client` asks in place
    of one that knows the store's budget.
    """
    settings = bench.settings
    counts: Counter[str] = Counter()
    seen_labels: set[str] = set()
    with asking(bench) if client is None else nullcontext(client) as client:
        _label_relations(bench, client)
        if settings.source.stream and not bench.follows_stream:
            counts += _drain(bench)
        relations = () if settings.source.stream and only_touched else bench.relations
        task.total(len(relations))
        for relation in relations:
            task.describe(relation)
            counts += pull_relation(bench, client, run_id, relation, seen_labels)
            task.advance()
        if settings.source.stream:
            counts += streaming.read_pending(bench, client, run_id, seen_labels)
        counts += gather(bench, client)
    counts["requests"] = client.counters.requests
    counts["refused"] = client.guard.refused_now
    counts["waited_s"] = round(client.guard.waited_s)
    return +counts


def _drain(bench: Workbench) -> Counter[str]:
    """What the stream has told since the last sync. A stream that is down fails no run: the tails go on."""
    try:
        found = streaming.drain(bench, bench.settings.source.stream_drain_s)
    except SourceError as error:
        log.warning("the stream can't be read; the tail goes on without it", error=str(error))
        return Counter({"stream: not read": 1})
    return Counter({f"stream: {outcome}": number for outcome, number in found.items()})


def _label_relations(bench: Workbench, client: SparqlClient) -> None:
    """Read the labels of watched properties that the store does not know yet."""
    with bench.store.read() as tx:
        watched = watching.relations(tx, bench.settings)
        missing = set(watched) - set(known.labels(tx, watched))
    if missing:
        found = fetch_labels(client, sorted(missing), bench.settings.source.language)
        with bench.store.begin() as tx:
            entities.save(tx, now(), found.values())


def pull_relation(
    bench: Workbench, client: SparqlClient, run_id: int, relation: str, seen_labels: set[str]
) -> Counter[str]:
    """The tail of what was read of one relation, then more of its first pull, if that is not complete; counts by
    named outcome. A relation that is no longer watched is left alone."""
    with bench.store.read() as tx:
        watch = watching.watch_of(tx, bench.settings, relation)
        cursor = known.cursor(tx, relation)
    if watch is None:
        return Counter()
    until = source.window_end(client, relation, cursor)
    if until is not None and cursor is not None and until < cursor.modified:
        return Counter({"endpoint behind": 1})  # what it shows now, no later tail would read again
    one = Pulling(bench, client, run_id, watch, until, seen_labels)
    one.choose()
    if cursor is not None:
        one.tail(cursor)
    one.backfill()
    return one.counts
