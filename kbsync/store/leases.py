"""Leases with epochs: who took a lease last may write, and whoever had it before finds out at his next write.

A process that was paused beyond its lease (or whose host was cut off) can't know that another one has taken over.
So the number of a lease grows each time that it is taken, and each write transaction of its holder compares: with
another number it writes nothing. Writers go one at a time, so the number can't change before the commit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, select, update
from sqlalchemy.orm import Session

from kbsync.errors import LeaseHeld
from kbsync.store.tables import LeaseRow

RUN = "run"  # one sync, reconcile or load at a time
LEADER = "leader"  # one daemon at a time


@dataclass(frozen=True, slots=True)
class Fence:
    """A lease as its holder took it."""

    name: str
    epoch: int


def take(tx: Session, name: str) -> Fence:
    """Take a lease, from whoever has it: the caller has made sure that he may."""
    row = tx.get(LeaseRow, name)
    if row is None:
        row = LeaseRow(name=name, epoch=0)
        tx.add(row)
    row.epoch += 1
    tx.flush()
    return Fence(name, row.epoch)


def check(tx: Session, fences: Collection[Fence]) -> None:
    """Raises LeaseHeld when one of the leases has been taken by another process."""
    if not fences:
        return
    names = [fence.name for fence in fences]
    rows = tx.execute(select(LeaseRow.name, LeaseRow.epoch).where(LeaseRow.name.in_(names)))
    found: dict[str, int] = {row.name: row.epoch for row in rows}
    for fence in fences:
        if found.get(fence.name) != fence.epoch:
            raise LeaseHeld(
                f"another process has taken over the {fence.name}'s lease (epoch {found.get(fence.name, 0)}, ours "
                f"was {fence.epoch}): this one was paused or cut off for too long; nothing more of it was written"
            )


def revoke_all(connection: Connection) -> None:
    """Nobody holds a lease any more: whoever has one open is of another schema."""
    if inspect(connection).has_table(LeaseRow.__tablename__):
        connection.execute(update(LeaseRow).values(epoch=LeaseRow.epoch + 1))
