"""`kbsync bench editor`: real changes, sane numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kbsync.bench.editor import bench_editor
from kbsync.errors import ConfigError
from kbsync.sync.workbench import Workbench


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
    assert "serial" not in shown
    assert not (tmp_path / "never.db").exists()


def test_the_serial_method_is_measured_beside_ours(bench: Workbench) -> None:
    """On some of the same edits, both with their quality on just these, and the ratio is that of seconds per edit,
    all included."""
    found = bench_editor(bench, 4, serial=2)
    shown = found.as_json()["serial"]
    assert found.serial is not None
    assert shown["edits"] == 2
    ours = found.solve_per_edit + found.rebuild_per_fact
    assert shown["times_ours"] == pytest.approx(found.serial.per_edit / ours, abs=0.01)
    assert set(shown["quality"]) == set(shown["ours"]) == set(found.quality)


def test_the_sample_is_measured_as_the_whole_is(bench: Workbench) -> None:
    """Where all edits are edited one by one, too, what is ours of them is what is ours."""
    found = bench_editor(bench, 2, serial=2)
    assert found.sample_quality == found.quality


def test_more_edits_one_by_one_than_there_are_are_refused(bench: Workbench) -> None:
    """Before anything is solved."""
    with pytest.raises(ConfigError, match="3 edits can't be some of 2"):
        bench_editor(bench, 2, serial=3)


def test_the_bench_leaves_the_base_model(bench: Workbench) -> None:
    """After the measurement the model holds its base weights."""
    before = {name: p.clone() for name, p in bench.base.model.named_parameters()}
    bench_editor(bench, 2)
    assert all(p.equal(before[name]) for name, p in bench.base.model.named_parameters())
