"""A model that is full: the gate knows it, the ledger has it, and the next sync keeps what matters most."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import text

from kbsync.store.tables import RunStatus
from kbsync.sync.room import last_room
from kbsync.sync.run import Report
from tests.sync.rig import Rig
from tests.sync.world import STATE, WINDOW_1

NARROW = {"gate": {"max_perplexity_ratio": 1.06}}  # the tiny model keeps this with two or four facts, not with six
HELD = "SELECT subject FROM holds WHERE reason = 'model full' AND released_at IS NULL ORDER BY subject"


def keeps(rig: Rig, run_id: int) -> int | None:
    """How many facts a run found to fit."""
    found = rig.rows(f"SELECT value FROM metrics WHERE run_id = {run_id} AND name = 'keeps'")
    return round(found[0][0]) if found else None


@pytest.fixture
def two(rig: Rig) -> Rig:
    """A kbsync whose live model holds two facts, under a narrow gate."""
    rig.world.changes(*WINDOW_1[:2])
    assert rig.sync(**NARROW).status is RunStatus.PUBLISHED
    return rig


@pytest.fixture
def full(two: Rig) -> tuple[Rig, Report]:
    """The same, after four more facts were too many; with the refused run."""
    two.world.changes(*WINDOW_1[2:])
    return two, two.sync(**NARROW)


def settled(rig: Rig, **changes: dict[str, Any]) -> Report:
    """Sync until the gate passes; each refusal must have led to a smaller live set."""
    before = 6
    for _ in range(4):
        report = rig.sync(**NARROW, **changes)
        assert report.counts["plan"]["wanted"] < before
        before = int(report.counts["plan"]["wanted"])
        if report.status is RunStatus.PUBLISHED:
            return report
    raise AssertionError("it never settled")


def test_every_judged_candidate_has_its_room(two: Rig) -> None:
    """Load and drift in the counts of the evaluation; misses and estimate as metrics and in the report."""
    two.world.changes(*WINDOW_1[2:4])
    report = two.sync(gate={"max_perplexity_ratio": 1.5})
    assert 0 < report.counts["evaluate"]["occupied"] < 1
    assert report.counts["evaluate"]["drift"] > 0
    room = report.room
    assert room is not None
    assert (room.facts, room.rule) == (4, "perplexity_ratio")
    assert room.capacity is not None
    assert report.counts["gate"]["headroom"] == math.floor(room.capacity) - 4
    stored = dict(two.rows("SELECT name, value FROM metrics WHERE run_id = 3 AND phase = 'after'"))
    assert stored["capacity"] == stored["capacity_by_perplexity_ratio"] == room.capacity
    assert stored["capacity_low"] <= stored["capacity"]
    with two.bench() as bench, bench.store.read() as tx:
        assert last_room(tx) == room


def test_a_full_model_is_named_as_the_reason(full: tuple[Rig, Report]) -> None:
    """The refusal says how many facts fit and what comes next; the number is a row."""
    rig, report = full
    assert report.status is RunStatus.REJECTED
    assert report.room is not None
    kept = keeps(rig, report.run_id)
    assert kept == report.room.keeps
    assert kept is not None
    assert 2 <= kept < 6
    assert f"the model is full: about {kept} of these 6 facts fit, and the next sync holds back" in str(
        report.reason
    )
    assert rig.published() == "sync-000002"


def test_the_next_sync_keeps_what_fits_and_goes_live(full: tuple[Rig, Report]) -> None:
    """Of what the store saw last, as many as fit; the others are held by name, and nothing flaps afterwards."""
    rig, _ = full
    report = settled(rig)
    kept = int(report.counts["plan"]["wanted"])
    assert report.counts["plan"]["held: model full"] == 6 - kept == len(rig.rows(HELD))
    assert report.checkpoint is not None
    assert rig.published() == report.checkpoint.name
    for _ in range(2):
        again = rig.sync(**NARROW)
        assert again.status is RunStatus.UNCHANGED
        assert again.counts["plan"]["wanted"] == kept
    assert len(rig.rows("SELECT id FROM checkpoints WHERE status = 'published'")) == 1


def test_priority_decides_what_is_kept(full: tuple[Rig, Report]) -> None:
    """Heads of state before heads of government, whatever came last."""
    rig, _ = full
    settled(rig, watch={"priority": {STATE: 1}})
    relations = rig.rows(
        "SELECT q.relation FROM checkpoint_requests r JOIN edit_requests q ON q.id = r.request_id "
        "JOIN checkpoints c ON c.id = r.checkpoint_id WHERE c.status = 'published'"
    )
    assert sum(relation == STATE for (relation,) in relations) == 2, "all heads of state that changed"
    assert len(relations) < 6


def test_a_retired_fact_makes_room_for_a_held_one(full: tuple[Rig, Report]) -> None:
    """The plan is that of the facts as they are: who is held moves up when another fact goes."""
    rig, _ = full
    kept = int(settled(rig).counts["plan"]["wanted"])
    held = len(rig.rows(HELD))
    live = rig.rows("SELECT subject, relation FROM live_facts ORDER BY subject")
    rig.world.changes((*live[0], None))
    report = rig.sync(**NARROW)
    assert report.counts["plan"]["wanted"] == kept
    assert report.counts["plan"].get("held: model full", 0) == held - 1


def test_what_the_base_model_knows_takes_no_room(full: tuple[Rig, Report]) -> None:
    """A fact that would be the first to be held is wanted beside as many as fit, and is not among the edits."""
    rig, refused = full
    with rig.bench() as bench, bench.store.begin() as tx:
        tx.execute(text("UPDATE edit_requests SET status = 'known' WHERE subject = 'Q1001'"))
    report = rig.sync(**NARROW)
    assert refused.room is not None
    assert refused.room.keeps is not None
    assert report.counts["plan"]["wanted"] == refused.room.keeps + 1
    assert report.counts["rebuild"]["facts"] == refused.room.keeps
    assert ("Q1001",) not in rig.rows(HELD)


def test_other_settings_lift_the_limit(full: tuple[Rig, Report]) -> None:
    """A gate that allows more, or an editor that costs less, is tried with all facts."""
    rig, _ = full
    assert rig.sync(gate={"max_perplexity_ratio": 1.5}).counts["plan"]["wanted"] == 6
    rig.sync(**NARROW)
    other = rig.sync(**NARROW, edit={"covariance_weight": 5.0})
    assert other.counts["plan"]["wanted"] == 6


def test_who_wants_to_decide_decides(two: Rig) -> None:
    """With `refuse` nothing is held: the refusal stands, and says what to set."""
    two.world.changes(*WINDOW_1[2:])
    refuse: dict[str, dict[str, Any]] = {**NARROW, "watch": {"when_full": "refuse"}}
    report = two.sync(**refuse)
    assert "set watch.max_live to" in str(report.reason)
    again = two.sync(**refuse)
    assert again.status is RunStatus.REJECTED
    assert tuple(again.counts) == ("pull", "plan", "solve")
    assert two.rows(HELD) == []


def test_a_run_killed_before_the_verdict_was_carried_out_lowers_nothing(full: tuple[Rig, Report]) -> None:
    """A candidate that was neither published nor rejected is done over, so what its run found does not count."""
    rig, _ = full
    with rig.bench() as bench, bench.store.begin() as tx:
        tx.execute(text("UPDATE checkpoints SET status = 'candidate' WHERE status = 'rejected'"))
    assert rig.sync(**NARROW).counts["plan"]["wanted"] == 6


def test_a_gate_that_nothing_passes_does_not_mean_full(two: Rig) -> None:
    """A ratio below 1 is no limit that fewer facts would keep: the refusal stands as it is, nothing is held."""
    two.world.changes(*WINDOW_1[2:])
    impossible = {"gate": {"max_perplexity_ratio": 0.5}}
    report = two.sync(**impossible)
    assert report.status is RunStatus.REJECTED
    assert "full" not in str(report.reason)
    assert report.room is not None
    assert report.room.keeps is None
    assert two.sync(**impossible).counts["plan"]["wanted"] == 6


def test_a_warning_comes_before_the_limit(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """A live set that passes but takes most of what fits is logged, counted and reported."""
    rig.world.changes(*WINDOW_1[:2])
    report = rig.sync(**NARROW)
    assert report.status is RunStatus.PUBLISHED
    assert report.room is not None
    assert report.room.nearly_full
    assert report.counts["gate"]["warnings"] == 1
    printed = capsys.readouterr()
    assert "the model is nearly full: 2 facts of about" in printed.out + printed.err
