"""Poisoned candidates: whatever a bad edit, a bad z or a bad disk makes of one, it never goes live."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kbsync.checkpoint.manifest import FILE_NAME
from kbsync.checkpoint.tensors import applied, tensors_hash
from kbsync.checkpoint.verify import TENSORS
from kbsync.edit import update
from kbsync.edit.adapters import Adapter
from kbsync.edit.conditioning import Conditioning
from kbsync.edit.memit import Editor, Rebuilt
from kbsync.evaluate.gate import Soundness, verdicts_on
from kbsync.store import checkpoints
from kbsync.store.engine import open_store
from kbsync.store.tables import RunStatus, TargetRow
from kbsync.sync import publishing, readback
from kbsync.sync.run import Report
from kbsync.sync.workbench import Workbench
from tests.sync.content import Content, read_content
from tests.sync.rig import Rig
from tests.sync.world import WINDOW_2


@pytest.fixture
def moved(synced: Rig) -> Rig:
    """A live model, and a world that has gone on: the next sync makes a candidate."""
    synced.world.changes(*WINDOW_2)
    return synced


ALL = "; what the live model holds does not pass without the new facts either"


def refused(rig: Rig, report: Report, rule: str, more: str = "") -> str:
    """The candidate was refused by this rule alone, in the report and in the ledger; the reason, without what the
    bisection says `more`."""
    assert report.status is RunStatus.REJECTED
    assert rig.published() == rig.link() == "sync-000002"
    rows = rig.rows(f"SELECT metric, reason FROM gate_verdicts WHERE run_id = {report.run_id} AND NOT passed")
    ((metric, reason),) = rows
    assert metric == rule
    assert report.reason == reason + more
    return str(reason)


def poison_z(rig: Rig, value: float) -> None:
    """Put a number into the z of a fact that stays in the live set."""
    with open_store(rig.settings().store.url) as store, store.begin() as tx:
        query = "SELECT z_hash FROM targets t JOIN edit_requests r USING (content_hash) WHERE r.subject = 'Q1004'"
        for (z_hash,) in rig.rows(query):
            row = tx.get(TargetRow, z_hash)
            assert row is not None
            z = np.frombuffer(row.vector, dtype="<f4").copy()
            z[3] = value
            row.vector = z.tobytes()


def test_a_broken_z(moved: Rig, undisturbed: Content) -> None:
    """It is named and forgotten; nothing is written, and the next sync solves it again and is as if nothing was."""
    poison_z(moved, float("nan"))
    report = moved.sync()
    reason = refused(moved, report, "finite")
    assert "z of 'The head of " in reason
    assert "Dorne" in reason
    assert moved.rows("SELECT count(*) FROM checkpoints WHERE status != 'published'") == [(0,)]
    assert tuple(report.counts)[-1] == "rebuild"
    assert moved.rows("SELECT DISTINCT outcome FROM changes WHERE run_id = 3 AND kind != 'retired'") == [
        ("refused: run 3",)
    ]
    assert moved.sync().status is RunStatus.PUBLISHED
    assert read_content(moved).rows["live_facts"] == undisturbed.rows["live_facts"]


def test_a_model_that_has_collapsed(moved: Rig) -> None:
    """A z and weights that are finite, and drown everything else: one answer is given to all. It would be again, so
    the refusal stands until something changes."""
    poison_z(moved, 3e38)
    reason = refused(moved, moved.sync(), "collapse")
    assert "whatever is asked (100% of the time; the base 78%)" in reason
    again = moved.sync()
    assert again.status is RunStatus.REJECTED
    assert again.reason == f"run 3 built the same candidate, and the gate refused it: {reason}"
    assert tuple(again.counts) == ("pull", "plan", "solve")
    assert moved.rows("SELECT count(*) FROM checkpoints WHERE status = 'rejected'") == [(1,)]
    moved.world.changes(("Q1009", "P6", "Q2024"))
    assert tuple(moved.sync().counts)[-1] == "gate"


def test_a_broken_tensor(moved: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever made the update so: it is named, with what is in it, before anything is asked of the model. The same
    candidate isn't built again, and without whatever it was another one goes live."""
    add = update.add

    def break_one(adapter: Adapter, layer: int, delta: Tensor) -> None:
        if layer == 1:
            delta[2, 1] = float("-inf")
        add(adapter, layer, delta)

    with monkeypatch.context() as one:
        one.setattr(update, "add", break_one)
        report = moved.sync()
        reason = refused(moved, report, "finite", ALL)
        assert "model.layers.1.mlp.down_proj.weight holds 0 NaN and 1 infinite of " in reason
        assert tuple(report.counts)[-1] == "rebuild"
        again = moved.sync()
        assert again.reason == f"run 3 built the same candidate, and the gate refused it: {reason}{ALL}"
        assert tuple(again.counts)[-1] == "solve"
    assert moved.sync(force=True).status is RunStatus.PUBLISHED


def test_a_file_that_changed_after_it_was_written(moved: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused for its files; the next sync writes the same weights again, and they go live."""
    write = publishing.write

    def flipping(*words: Any) -> tuple[int, Path]:
        candidate, path = write(*words)
        whole = bytearray((path / TENSORS).read_bytes())
        whole[len(whole) // 2] ^= 1
        (path / TENSORS).write_bytes(whole)
        return candidate, path

    with monkeypatch.context() as one:
        one.setattr(publishing, "write", flipping)
        reason = refused(moved, moved.sync(), "read_back")
    assert "edited.safetensors is damaged" in reason
    assert moved.sync().status is RunStatus.PUBLISHED
    assert moved.published() == moved.link() == "sync-000004"


def test_what_is_read_back(moved: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On one candidate: each thing that can be wrong with its files is found, and named; left alone it goes live,
    with all rows, and the ledger tells how the solves were posed, with a warning where badly."""
    rebuild, check = Editor.rebuild, readback.check
    seen: list[Soundness] = []

    def posed(self: Editor, *words: Any, **named: Any) -> Rebuilt:
        built = rebuild(self, *words, **named)
        return replace(built, conditioning={**built.conditioning, 1: Conditioning(1e14, 1e-3)})

    def checked(bench: Workbench, live: Any, rebuilt: Rebuilt, candidate: int) -> readback.ReadBack:
        def wrong() -> tuple[str, str]:
            sound = check(bench, live, rebuilt, candidate).sound
            verdicts = verdicts_on(None, sound, bench.settings.gate)
            ((rule, reason),) = [(v.metric, v.reason) for v in verdicts if not v.passed]
            return rule, reason

        base = tensors_hash(dict(bench.base.model.named_parameters()))
        with bench.store.read() as tx:
            path = Path(checkpoints.checkpoint_of(tx, candidate).path)
        manifest = path / FILE_NAME
        whole = manifest.read_bytes()
        manifest.write_bytes(whole + b"\n")
        assert wrong() == ("read_back", f"{manifest} is not what was written")
        manifest.write_bytes(whole)

        tensors = dict(rebuilt.tensors)
        first = min(tensors)
        with monkeypatch.context() as one:
            one.setattr(readback, "_read", lambda *_: {**tensors, first: tensors[first] * 1.001})
            assert wrong() == ("read_back", "the tensors in the files are not those that were built")
            one.setattr(readback, "_read", lambda *_: {**tensors, first: tensors[first] / 0})
            rule, reason = wrong()
            assert rule == "finite"
            assert reason.startswith(f"{first} holds ")
        with monkeypatch.context() as one:
            one.setattr(readback, "applied", lambda model, t: applied(model, {**t, first: t[first].roll(1, 0)}))
            rule, reason = wrong()
            assert rule == "read_back"
            assert "at ordinary text it does not answer as it did in memory (logits " in reason
        found = check(bench, live, rebuilt, candidate)
        assert tensors_hash(dict(bench.base.model.named_parameters())) == base
        seen.append(found.sound)
        return found

    monkeypatch.setattr(Editor, "rebuild", posed)
    monkeypatch.setattr(readback, "check", checked)
    report = moved.sync()
    assert report.status is RunStatus.PUBLISHED
    assert seen == [Soundness(2, probes=6, wrong=[], collapsed=[])]
    assert moved.rows(
        "SELECT metric, value, threshold, reason FROM gate_verdicts WHERE run_id = 3 ORDER BY id"
    ) == [
        ("finite", 0, 0, "all 2 tensors are finite, as built and as written"),
        ("read_back", 0, 0, "6 probes are answered from the files as they were from memory"),
        ("collapse", 0, 0, "6 probes are not all answered with one token"),
    ]
    assert report.counts["gate"]["probes"] == 6
    ((counts,),) = moved.rows("SELECT counts FROM run_stages WHERE run_id = 3 AND stage = 'rebuild'")
    ledger = json.loads(counts) if isinstance(counts, str) else counts
    assert ledger["condition_0"] > 1
    assert 0 < ledger["solve_residual_0"] < 1e-9
    assert (ledger["condition_1"], ledger["solve_residual_1"]) == (1e14, 1e-3)
    said = "".join(capsys.readouterr())
    assert "badly posed for float64" in said
    assert "1.0e+14" in said


class TestDifferences:
    """What is compared, on logits made by hand."""

    probes = (readback.Probe("'a'", (1, 2), 1), readback.Probe("ordinary text", (1, 2, 3), 2))
    base = (torch.eye(4)[:1], torch.eye(4)[1:3])  # says 0, then 1 and 2

    def found(self, read: tuple[Tensor, ...], exact: bool = True, judged: tuple[Tensor, ...] = ()) -> list[str]:
        """The sentences, against itself in memory unless said."""
        return readback.differences(self.probes, judged or read, read, exact)

    def test_the_same_bits_pass(self) -> None:
        """And other bits do not, however near."""
        assert self.found(self.base) == []
        near = tuple(logits + 1e-6 for logits in self.base)
        assert len(self.found(near, judged=self.base)) == 2

    def test_beyond_the_cpu_a_step_of_bfloat16_passes(self) -> None:
        """Of the largest logit; twice of it does not."""
        for steps, wrong in ((1, 0), (2, 2)):
            near = tuple(logits + steps * readback.TOLERANCE for logits in self.base)
            assert len(self.found(near, exact=False, judged=self.base)) == wrong

    def test_nan_never_passes(self) -> None:
        """Also where both have it: it equals nothing."""
        nan = (self.base[0] * float("nan"), self.base[1])
        for exact in (True, False):
            assert self.found(nan, exact) == ["what it says at 'a' is not finite"]

    def test_one_token_is_a_fault_only_where_the_base_says_more(self) -> None:
        """A base model that says one thing is no fault of the edits, and is not asked where they say several."""
        one = (torch.eye(4)[3:], torch.eye(4)[[3, 3]])
        told = ["it says token 3 whatever is asked (100% of the time; the base 33%)"]
        assert readback.collapse(one, lambda: self.base) == told
        assert readback.collapse(one, lambda: one) == []
        assert readback.collapse(self.base, pytest.fail) == []
