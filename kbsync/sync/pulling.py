"""The pull stage: Wikidata → changes → rows, each page with its cursor in one transaction."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import structlog

from kbsync.errors import SourceError
from kbsync.source import pull as source
from kbsync.source.client import SparqlClient
from kbsync.store import known, mirror
from kbsync.sync import streaming
from kbsync.sync.asking import asking
from kbsync.sync.clock import now
from kbsync.sync.gathering import gather
from kbsync.sync.pages import take
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
        relations = () if settings.source.stream and only_touched else settings.watch.relations
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
        missing = set(bench.settings.watch.relations) - set(known.labels(tx, bench.settings.watch.relations))
    if missing:
        found = source.fetch_labels(client, sorted(missing), bench.settings.source.language)
        with bench.store.begin() as tx:
            mirror.save_items(tx, now(), found.values())


def pull_relation(
    bench: Workbench, client: SparqlClient, run_id: int, relation: str, seen_labels: set[str]
) -> Counter[str]:
    """The first pull of one relation, or its tail; counts by named outcome."""
    with bench.store.read() as tx:
        cursor = known.cursor(tx, relation)
        first = known.first_pull_complete(tx, relation) is None
        versions = {} if first else known.versions(tx, relation)
    until = source.window_end(client, relation, cursor)
    if first or cursor is None:
        pages = source.first_pull(client, relation, until, bench.settings.source, known_labels=seen_labels)
    else:
        pages = source.tail(
            client, relation, cursor, until, versions, bench.settings.source, known_labels=seen_labels
        )
    at = until or now()  # an endpoint without a time of its own holds nothing of this relation
    counts: Counter[str] = Counter()
    for page in pages:
        with bench.store.begin() as tx:
            pulled = take(tx, run_id, page, at, baseline=first)
        counts.update(pulled.counts)
        counts["changes"] += len(pulled.changes)
        seen_labels.update(item.id for item in (*pulled.items, *pulled.labels))
    if first:
        with bench.store.begin() as tx:
            known.complete_first_pull(tx, run_id, relation, now())
    return counts
