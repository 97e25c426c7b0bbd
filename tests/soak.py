"""The long suite in pieces: what each did is a line of a record, so it can be stopped, gone on with, and merged.

A pytest plugin, and what the tests of the suite write their lines with. By the environment (`make soak` sets it):
`KBSYNC_SOAK_RECORD` is the file, `KBSYNC_SOAK_PART` and `KBSYNC_SOAK_STORE` leave only some of the suite. A test
that the record has, with the same code and without a failure, is not run again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECORD, SEEN = "KBSYNC_SOAK_RECORD", "KBSYNC_SOAK_SEEN"
PARTS = ("failpoints", "kills", "stops", "failures", "pauses", "fuzz", "year", "model")
STORES = {"sqlite": "sqlite", "postgresql": "postgres", "postgres": "postgres"}  # as named, as tests have it


def pytest_configure(config: pytest.Config) -> None:
    """Fix how much of the record counts as done, so that all workers of one call leave out the same."""
    del config
    path = os.environ.get(RECORD)
    if path and SEEN not in os.environ:
        os.environ[SEEN] = str(Path(path).stat().st_size if Path(path).exists() else 0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the parts and the store that are asked for, and of them what is not done yet."""
    parts, store = _asked("KBSYNC_SOAK_PART", PARTS), _asked("KBSYNC_SOAK_STORE", STORES)
    stores = {STORES[one] for one in store}
    finished = done(os.environ.get(RECORD), code())
    left, out = [], []
    for item in items:
        mark = item.get_closest_marker("soak")
        part = mark.args[0] if mark is not None and mark.args else None
        on = getattr(getattr(item, "callspec", None), "params", {}).get("bed")
        unwanted = (parts and part not in parts) or (stores and on not in stores)
        (out if part and (unwanted or item.nodeid in finished) else left).append(item)
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = left


def _asked(variable: str, known: Iterable[str]) -> list[str]:
    found = [one for one in os.environ.get(variable, "").split(",") if one]
    wrong = [one for one in found if one not in known]
    if wrong:
        raise pytest.UsageError(f"{variable}: {wrong[0]!r} is none of {', '.join(known)}")
    return found


@functools.cache
def code() -> str:
    """A hash of what is tested, and of how: figures of other code are other figures."""
    files = [
        *(ROOT / "kbsync").rglob("*.py"),
        *(ROOT / "migrations").rglob("*.py"),
        *(ROOT / "migrations").rglob("*.sql"),
    ]
    files += [ROOT / "tests" / "sync" / "harness.py"]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def done(path: str | None, of: str) -> set[str]:
    """The tests that the record has by now, with this code and without a failure."""
    if not path or not Path(path).exists():
        return set()
    raw = Path(path).read_bytes()[: int(os.environ.get(SEEN, "0"))]
    found: dict[str, bool] = {}
    for text in raw.decode("utf-8").splitlines():
        line = json.loads(text)
        if line.get("code") == of and "piece" in line:
            found[line["piece"]] = not line["failed"]
    return {piece for piece, well in found.items() if well}


class Trials:
    """How often something was tried, and what it failed of. One failure does not end a piece."""

    def __init__(self) -> None:
        self.count = 0
        self.failures: list[Exception] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """One trial."""
        try:
            yield
        except Exception as error:
            self.failures.append(error)
        self.count += 1


@contextmanager
def piece(kind: str, store: str, **more: object) -> Iterator[Trials]:
    """Trials of one test: recorded with how many failed, and of what; raised as a group when some did."""
    began, trials = time.monotonic(), Trials()
    yield trials
    if trials.failures:
        more["why"] = [f"{type(error).__name__}: {error}"[:500] for error in trials.failures[:5]]
    record(kind, store, trials.count, time.monotonic() - began, failed=len(trials.failures), **more)
    if trials.failures:
        raise ExceptionGroup(
            f"{kind}, {store}: {len(trials.failures)} of {trials.count} failed", trials.failures[:5]
        )


def record(kind: str, store: str, count: int, seconds: float, **more: object) -> None:
    """A line for docs/reliability.md, where the long suite asks for it."""
    path = os.environ.get(RECORD)
    if not path:
        return
    line = {
        "kind": kind, "store": store, "count": count, "failed": 0, "seconds": round(seconds, 1),
        "piece": os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0], "code": code(),
        "day": f"{datetime.now(UTC):%Y-%m-%d}", "cores": os.cpu_count(), **more,
    }  # fmt: skip
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
