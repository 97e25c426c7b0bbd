"""What `kbsync doctor` looks at: each check ends in ok, warn or fail, and says what to do next.

The checks lie in modules of one purpose each: what is watched and when (`plan_checks`), the store (`store_checks`),
the source (`source_checks`), the machine (`machine_checks`), models (`model_checks`), and how syncs go
(`sync_checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from kbsync.errors import KbsyncError
from kbsync.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report. `then` is the next command or setting, where something is wrong."""

    name: str
    level: Level
    text: str
    then: str = ""


Looker: TypeAlias = Callable[[Settings], Iterator[Check]]

_ASKING = ("endpoint", "clock")  # these ask others, which --offline rules out


def lookers() -> dict[str, Looker]:
    """Every check, in the order in which they are done, by the name that an error of it is told under."""
    from kbsync.cli import machine_checks, model_checks, plan_checks, source_checks, store_checks, sync_checks

    return {
        "watch": plan_checks.check_watch,
        "schedule": plan_checks.check_schedule,
        "store": store_checks.check_store,
        "packages": machine_checks.check_packages,
        "folders": machine_checks.check_folders,
        "leftovers": machine_checks.check_leftovers,
        "endpoint": source_checks.check_endpoint,
        "clock": source_checks.check_clock,
        "model": model_checks.check_model,
        "memory": model_checks.check_memory,
        "http": machine_checks.check_http,
        "service": machine_checks.check_service,
        "daemon": sync_checks.check_daemon,
        "pause": sync_checks.check_pause,
        "runs": sync_checks.check_runs,
        "held": sync_checks.check_held,
        "room": sync_checks.check_room,
        "checkpoint": model_checks.check_checkpoint,
    }


def run_checks(settings: Settings, offline: bool) -> Iterator[Check]:
    """All checks in order, each as soon as it is done. An error that a check meets is its result."""
    for name, look in lookers().items():
        if name in _ASKING and offline:
            yield Check(name, "ok", "not asked (--offline)")
            continue
        try:
            yield from look(settings)
        except KbsyncError as error:
            yield Check(name, "fail", " ".join(str(error).split()))


@contextmanager
def reading(settings: Settings) -> Iterator[Session | None]:
    """A snapshot of the store; None where there is none yet, or none of this program's schema, which is another
    check's to tell. Raises StoreError."""
    from kbsync.store import schema
    from kbsync.store.engine import open_store

    if schema.check(settings.store.url) is not schema.SchemaState.CURRENT:
        yield None
        return
    with open_store(settings.store.url, create=False) as store, store.read() as tx:
        yield tx
