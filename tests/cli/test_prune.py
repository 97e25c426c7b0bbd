"""`kbsync prune`, and copies of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.store import daemons
from kbsync.store.engine import open_store
from kbsync.sync.clock import now
from tests.cli.conftest import Call, data, error, url_of


def test_a_dry_run_says_what_would_go(told: Call, config: Path) -> None:
    """The same as what goes then, and a table for people."""
    config.write_text(config.read_text() + "[retention]\ncheckpoints_count = 0\n")
    before = data(told("prune", "--dry-run", "--json"))
    assert before["dry_run"] is True
    assert before["checkpoints"] == ["model-2"]
    assert "would free" in told("prune", "--dry-run").stdout
    assert data(told("prune", "--json")) == {**before, "dry_run": False}
    assert "freed 0" in told("prune").stdout
    assert "pruned " in told("checkpoint", "list").stdout


@pytest.mark.sqlite("a copy of a database is made by its server's own tools")
def test_backup_and_restore(told: Call, config: Path) -> None:
    """There and back; a store that is there is replaced when told so, and not under a daemon."""
    copy = config.parent / "copy.db"
    assert data(told("db", "backup", str(copy), "--json"))["bytes"] == copy.stat().st_size
    assert "--force" in error(told("db", "restore", str(copy), "--json"))["message"]
    assert "next: `kbsync doctor`" in told("db", "restore", str(copy), "--force").stdout
    with open_store(url_of(config)) as store, store.begin() as tx:
        daemons.start(tx, "elsewhere", 1, now())
    assert "a daemon works on the store" in error(told("db", "restore", str(copy), "--force", "--json"))["message"]
    assert told("db", "backup", str(copy)).exit_code == 4
    assert "holds the store" in told("db", "backup", str(copy), "--force").stdout
