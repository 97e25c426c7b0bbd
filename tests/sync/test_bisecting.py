"""A refused candidate is bisected: who does the damage is quarantined with the evidence, the others go live."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from kbsync import failpoints
from kbsync.edit.memit import Editor, Rebuilt
from kbsync.edit.target import Target
from kbsync.errors import NotFinite
from kbsync.facts import EditRequest
from kbsync.store import quarantines
from kbsync.store.tables import RunStatus
from kbsync.store.targets import Target as StoredTarget
from kbsync.sync import planning, solving
from kbsync.sync.clock import now
from kbsync.sync.run import Report
from kbsync.sync.workbench import Workbench
from tests.sync.content import Content, read_content
from tests.sync.harness import fork, wait
from tests.sync.rig import Rig
from tests.sync.world import GOVERNMENT, STATE, person

GATE = {"min_efficacy_success": 0.95}
YANN = ("Q1009", STATE, person(24))
NEW = (
    ("Q1007", STATE, person(14)),
    ("Q1008", GOVERNMENT, person(18)),
    YANN,
    ("Q1010", GOVERNMENT, person(20)),
    ("Q1011", STATE, person(26)),
)
HELD = "SELECT subject, reason FROM holds WHERE released_at IS NULL ORDER BY subject"
OPEN = "SELECT subject, kind FROM quarantines WHERE released_at IS NULL ORDER BY subject"
LIVE = "SELECT subject FROM live_facts WHERE subject >= 'Q1007' ORDER BY subject"
TRIALS = "SELECT number, facts, new, passed FROM bisection_trials WHERE run_id = {} ORDER BY number"


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the z of these people's facts be the opposite of what was solved: such an edit is missed."""

    def these(*names: str) -> None:
        real = solving._row

        def row(bench: Workbench, target: Target) -> StoredTarget:
            query = text("SELECT target_new FROM edit_requests WHERE content_hash = :one")
            with bench.store.read() as tx:
                bad = tx.execute(query, {"one": target.content_hash}).scalar() in names
            return real(bench, replace(target, z=-target.z) if bad else target)

        monkeypatch.setattr(solving, "_row", row)

    return these


@pytest.fixture
def spoiled(synced: Rig, poison: Callable[..., None]) -> Rig:
    """Five new facts, one of which is missed: that of Q1009."""
    poison("Yann")
    synced.world.changes(*NEW)
    return synced


def sync(rig: Rig, **gate: object) -> Report:
    """A sync under the gate that one missed edit breaks."""
    return rig.sync(gate={**GATE, **gate})


def test_the_culprit_is_quarantined_and_the_others_go_live(spoiled: Rig) -> None:
    """In one run: the row with its evidence, the named outcome, the smaller live set; the next run has nothing to
    do."""
    report = sync(spoiled)
    assert report.status is RunStatus.PUBLISHED
    assert report.reason == "facts kept out by the gate: 1 quarantined; `kbsync held` says why"
    assert spoiled.run_status() == ("published", report.reason)
    assert spoiled.rows(LIVE) == [("Q1007",), ("Q1008",), ("Q1010",), ("Q1011",)]
    assert spoiled.published() == spoiled.link() == "sync-000003"
    assert spoiled.rows(OPEN) == [("Q1009", "quarantined")]
    assert ("Q1009", "quarantined") in spoiled.rows(HELD)
    assert spoiled.rows("SELECT outcome FROM changes WHERE subject = 'Q1009' AND new_value = 'Q2025'") == [
        ("held: quarantined",)
    ]
    assert spoiled.rows("SELECT status, reason FROM edit_requests WHERE subject = 'Q1009'") == [
        ("withdrawn", "held: quarantined")
    ]
    assert spoiled.rows(
        "SELECT subject_label, object_label, metric, value_with, value_without, comparison, threshold, run, reason "
        "FROM kept_out_facts"
    ) == [
        ("Ilium", "Yann", "efficacy_success", pytest.approx(10 / 11), 1.0, "≥", 0.95, 3,
         "efficacy_success 0.909 is not ≥ 0.95; without it, it is 1.000"),
    ]  # fmt: skip
    assert report.counts["plan"]["held: quarantined"] == 1
    assert report.counts["solve"]["cached"] == 10
    counts = report.counts["gate"]
    assert (counts["failed"], counts["quarantined"]) == (0, 1)
    assert spoiled.rows("SELECT status, facts FROM checkpoints WHERE run_id = 3") == [("published", 10)]
    _trials_are_rows(spoiled, int(counts["trials"]))
    _nothing_is_left_to_do(spoiled)


def test_who_makes_weights_that_are_no_numbers_is_found(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild that is not finite is bisected like a candidate that the gate refuses."""
    rebuild = Editor.rebuild

    def overflowing(self: Editor, requests: Sequence[EditRequest], *words: Any, **named: Any) -> Rebuilt:
        if any(one.target_new == "Yann" for one in requests):
            raise NotFinite("a weight overflows float16")
        return rebuild(self, requests, *words, **named)

    monkeypatch.setattr(Editor, "rebuild", overflowing)
    synced.world.changes(*NEW)
    report = sync(synced)
    assert report.status is RunStatus.PUBLISHED
    assert synced.rows(LIVE) == [("Q1007",), ("Q1008",), ("Q1010",), ("Q1011",)]
    assert synced.rows("SELECT metric, value_with, value_without, reason FROM kept_out_facts") == [
        ("finite", 1.0, 0.0, "a weight overflows float16; without it, it is 0.000"),
    ]
    _nothing_is_left_to_do(synced)


def _trials_are_rows(rig: Rig, number: int) -> None:
    """The refused candidate, what is live without the new facts, then parts of them: who was in each, and the
    gate's numbers; the outcomes of the run are those of what it published."""
    rows = rig.rows(TRIALS.format(3))
    assert rows[:2] == [(0, 11, 5, 0), (1, 6, 0, 1)]
    assert len(rows) == number + 1
    with rig.bench() as bench, bench.store.read() as tx:
        found = quarantines.trials_of(tx, 3)
        (quarantined,) = quarantines.of_run(tx, 3)
    kept = max((trial for trial in found if trial.passed), key=lambda trial: trial.facts)
    assert set(found[0].requests) - set(kept.requests) == {quarantined.request_id}
    assert [trial.verdicts[0].value for trial in (found[0], kept)] == [pytest.approx(10 / 11), 1.0]
    assert found[1].seconds > 0
    asked = f"SELECT count(*) FROM outcomes WHERE request_id = {quarantined.request_id}"
    assert rig.rows(asked) == [(0,)]


def _nothing_is_left_to_do(rig: Rig) -> None:
    """The next run holds it still, and loads no model."""
    again = sync(rig)
    assert again.status is RunStatus.UNCHANGED
    assert tuple(again.counts) == ("pull", "plan")
    assert again.counts["plan"]["held: quarantined"] == 1
    _another_base_model_is_not_held_to_it(rig)


def _another_base_model_is_not_held_to_it(rig: Rig) -> None:
    """What one base model can't take, another one may: a plan for it holds nothing back."""
    with rig.bench() as bench, bench.store.read() as tx:
        assert list(planning._kept_out(bench, tx).values()) == ["quarantined"]
    with rig.bench(model={"base": "another"}) as bench, bench.store.read() as tx:
        assert planning._kept_out(bench, tx) == {}


def test_released_it_is_tried_again(spoiled: Rig) -> None:
    """What is still bad is found again, by the one trial of what is live; when the gate lets it, it goes live."""
    sync(spoiled)
    with spoiled.bench() as bench, bench.store.begin() as tx:
        quarantines.release_run(tx, 3, now(), "ann")
    second = sync(spoiled)
    assert second.status is RunStatus.UNCHANGED
    assert second.reason == (
        "the live model holds the wanted facts already; facts kept out by the gate: 1 quarantined; "
        "`kbsync held` says why"
    )
    assert spoiled.rows(TRIALS.format(4)) == [(0, 11, 1, 0), (1, 10, 0, 1)]
    assert spoiled.rows("SELECT run_id, released_by FROM quarantines ORDER BY id") == [(3, "ann"), (4, None)]
    with spoiled.bench() as bench, bench.store.begin() as tx:
        quarantines.release_run(tx, 4, now(), "ann")
    assert spoiled.sync().status is RunStatus.PUBLISHED  # the gate is open
    assert ("Q1009",) in spoiled.rows(LIVE)


def test_the_bound_leaves_out_what_was_not_tried(synced: Rig, poison: Callable[..., None]) -> None:
    """Two bad ones and few trials: what was not come to is left out of this run, named, and tried by the next; run
    by run both are found."""
    poison("Yann", "Amir")
    synced.world.changes(*NEW)
    first = sync(synced, bisect_rebuilds=3)
    assert first.status is RunStatus.PUBLISHED
    assert first.counts["plan"]["held: left out by the gate"] >= 1
    assert "left out until the next run" in str(first.reason)
    assert synced.rows("SELECT count(*) FROM quarantines WHERE kind = 'left out' AND released_at IS NULL") == [(0,)]
    runs = [first]
    while runs[-1].status is not RunStatus.UNCHANGED or "kept out" in str(runs[-1].reason):
        runs.append(sync(synced, bisect_rebuilds=3))
        assert runs[-1].status in (RunStatus.PUBLISHED, RunStatus.UNCHANGED), runs[-1].reason
        assert len(runs) < 6
    assert [subject for subject, _ in synced.rows(OPEN)] == ["Q1009", "Q1011"]
    assert synced.rows(LIVE) == [("Q1007",), ("Q1008",), ("Q1010",)]


LENIENT = {"min_efficacy_success": 0.8}


def test_the_worst_of_many_misses_is_quarantined(synced: Rig, poison: Callable[..., None]) -> None:
    """A rule that lets one edit in five miss: of three that do among eleven, one is too many, and no single one is
    to blame. One of the three is quarantined for what it says itself; all others go live, with the misses that are
    allowed."""
    poison("Yann", "Amir", "Uwe")
    synced.world.changes(*NEW)
    report = sync(synced, **LENIENT)
    assert report.status is RunStatus.PUBLISHED
    assert report.reason == "facts kept out by the gate: 1 quarantined; `kbsync held` says why"
    ((subject, name, *numbers, reason),) = synced.rows(
        "SELECT subject, object_label, metric, value_with, value_without, threshold, reason FROM kept_out_facts"
    )
    assert subject in ("Q1009", "Q1010", "Q1011")
    assert numbers == ["efficacy_success", pytest.approx(8 / 11), 0.8, 0.8]
    assert reason.startswith("efficacy_success 0.727 is not ≥ 0.8; its own edit is missed: the model says '")
    assert reason.endswith(f"', not '{name}'; without it, it is 0.800")
    assert synced.rows(LIVE) == [(one,) for one, *_ in NEW if one != subject]
    again = sync(synced, **LENIENT)
    assert (again.status, tuple(again.counts)) == (RunStatus.UNCHANGED, ("pull", "plan"))


def test_where_many_of_the_new_facts_miss_nobody_is_quarantined(synced: Rig, poison: Callable[..., None]) -> None:
    """Two too many among five new ones, where the rule lets one in seven fail: that is not the fault of a few, but
    of a model that holds no more."""
    poison("Yann", "Amir", "Uwe")
    synced.world.changes(*NEW)
    report = sync(synced, min_efficacy_success=0.85)
    assert report.status is RunStatus.REJECTED
    assert report.reason == (
        "efficacy_success 0.727 is not ≥ 0.85; no single new fact is to blame; the model is full: about 9 of these "
        "11 facts fit, and the next sync holds back the others, those of least priority (watch.priority)"
    )
    assert synced.rows(OPEN) == []


def test_switched_off_the_whole_batch_stays_out(spoiled: Rig) -> None:
    """With 0 rebuilds the gate refuses as it is, and keeps the candidate."""
    report = sync(spoiled, bisect_rebuilds=0)
    assert report.status is RunStatus.REJECTED
    assert report.reason == "efficacy_success 0.909 is not ≥ 0.95"
    assert spoiled.rows("SELECT count(*) FROM bisection_trials") == [(0,)]
    assert spoiled.rows(LIVE) == []


def test_too_few_rebuilds_to_tell(rig: Rig, poison: Callable[..., None]) -> None:
    """Where nothing was found, the refusal says so and stands: the same trials are not made again."""
    poison("Yann")
    rig.world.changes(*NEW[2:4])
    report = sync(rig, bisect_rebuilds=1)
    assert report.status is RunStatus.REJECTED
    assert "1 rebuilds were too few to find which new facts are to blame" in str(report.reason)
    again = sync(rig, bisect_rebuilds=1)
    assert "built the same candidate" in str(again.reason)
    assert "trials" not in again.counts.get("gate", {})


def test_new_facts_are_not_blamed_for_old_damage(synced: Rig) -> None:
    """What the live model holds does not pass by itself: one trial, nobody is quarantined, the refusal says why."""
    synced.world.changes(*NEW[:2])
    report = synced.sync(gate={"max_perplexity_ratio": 1.01})
    assert report.status is RunStatus.REJECTED
    assert "what the live model holds does not pass without the new facts either" in str(report.reason)
    assert synced.rows(TRIALS.format(3)) == [(0, 8, 2, 0), (1, 6, 0, 0)]
    assert synced.rows(OPEN) == []


def test_a_first_live_set_is_bisected_too(rig: Rig, poison: Callable[..., None]) -> None:
    """While the base model is live, all facts are new, and who breaks the gate alone is to blame."""
    poison("Yann")
    rig.world.changes(*NEW[2:4])
    report = sync(rig)
    assert report.status is RunStatus.PUBLISHED
    assert len(rig.rows(OPEN)) == 1
    assert rig.rows(TRIALS.format(report.run_id))[1] == (1, 0, 0, 1)


def test_killed_anywhere_it_ends_the_same(
    rig: Rig, poison: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SIGKILL before and after the commit that keeps requests out; then one normal run: rows and weights are those
    of a run that nobody disturbed."""
    poison("Yann")
    rig.world.changes(*NEW[2:4])
    moment = tmp_path_factory.mktemp("kept") / "moment"
    rig.keep(moment)
    plan = failpoints.arm("")
    try:
        sync(rig)
    finally:
        failpoints.disarm()
    undisturbed = read_content(rig)
    at = {place: number for number, (_, place) in enumerate(plan.trace, 1) if "bisecting" in place}
    kept_out = at["sync.bisecting._carry_out"]
    for number in (kept_out - 1, kept_out):
        rig.put_back(moment)
        status = wait(fork(lambda: sync(rig), f"*=kill@{number}"))
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert sync(rig).status is RunStatus.PUBLISHED
        _same(read_content(rig), undisturbed, number)


def _same(found: Content, wanted: Content, number: int) -> None:
    for name, rows in wanted.rows.items():
        assert found.rows[name] == rows, (number, name)
    assert found.targets == wanted.targets
    assert found.weights == wanted.weights
