"""A workbench on an endpoint with a store and no model: pulls and reconciles as the program makes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kbsync.facts import Change
from kbsync.settings import load_settings
from kbsync.store import changes, runs
from kbsync.store.tables import RunStatus
from kbsync.sync.clock import now
from kbsync.sync.progress import Silent
from kbsync.sync.pulling import pull
from kbsync.sync.workbench import Workbench
from tests.stores import chosen


def workbench(folder: Path, endpoint: str, relations: Sequence[str], **source: Any) -> Workbench:
    """A workbench with a store of its own in `folder`."""
    folder.mkdir(exist_ok=True)
    sections = {
        "source": {"endpoint": endpoint, "contact": "tests", "timeout_s": 20.0, "attempts": 1, **source},
        "watch": {"relations": list(relations)},
        "store": {"url": chosen().make(folder / "kbsync.db")},
    }
    return Workbench(load_settings(None, sections))


def tail(bench: Workbench) -> list[Change]:
    """One pull of all relations, as a run; the changes that it found."""
    with bench.store.begin() as tx:
        run_id = runs.start_run(tx, "tests", now(), {})
    with Silent().stage("pull") as task:
        pull(bench, run_id, task)
    with bench.store.begin() as tx:
        runs.finish_run(tx, run_id, RunStatus.UNCHANGED, now())
    return found_by(bench, run_id)


def found_by(bench: Workbench, run_id: int) -> list[Change]:
    """The changes that a run wrote down, but for those of a first pull."""
    with bench.store.read() as tx:
        return [one.change for one in changes.changes_of(tx, run_id) if one.outcome != "baseline"]
