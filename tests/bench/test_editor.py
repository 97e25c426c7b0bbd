"""`kbsync bench editor`: real changes, sane numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kbsync.bench.editor import bench_editor
from kbsync.bench.edits import real_changes
from kbsync.errors import ConfigError
from kbsync.request.catalogue import Catalogue, load_catalogue
from kbsync.settings import load_settings, share
from kbsync.sync.workbench import Workbench
from tests.sync import tiny_model
from tests.sync.world import book


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The catalogue that ships."""
    return load_catalogue(share("config/relations.toml"))


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A workbench on a tiny model."""
    model = tiny_model.save(tmp_path / "model", book())
    return Workbench(
        load_settings(
            None,
            {
                "model": {"base": str(model), "cache": tmp_path / "cache", "device": "cpu", "threads": 1},
                "edit": {
                    "layers": [0, 1], "steps": 4, "prefixes": 1, "batch_size": 4, "repair_rounds": 1,
                    "solve_dtype": "float32",
                },
                "covariance": {"tokens": 1000, "chunk_tokens": 32, "facts_share": 0.0},
                "evaluate": {"drift_tokens": 64},
                "store": {"url": f"sqlite:///{tmp_path}/never.db"},
            },
        )
    )  # fmt: skip


def test_real_changes_can_be_said_and_are_distinct(catalogue: Catalogue) -> None:
    """No two of them share a fact's subject and relation, a prompt, or a content hash."""
    found = real_changes(catalogue, 50)
    assert len(found) == 50
    assert len({(r.fact.subject, r.fact.relation) for r in found}) == 50
    assert len({r.rewrite.text for r in found}) == 50
    assert len({r.content_hash for r in found}) == 50
    assert all(r.target_new and r.target_new != r.target_old for r in found)
    assert len({r.fact.relation for r in found}) >= 5


def test_real_changes_are_always_the_same(catalogue: Catalogue) -> None:
    """Fewer are the first of more, so measurements of two days compare."""
    assert real_changes(catalogue, 20) == real_changes(catalogue, 40)[:20]


def test_more_changes_than_there_are(catalogue: Catalogue) -> None:
    """The error says how many there are."""
    with pytest.raises(ConfigError, match=r"only \d+ changes"):
        real_changes(catalogue, 10_000)


def test_the_bench_measures(bench: Workbench, tmp_path: Path) -> None:
    """Its JSON has every figure, finite and plausible; the sums are the figures per edit, times the edits."""
    found = bench_editor(bench, 6)
    shown = json.loads(json.dumps(found.as_json()))
    assert shown["edits"] == 6
    assert shown["solve_s"] > 0
    assert shown["rebuild_s"] > 0
    assert 1 <= shown["mean_steps"] <= 4
    assert shown["solve_s_per_edit"] == pytest.approx(found.solve_s / 6, abs=1e-4)
    assert shown["rebuild_s_per_fact"] == pytest.approx((found.rebuild_s + found.repair_s) / 6, abs=1e-4)
    assert 0 <= shown["misses"][-1] <= shown["misses"][0] <= 6
    assert 0 <= shown["quality"]["efficacy_success"] <= 1
    assert shown["quality"]["perplexity_ratio"] > 0
    assert all(math.isfinite(value) for value in shown["quality"].values())
    assert shown["machine"]["device"] == "cpu"
    assert shown["machine"]["threads"] == 1
    assert shown["machine"]["solve_dtype"] == "float32"
    assert not (tmp_path / "never.db").exists()


def test_the_bench_leaves_the_base_model(bench: Workbench) -> None:
    """After the measurement the model holds its base weights."""
    before = {name: p.clone() for name, p in bench.base.model.named_parameters()}
    bench_editor(bench, 2)
    assert all(p.equal(before[name]) for name, p in bench.base.model.named_parameters())
