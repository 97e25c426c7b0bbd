"""`kbsync bench source`: what pulling costs us, beside what answering costs the endpoint.

A graph of full size is served on this machine, pulled into a SQLite store, changed, and pulled again. Afterwards
the very queries that each part sent are sent once more, and their answers only read: that is the endpoint's time,
and what a part took beyond it is ours.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import select

from kbsync.bench import graph as graphs
from kbsync.bench.machine import peak_mb, processor_s
from kbsync.settings import Settings
from kbsync.settings.paths import absolute
from kbsync.source.client import Row, SparqlClient
from kbsync.source.dump import open_dump, read
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.staging import Staging
from kbsync.source.transport import BLOCK, opener_for
from kbsync.store import runs
from kbsync.store.chunks import chunked
from kbsync.store.tables import RunStatus, StatementRow
from kbsync.sync.clock import now
from kbsync.sync.progress import Progress, Silent
from kbsync.sync.pulling import pull
from kbsync.sync.reconciling import reconcile
from kbsync.sync.workbench import Workbench

UPDATES_AT_ONCE = 100


class Recording(SparqlClient):
    """A client that remembers its queries."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench.settings.source)
        self.queries: list[str] = []

    def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
        """Ask as ever."""
        self.queries.append(query)
        return super().select(query, can_shrink=can_shrink)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the measurement.

    `rows` are statements read; `endpoint_s` is the time of the same queries with their answers only read, and
    `endpoint_cpu_s` the server's processor time for them; `ours_s` = `seconds` - `endpoint_s`; `cpu_s` is this
    process's processor time. On a machine that others use too, only the processor times can be compared.
    `peak_mb`: the highest memory of this process so far.
    """

    name: str
    rows: int
    changes: int
    requests: int
    megabytes: float
    seconds: float
    endpoint_s: float
    endpoint_cpu_s: float
    cpu_s: float
    peak_mb: float

    @property
    def ours_s(self) -> float:
        """What pulling took beyond the endpoint's answers."""
        return max(self.seconds - self.endpoint_s, 0.0)

    def as_json(self) -> dict[str, Any]:
        """All figures, with what follows from them."""
        ours = max(self.ours_s, 1e-9)
        return {
            **asdict(self),
            "ours_s": self.ours_s,
            "ratio": self.ours_s / self.endpoint_s if self.endpoint_s else None,
            "cpu_ratio": self.cpu_s / self.endpoint_cpu_s if self.endpoint_cpu_s else None,
            "rows_per_s": self.rows / self.seconds,
            "rows_per_s_of_ours": self.rows / ours,
            "rows_per_cpu_s": self.rows / max(self.cpu_s, 1e-9),
        }


def bench_source(
    facts: Path | None,
    items: int,
    changes: int,
    seed: int,
    page_size: int,
    progress: Progress | None = None,
    *,
    in_memory: bool = False,
) -> dict[str, Any]:
    """Build the graph, serve it from the endpoint's database, or from its memory, and measure first pull, tail and
    full pass; as JSON."""
    shown = progress or Silent()
    with tempfile.TemporaryDirectory(prefix="kbsync-bench-") as place:
        folder = Path(place)
        file = folder / "graph.nt"
        with shown.stage("write graph"):
            written = graphs.write_graph(graphs.facts_of(facts) if facts else graphs.made_up(items, seed), file)
        with shown.stage("read as a dump"):
            dumped = [read_dump(file, own, folder) for own in (written.relations, written.relations[:1])]
        with shown.stage("load graph"):
            server = EmbeddedWikidata([file], on_disk=not in_memory)
            server.__enter__()
        try:
            file.unlink()
            settings = _settings(server.endpoint, folder, written.relations, page_size)
            with Workbench(settings) as bench:
                assert bench.store.place  # laid out before the clock starts
                parts = _parts(bench, server, changes, shown)
        finally:
            server.close()
    return {
        "graph": {
            **asdict(written),
            "relations": len(written.relations),
            "seed": None if facts else seed,
            "in_memory": in_memory,
        },
        "parts": [part.as_json() for part in parts],
        "dump": dumped,
        "machine": _machine(page_size),
    }


def _parts(bench: Workbench, server: EmbeddedWikidata, changes: int, shown: Progress) -> list[Part]:
    with shown.stage("first pull"):
        first = _measured("first pull", bench, server, lambda client: _pulled(bench, client))
    with shown.stage("change"):
        _change(bench, server, changes)
    with shown.stage("tail"):
        tail = _measured(f"tail of {changes} changes", bench, server, lambda client: _pulled(bench, client))
    with shown.stage("reconcile"):
        whole = _measured("reconcile", bench, server, lambda client: _reconciled(bench, client))
    return [first, tail, whole]


def _reconciled(bench: Workbench, client: SparqlClient) -> tuple[int, int]:
    """One reconcile without the tail, in a run of its own: (statements read, divergences)."""
    with _run(bench, RunStatus.RECONCILED) as run_id, Silent().stage("reconcile") as task:
        found, counts = reconcile(bench, run_id, bench.settings.watch.relations, task, alone=True, client=client)
    return sum(one.statements for one in found), counts["divergences"]


def read_dump(file: Path, relations: Sequence[str], folder: Path) -> dict[str, Any]:
    """Read a file as `kbsync load` does, up to where its pages would go into the store."""
    staging = Staging(folder / "scratch.db", f"{file} {len(relations)}", relations, "en")
    began, cpu = time.perf_counter(), time.process_time()
    for batch in read(open_dump(file), staging.wanted):
        staging.add(batch)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    staging.put_in_order()
    triples = staging.triples
    staging.remove()
    return {
        "relations": len(relations),
        "triples": triples,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "triples_per_s": triples / seconds,
        "triples_per_cpu_s": triples / cpu_s,
        "order_cpu_s": time.process_time() - cpu - cpu_s,
        "peak_mb": peak_mb(),
    }


def _pulled(bench: Workbench, client: SparqlClient) -> tuple[int, int]:
    """One pull stage, in a run of its own: (statements read, changes)."""
    with _run(bench, RunStatus.UNCHANGED) as run_id, Silent().stage("pull") as task:
        counts = pull(bench, run_id, task, client=client)
    return counts["stored"] + counts["duplicate"], counts["changes"]


@contextmanager
def _run(bench: Workbench, status: RunStatus) -> Iterator[int]:
    """A row for what is measured; its number."""
    with bench.store.begin() as tx:
        run_id = runs.start_run(tx, "bench", now(), {})
    yield run_id
    with bench.store.begin() as tx:
        runs.finish_run(tx, run_id, status, now())


def _measured(
    name: str, bench: Workbench, server: EmbeddedWikidata, act: Callable[[SparqlClient], tuple[int, int]]
) -> Part:
    client = Recording(bench)
    began, cpu = time.perf_counter(), time.process_time()
    rows, changes = act(client)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    peak, served = peak_mb(), processor_s(server.pid)
    endpoint_s = _raw(client, client.queries)
    return Part(
        name,
        rows,
        changes,
        client.counters.requests,
        client.counters.bytes / 1e6,
        seconds,
        endpoint_s,
        processor_s(server.pid) - served,
        cpu_s,
        peak,
    )


def _raw(client: SparqlClient, queries: Sequence[str]) -> float:
    """Seconds to send the queries once more and read the answers, without looking into them."""
    opener = opener_for(client.settings.endpoint)
    began = time.perf_counter()
    for query in queries:
        request = urllib.request.Request(  # noqa: S310 -- our own loopback URL
            client.settings.endpoint,
            data=query.encode(),
            headers={
                "Content-Type": "application/sparql-query",
                "Accept": "application/sparql-results+json",
            },
            method="POST",
        )
        with opener.open(request, timeout=client.settings.timeout_s) as answer:
            while answer.read1(BLOCK):
                pass
    return time.perf_counter() - began


def _change(bench: Workbench, server: EmbeddedWikidata, changes: int) -> None:
    """Edit as many statements as there are changes, spread over all relations."""
    with bench.store.read() as tx:
        found = tx.execute(
            select(StatementRow.subject, StatementRow.relation, StatementRow.id)
            .order_by(StatementRow.id.desc())
            .limit(changes)
        ).all()
    rows = [(subject, relation, statement) for subject, relation, statement in found]
    updates = list(graphs.update(changes, rows, graphs.MADE + timedelta(hours=1)))
    for chunk in chunked(updates, UPDATES_AT_ONCE):
        server.update(" ;\n".join(chunk))


def _settings(endpoint: str, folder: Path, relations: Sequence[str], page_size: int) -> Settings:
    chosen = Settings.model_validate(
        {
            "source": {
                "endpoint": endpoint,
                "contact": "bench",
                "overlap_s": 0,
                "page_size": page_size,
                "seconds_per_minute": "off",
                "errors_per_minute": "off",
            },
            "watch": {"relations": list(relations)},
            "store": {"url": f"sqlite:///{folder / 'kbsync.db'}"},
        }
    )
    return absolute(chosen, folder)  # with the catalogue that ships with kbsync, wherever this is run


def _machine(page_size: int) -> dict[str, Any]:
    """Day, processors and versions: figures of two machines must not be mixed up."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "oxigraph": version("oxigraph"),
        "page_size": page_size,
    }
