"""A workbench on a tiny model, and the catalogue that ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.request.catalogue import Catalogue, load_catalogue
from kbsync.settings import load_settings, share
from kbsync.sync.workbench import Workbench
from tests.sync import tiny_model
from tests.sync.world import book

EDIT = {
    "layers": [0, 1], "steps": 4, "prefixes": 1, "batch_size": 4, "repair_rounds": 1, "solve_dtype": "float32",
}  # fmt: skip
TAKES = {  # settings under which most edits take on the tiny model
    "layers": [0, 1], "covariance_weight": 1.0, "bystander_weight": 0.0, "clamp": 5.0, "steps": 16, "prefixes": 0,
    "contexts": [], "key_contexts": [], "batch_size": 8, "solve_dtype": "float32", "repair_rounds": 1,
    "repair_contexts": [],
}  # fmt: skip


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """The catalogue that ships."""
    return load_catalogue(share("config/relations.toml"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder."""
    return tiny_model.save(tmp_path_factory.mktemp("bench") / "model", book())


def workbench(model: Path, folder: Path, edit: dict[str, object]) -> Workbench:
    """A workbench of its own folder, whose store is never needed."""
    return Workbench(
        load_settings(
            None,
            {
                "model": {"base": str(model), "cache": folder / "cache", "device": "cpu", "threads": 1},
                "edit": edit,
                "covariance": {"tokens": 1000, "chunk_tokens": 32, "facts_share": 0.0},
                "evaluate": {"drift_tokens": 64, "neighbors": 2},
                "store": {"url": f"sqlite:///{folder}/never.db"},
            },
        )
    )


@pytest.fixture
def bench(tiny: Path, tmp_path: Path) -> Workbench:
    """A workbench whose edits are quick."""
    return workbench(tiny, tmp_path, EDIT)


@pytest.fixture(scope="module")
def taking(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A workbench whose edits take."""
    with workbench(tiny, tmp_path_factory.mktemp("taking"), TAKES) as one:
        yield one
