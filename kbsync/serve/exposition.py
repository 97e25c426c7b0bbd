"""`/metrics` in Prometheus' text format: the store's figures, this process's, and prometheus-client's of it."""

from __future__ import annotations

import platform
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kbsync import __version__
from kbsync.errors import StoreError
from kbsync.serve.collect import Sample, samples
from kbsync.serve.families import BY_NAME, FAMILIES
from kbsync.serve.health import reasons_in
from kbsync.serve.view import LEADER, SERVER, STANDBY, View
from kbsync.store.connect import parse_url
from kbsync.store.schema import head
from kbsync.sync.clock import now

FRESH_S = 1.0  # seconds for which an answer is given again: many who scrape cost what one does


class Exposition:
    """The text of `/metrics`, collected at most once a second and by one thread at a time."""

    def __init__(self, view: View) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Figures(view))
        ProcessCollector(registry=self._registry)
        self._lock = threading.Lock()
        self._text, self._until = b"", 0.0

    def text(self) -> bytes:
        """The exposition. A store that can't be read is a figure of it, not an error."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._text = generate_latest(self._registry)
                self._until = time.monotonic() + FRESH_S
            return self._text


class _Figures(Collector):
    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterable[Metric]:
        """The families that have samples, in the order of the table."""
        began = time.perf_counter()
        found: list[Sample] = [*_of_process(self._view)]
        up = ready = False
        try:
            with self._view.door.read() as tx:
                ready = not reasons_in(tx, self._view)
                found += samples(tx, now())
            up = True
        except StoreError:  # a figure, too
            pass
        found += [("kbsync_store_up", {}, float(up)), ("kbsync_ready", {}, float(ready))]
        found.append(("kbsync_scrape_seconds", {}, time.perf_counter() - began))
        return families(found)


def families(found: Iterable[Sample]) -> list[Metric]:
    """Samples by family. Raises KeyError for one that the table of metrics does not have."""
    by_name: dict[str, list[Sample]] = {}
    for one in found:
        by_name.setdefault(BY_NAME[one[0]].name, []).append(one)
    result: list[Metric] = []
    for family in FAMILIES:
        if family.name in by_name:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for _, labels, value in by_name[family.name]:
                metric.add_metric([labels[label] for label in family.labels], value)
            result.append(metric)
    return result


def _of_process(view: View) -> Iterator[Sample]:
    build = {"version": __version__, "schema": head(), "python": platform.python_version()}
    yield "kbsync_build_info", build, 1
    for role in (LEADER, STANDBY, SERVER):
        yield "kbsync_role", {"role": role}, float(view.role == role)
    if view.pulse is not None:
        yield "kbsync_stalled_seconds", {}, view.pulse.age_s()
    yield "kbsync_threads", {}, threading.active_count()
    for code, count in sorted(view.answers.copy().items()):
        yield "kbsync_http_answers_total", {"code": str(code)}, count
    for name, folder in folders(view).items():
        free = _free(folder)
        if free is not None:
            yield "kbsync_disk_free_bytes", {"folder": name}, free


def folders(view: View) -> dict[str, Path]:
    """What grows on disks of this machine, by the setting that names it."""
    found = {"checkpoint.folder": view.settings.checkpoint.folder, "model.cache": view.settings.model.cache}
    url = parse_url(view.settings.store.url)
    if url.get_backend_name() == "sqlite":
        found["store.url"] = Path(str(url.database)).parent
    return found


def _free(folder: Path) -> int | None:
    """Bytes free where the folder is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
