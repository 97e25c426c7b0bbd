"""Whether the process works, and whether it can be relied on: decisions, and what they are made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.orm import Session

from kbsync.checkpoint.manifest import FILE_NAME
from kbsync.errors import StoreError
from kbsync.serve.view import LEADER, SERVER, View
from kbsync.settings import duration
from kbsync.store import checkpoints, daemons
from kbsync.sync.clock import now


def hung(view: View) -> str | None:
    """Why `/healthz` says no: the daemon's work stands still. None while it goes on, and where there is none."""
    limit_s = duration(view.settings.serve.hung_after).total_seconds()
    if view.pulse is None or not limit_s or view.pulse.age_s() <= limit_s:
        return None
    return f"the daemon's work has stood still for {view.pulse.age_s():.0f} s; look at its log, and start it again"


def reasons(view: View) -> list[str]:
    """Why `/readyz` says no; an empty list when nothing speaks against it."""
    try:
        with view.door.read() as tx:
            return reasons_in(tx, view)
    except StoreError as error:
        return [*_stalled(view), str(error)]


def reasons_in(tx: Session, view: View) -> list[str]:
    """The same, by a transaction on the store that is open already."""
    return [*_stalled(view), *_lacking(tx, view)]


def _stalled(view: View) -> list[str]:
    why = hung(view)
    return [] if why is None else [why]


def _lacking(tx: Session, view: View) -> Iterator[str]:
    live = checkpoints.live(tx)
    leader = daemons.up(tx, now())
    model = live.checkpoint if live is not None else None
    if model is not None and model.damage is not None:
        yield f"the live model is damaged: {model.damage}; the next sync builds it again"
    elif model is not None and not (Path(model.path) / FILE_NAME).is_file():
        yield f"the live model's folder {model.path} is not there; the next sync builds it again"
    if view.role not in (SERVER, LEADER) and not leader:
        yield "no daemon leads the store yet; this one takes over within a minute"
