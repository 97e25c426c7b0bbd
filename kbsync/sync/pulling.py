"""The pull stage: Wikidata → changes → rows, each page with its cursor in one transaction."""

from __future__ import annotations

from collections import Counter

from kbsync.source import pull as source
from kbsync.source.client import SparqlClient
from kbsync.store import known, mirror, readings
from kbsync.sync.clock import now
from kbsync.sync.gathering import gather
from kbsync.sync.progress import Task
from kbsync.sync.workbench import Workbench


def pull(bench: Workbench, run_id: int, task: Task) -> Counter[str]:
    """Bring the store up to the endpoint's own time, relation by relation; counts by named outcome.

    What was read before an error stays, with its cursor: the next run goes on from there.
    """
    settings = bench.settings
    client = SparqlClient(settings.source)
    counts: Counter[str] = Counter()
    seen_labels: set[str] = set()
    _label_relations(bench, client)
    task.total(len(settings.watch.relations))
    for relation in settings.watch.relations:
        task.describe(relation)
        counts += pull_relation(bench, client, run_id, relation, seen_labels)
        task.advance()
    counts += gather(bench, client)
    counts["requests"] = client.counters.requests
    return counts


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
            page = source.newest(page, readings.readings_of(tx, relation, page.subjects), at)
            pulled = source.assemble(page, known.statements_of(tx, relation, page.subjects), now=at)
            mirror.apply(tx, run_id, now(), pulled, baseline=first)
            counts.update(pulled.counts)
            counts["changes"] += len(pulled.changes)
        seen_labels.update(item.id for item in (*pulled.items, *pulled.labels))
    if first:
        with bench.store.begin() as tx:
            known.complete_first_pull(tx, run_id, relation, now())
    return counts
