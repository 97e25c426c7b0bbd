"""One page of the source → the store: the one path that first pull, tail, stream and dump share."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from kbsync.facts import Pulled
from kbsync.source.page import Page, assemble, newest
from kbsync.store import known, mirror, readings
from kbsync.sync.clock import now


def take(tx: Session, run_id: int, page: Page, at: datetime, *, baseline: bool = False) -> Pulled:
    """Compare a page, read at the source's time `at`, with the store, and store what differs, with its cursor.

    What is older than the store's readings is left out and counted as `older`. `baseline`: a first pull.
    """
    page = newest(page, readings.readings_of(tx, page.relation, page.subjects), at)
    pulled = assemble(page, known.statements_of(tx, page.relation, page.subjects), now=at)
    mirror.apply(tx, run_id, now(), pulled, baseline=baseline)
    return pulled
