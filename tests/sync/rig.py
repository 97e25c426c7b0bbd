"""One kbsync in a folder of its own: its settings, and a sync at a call."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from kbsync.settings import Settings, load_settings
from kbsync.store.engine import open_store
from kbsync.sync.run import Report, sync_once
from kbsync.sync.workbench import Workbench
from tests.stores import Stores, chosen
from tests.sync.world import RELATIONS, World

OPEN_GATE = dict.fromkeys(
    (
        "min_efficacy_success",
        "min_efficacy_accuracy",
        "min_paraphrase_success",
        "max_neighborhood_drop",
        "max_perplexity_ratio",
        "max_retired_favoured",
    ),
    "off",
)

OPEN_TRUST: dict[str, Any] = {  # everything passes at once: the loop is what is tested, not the filter
    "settling": "0",
    "label_settling": "0",
    "references": "optional",
    "types": "off",
    "war_flips": 0,
    "max_per_subject": 0,
    "max_per_relation": 0,
    "max_per_run": 0,
    "ask_share": "off",
    "label_checks": False,
}


@dataclass
class Rig:
    """A world, and a store, checkpoints and settings for it."""

    world: World
    folder: Path
    model: Path
    cache: Path
    url: str | None = None  # another way to the store
    stores: Stores = field(default_factory=chosen)

    @property
    def place(self) -> Path:
        """The store's, as a file or not."""
        return self.folder / "kbsync.db"

    @property
    def checkpoints(self) -> Path:
        """Where the synced models go."""
        return self.folder / "checkpoints"

    def settings(self, **changes: dict[str, Any]) -> Settings:
        """The settings of a small model on one thread, with `changes` by section."""
        sections: dict[str, dict[str, Any]] = {
            "model": {"base": str(self.model), "cache": self.cache, "device": "cpu", "threads": 1},
            "source": {
                "endpoint": self.world.endpoint, "contact": "tests", "overlap_s": 0, "attempts": 2, "timeout_s": 20,
            },
            "watch": {"relations": list(RELATIONS)},
            "trust": dict(OPEN_TRUST),
            "edit": {
                "layers": [0, 1], "covariance_weight": 1.0, "bystander_weight": 0.0, "clamp": 10.0, "steps": 16,
                "prefixes": 0, "contexts": [], "key_contexts": [], "batch_size": 2, "solve_dtype": "float32",
                "repair_rounds": 1, "repair_contexts": [],
            },
            "covariance": {"tokens": 1000, "chunk_tokens": 32, "facts_share": 0.0},
            "evaluate": {"drift_tokens": 64, "neighbors": 2, "said_tokens": 3},
            "gate": dict(OPEN_GATE),
            "checkpoint": {"folder": self.checkpoints},
            "store": {"url": self.url or self.stores.url(self.place)},
        }  # fmt: skip
        for section, keys in changes.items():
            sections[section] = {**sections.get(section, {}), **keys}
        return load_settings(None, sections)

    def toml(self, **changes: dict[str, Any]) -> str:
        """The settings as a file."""
        lines = []
        for section, keys in self.settings(**changes).model_dump(mode="json").items():
            lines.append(f"[{section}]")
            for key, value in keys.items():
                if value is None and section == "gate":
                    lines.append(f'{key} = "off"')
                elif value is not None:
                    shown = str(value).lower() if isinstance(value, bool) else repr(value)
                    lines.append(f"{key} = {shown}")
        return "\n".join(lines) + "\n"

    @contextmanager
    def bench(self, **changes: dict[str, Any]) -> Iterator[Workbench]:
        """An open workbench."""
        with Workbench(self.settings(**changes)) as one:
            yield one

    def sync(self, force: bool = False, **changes: dict[str, Any]) -> Report:
        """One sync in a workbench of its own, as a process of its own would do it."""
        with self.bench(**changes) as bench:
            return sync_once(bench, force=force)

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """What a query finds in the store."""
        with open_store(self.settings().store.url) as store, store.read() as tx:
            return [tuple(row) for row in tx.execute(text(sql))]

    def keep(self, moment: Path) -> None:
        """Copy the folder and the store, for `put_back`."""
        shutil.copytree(self.folder, moment, symlinks=True)
        self.stores.copy(self.place, moment / self.place.name)

    def put_back(self, moment: Path) -> None:
        """Bring back what was kept, to the folder that it came from: a store names its checkpoints by their full
        path."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(moment, self.folder, symlinks=True)
        self.stores.copy(moment / self.place.name, self.place)

    def run_status(self) -> tuple[str, str | None]:
        """How the last run ended, and why."""
        ((status, reason),) = self.rows("SELECT status, reason FROM runs ORDER BY id DESC LIMIT 1")
        return str(status), reason

    def published(self) -> str | None:
        """The name of the live checkpoint, by the store."""
        found = self.rows(
            "SELECT c.name FROM publications p LEFT JOIN checkpoints c ON c.id = p.checkpoint_id "
            "WHERE p.ended_at IS NULL"
        )
        return found[0][0] if found else None

    def link(self) -> str | None:
        """The name of the live checkpoint, by the link."""
        link = self.checkpoints / "live"
        return str(link.readlink()) if link.is_symlink() else None
