"""What a store holds, without what may differ between two histories that end alike: ids, run numbers, times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from kbsync.store.engine import open_store
from tests.sync.rig import Rig

QUERIES = {
    "facts": "SELECT subject, relation, value, baseline, retired_at IS NULL, retired_reason FROM facts",
    "statements": "SELECT id, value, rank, best, retired_at IS NULL, retired_reason FROM statements",
    "labels": "SELECT id, label, revision FROM entities",
    "cursors": "SELECT relation, modified, item, complete_at IS NULL FROM cursors",
    "changes": "SELECT kind, subject, relation, old_value, new_value, reason, outcome FROM changes",
    "requests": (
        "SELECT content_hash, subject, relation, value, target_new, target_old, status, reason FROM edit_requests"
    ),
    "targets": "SELECT z_hash, content_hash, steps FROM targets",
    "holds": "SELECT subject, relation, value, reason, released_at IS NULL FROM holds",
    "quarantines": "SELECT content_hash, kind, metric, released_at IS NULL FROM quarantines",
    "publications": (
        "SELECT p.action, c.weights_hash, c.live_hash, p.ended_at IS NULL FROM publications p "
        "LEFT JOIN checkpoints c ON c.id = p.checkpoint_id"
    ),
    "live_facts": "SELECT subject, relation, object_label FROM live_facts",
    "outcomes": (
        "SELECT r.content_hash, o.phase, o.kind, o.idx, o.prompt, o.target_new, o.target_old, o.success, "
        "o.accuracy "
        "FROM outcomes o JOIN edit_requests r ON r.id = o.request_id JOIN checkpoints c ON c.run_id = o.run_id "
        "WHERE c.status = 'published'"
    ),
    "metrics": (
        "SELECT m.name, m.phase, m.count FROM metrics m JOIN checkpoints c ON c.run_id = m.run_id "
        "WHERE c.status = 'published'"
    ),
}


@dataclass(frozen=True)
class Content:
    """Rows by what they are about, and the bits of every z."""

    rows: dict[str, list[tuple[Any, ...]]]
    targets: dict[str, bytes]

    @property
    def weights(self) -> str:
        """The hash of the published weights."""
        return str(next(row[1] for row in self.rows["publications"] if row[3]))


def read_content(rig: Rig) -> Content:
    """Everything that must be the same after any history that ends alike, as of one moment."""
    with open_store(rig.settings().store.url) as store, store.read() as tx:
        rows = {
            name: sorted((tuple(row) for row in tx.execute(text(sql))), key=repr) for name, sql in QUERIES.items()
        }
        found = tx.execute(text("SELECT z_hash, vector FROM targets"))
        return Content(rows, {z_hash: bytes(vector) for z_hash, vector in found})
