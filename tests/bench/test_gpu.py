"""The script for accelerators, on a CPU and tiny models: it runs without kbsync's packages, and its figures are
what they are called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from kbsync.bench import gpu, gpu_check
from kbsync.bench.fullsize import (
    SIZES,
    TINY_LAYERS,
    default_settings,
    sentences,
    synthetic_requests,
    word_encoder,
)
from kbsync.edit.contexts import build_contexts
from kbsync.edit.others import Others
from kbsync.edit.solve import Solution
from kbsync.edit.target import TargetSolver
from kbsync.settings import CovarianceSettings, EditSettings

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
# What a machine with torch and transformers alone does not have.
ABSENT = ("pydantic", "pydantic_settings", "sqlalchemy", "alembic", "click", "rich", "structlog", "stamina",
          "psycopg", "apscheduler", "SPARQLWrapper", "gguf", "pyoxigraph", "accelerate")  # fmt: skip
BLOCK = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
sys.argv = ["bench_gpu.py", *sys.argv[1:]]
import runpy
runpy.run_path("tools/bench_gpu.py", run_name="__main__")
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """The script in a process that can't import what kbsync needs besides torch."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", BLOCK, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_it_runs_with_torch_and_transformers_alone(tmp_path: Path) -> None:
    """All parts, in a table and in JSON with day, device, versions and command."""
    words = ["--tiny", "--device", "cpu", "--edits", "12", "--evaluations", "2", "--seconds", "0.1", "--facts", "6",
             "--tokens", "2400", "--model", "llama-8b", "--out", str(tmp_path / "out.json")]  # fmt: skip
    done = run(*words)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == found
    assert set(found) == {"machine", "model", "tiny", "check", "z", "rebuild", "covariance"}
    assert found["check"]["ok"] is True
    assert found["machine"]["torch"] == torch.__version__
    assert "--model llama-8b" in found["machine"]["command"]
    assert found["covariance"]["tokens_per_second"] > 0
    assert "  seconds per edit " in done.stdout


def test_one_part_alone(tmp_path: Path) -> None:
    """Nothing else is measured."""
    done = run("--tiny", "--device", "cpu", "--part", "rebuild", "--facts", "4")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) == {"machine", "model", "tiny", "rebuild"}


@pytest.mark.parametrize(("section", "settings"), [("Edit", EditSettings), ("Covariance", CovarianceSettings)])
def test_settings_are_the_programs_defaults(section: str, settings: Any) -> None:
    """Read from the source, they are those that the program has; an unknown one is an error."""
    assert vars(default_settings(section)) == settings().model_dump()
    assert default_settings("Edit", steps=3).steps == 3
    with pytest.raises(ValueError, match="has no setting stepps"):
        default_settings("Edit", stepps=3)


@pytest.mark.parametrize(("name", "billions"), [("gptj-6b", 6.05), ("neox-20b", 20.6), ("llama-8b", 8.03)])
def test_full_size_is_full_size(name: str, billions: float) -> None:
    """The configs have the numbers of parameters that the models are called by; the layers are there."""
    size = SIZES[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(size.kind, **size.config))
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, rel=0.01)
    assert max(size.layers) < model.config.num_hidden_layers - 1


def test_requests_are_as_long_as_real_ones() -> None:
    """Each is another one, the same in every run, and every word is a token."""
    encoder = word_encoder()
    requests = synthetic_requests(500)
    assert requests == synthetic_requests(500) != synthetic_requests(500, seed=1)
    assert len({request.content_hash for request in requests}) == 500
    rows = [encoder.plain(request.rewrite, request.target_new) for request in requests]
    assert {row.target_len for row in rows} == {1, 2, 3, 4}
    assert {len(row.ids) - row.target_len - 1 - row.subject_last for row in rows} == {1, 2, 3, 4}
    assert all(encoder.tokenizer.unk_token_id not in row.ids for row in rows)
    assert sum(len(encoder.text_ids(text)) for text in sentences(1000)) == 1000


@pytest.mark.parametrize("name", SIZES)
def test_the_check_finds_nothing_wrong_on_a_cpu(name: str) -> None:
    """Batches, reruns, the closed form, half precision."""
    found = gpu_check.check(SIZES[name], CPU)
    assert found["ok"], found
    assert found["bfloat16_least_cosine"] > 0.5


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that is off by a hundredth is found."""
    from kbsync.edit import update

    plain = update.solution

    def off(*args: Tensor, **named: bool) -> Solution:
        right = plain(*args, **named)
        return replace(right, delta=1.01 * right.delta)

    monkeypatch.setattr(update, "solution", off)
    found = gpu_check.check(SIZES["llama-8b"], CPU)
    assert not found["ok"]
    assert found["weights_against_float64"] == pytest.approx(0.01, rel=0.05)


def test_every_z_takes_all_its_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that time goes by work, not by how random weights happen to converge; what was not measured is
    extrapolated, and said to be."""
    taken: list[int] = []
    plain = TargetSolver.solve

    def solve(solver: TargetSolver, *args: Any) -> Any:
        found = plain(solver, *args)
        taken.extend(target.steps for target in found)
        return found

    monkeypatch.setattr(TargetSolver, "solve", solve)
    subject = gpu.prepare(SIZES["gptj-6b"], CPU, torch.float32, True, TINY_LAYERS)
    some = gpu.measure_z(subject, 40, 3, 0.0, 1e12, batch_size=8)
    assert set(taken) == {3}
    assert (some["measured"], some["extrapolated"], some["batch_sizes"]) == (8, True, [8, 8])
    assert some["seconds_for_all"] == pytest.approx(5 * 8 * some["seconds_per_edit"])
    whole = gpu.measure_z(subject, 20, 2, float("inf"), 1e12, batch_size=8)
    assert (whole["measured"], whole["extrapolated"]) == (20, False)


@pytest.mark.parametrize(("kl_weight", "behind_it", "read"), [(0.0, 0, 0), (0.01, 3, 1)])
def test_the_floor_is_the_arithmetic_that_is_left(kl_weight: float, behind_it: int, read: int) -> None:
    """By hand, for one request: tokens behind the subject through the layers above, and the vocabulary. The last
    three tokens of `<subject> is a` count where there is a KL term."""
    subject = gpu.prepare(SIZES["llama-8b"], CPU, torch.float32, True, TINY_LAYERS)
    settings = default_settings("Edit", contexts=(), kl_weight=kl_weight)
    contexts = build_contexts(subject.adapter.model, subject.encoder, settings)
    solver = TargetSolver(subject.adapter, subject.encoder, contexts, 3, settings)
    request = synthetic_requests(1)[0]
    row = subject.encoder.plain(request.rewrite, request.target_new)
    behind = len(row.ids) - 1 - row.subject_last + behind_it
    one_layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128
    expected = 4 * (behind * 2 * one_layer + (row.target_len + read) * 64 * 8002)
    assert gpu.floor_flops(solver, request) == expected


def test_a_batch_without_room_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the report says how often."""
    plain = TargetSolver.solve

    def solve(solver: TargetSolver, requests: Any, *args: Any) -> Any:
        if len(requests) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(solver, requests, *args)

    monkeypatch.setattr(TargetSolver, "solve", solve)
    subject = gpu.prepare(SIZES["gptj-6b"], CPU, torch.float32, True, TINY_LAYERS)
    found = gpu.measure_z(subject, 8, 2, 0.0, 1e12, batch_size=8)
    assert (found["measured"], found["batches_halved_for_memory"]) == (8, 3)


def test_z_is_measured_with_another_subject_beside_it() -> None:
    """As a sync solves it: each request has one, which is in the floor."""
    said = [f"{one.rewrite.text} {one.target_new}." for one in synthetic_requests(60)]
    others = Others(said)
    assert all(others.like(request) is not None for request in synthetic_requests(300))
    subject = gpu.prepare(SIZES["llama-8b"], CPU, torch.float32, True, TINY_LAYERS)
    seen: list[int] = []
    plain = TargetSolver.members

    def members(solver: TargetSolver, *args: Any) -> Any:
        found = plain(solver, *args)
        seen.append(sum(member.weight is not None for member in found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TargetSolver, "members", members)
        gpu.measure_z(subject, 4, 2, 0.0, 1e12)
    assert set(seen) == {1}
