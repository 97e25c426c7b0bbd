"""What is remembered of the endpoints that were asked: request budget, circuit breaker, page size."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.facts import EndpointState
from kbsync.store.tables import EndpointRow

_COLUMNS = tuple(one.name for one in fields(EndpointState))


def endpoint(tx: Session, host: str) -> EndpointState:
    """The state of one endpoint; a new one has a full budget and a closed breaker."""
    row = tx.get(EndpointRow, host)
    return EndpointState(host) if row is None else _state(row)


def save_endpoint(tx: Session, state: EndpointState, at: datetime) -> None:
    """Write the state down, in place of the one before."""
    row = tx.get(EndpointRow, state.host)
    if row is None:
        row = EndpointRow(host=state.host)
        tx.add(row)
    for name in _COLUMNS:
        setattr(row, name, getattr(state, name))
    row.updated_at = at
    tx.flush()


def endpoints(tx: Session) -> list[EndpointState]:
    """All endpoints that were ever asked, by name."""
    return [_state(row) for row in tx.scalars(select(EndpointRow).order_by(EndpointRow.host))]


def _state(row: EndpointRow) -> EndpointState:
    return EndpointState(**{name: getattr(row, name) for name in _COLUMNS})
