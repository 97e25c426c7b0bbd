"""The gate: a refused candidate stays a candidate, and the published model stays what it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from kbsync.checkpoint.verify import verify
from kbsync.errors import Stopped
from kbsync.store import outcomes
from kbsync.store.outcomes import Verdict, save_verdicts
from kbsync.store.tables import RunStatus
from kbsync.sync import solving
from kbsync.sync.rollback import roll_back
from tests.sync import clock
from tests.sync.rig import Rig
from tests.sync.world import GOVERNMENT, STATE, WINDOW_2, person

IMPOSSIBLE = {"gate": {"max_perplexity_ratio": 0.000001}}


def test_a_refused_candidate_is_not_published(synced: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An impossible threshold: the run is rejected with its reason, row and files of the candidate stay, the
    published model is untouched. Its verdicts are stored once, when all are there."""
    stored: list[list[str]] = []

    def save(tx: Session, run_id: int, verdicts: Sequence[Verdict]) -> None:
        stored.append([one.metric for one in verdicts])
        save_verdicts(tx, run_id, verdicts)

    monkeypatch.setattr(outcomes, "save_verdicts", save)
    synced.world.changes(*WINDOW_2)
    report = synced.sync(**IMPOSSIBLE)
    assert stored == [["perplexity_ratio", "finite", "read_back", "collapse"]]
    assert report.status is RunStatus.REJECTED
    assert report.reason is not None
    assert "perplexity_ratio" in report.reason
    assert "is not ≤ 1e-06" in report.reason
    assert synced.run_status() == ("rejected", report.reason)
    assert synced.rows("SELECT name, status FROM checkpoints ORDER BY id") == [
        ("sync-000002", "published"),
        ("sync-000003", "rejected"),
    ]
    assert report.checkpoint is not None
    assert verify(report.checkpoint) == []
    assert synced.published() == synced.link() == "sync-000002"
    assert synced.rows("SELECT count(*) FROM publications") == [(1,)]
    assert [(v.metric, v.passed) for v in report.verdicts] == [
        ("perplexity_ratio", False),
        ("finite", True),
        ("read_back", True),
        ("collapse", True),
    ]
    assert tuple(report.counts)[-1] == "gate"


def test_a_relaxed_gate_lets_the_next_run_publish(synced: Rig) -> None:
    """After a refusal nothing is solved again: the next run judges by its own gate and publishes."""
    synced.world.changes(*WINDOW_2)
    refused = synced.sync(**IMPOSSIBLE)
    report = synced.sync()
    assert report.status is RunStatus.PUBLISHED
    assert report.counts["solve"]["cached"] == 6
    assert synced.published() == synced.link() == "sync-000004"
    assert refused.checkpoint is not None
    (old, new) = synced.rows("SELECT weights_hash FROM checkpoints WHERE id > 1 ORDER BY id")
    assert old == new


def test_what_a_refused_candidate_would_have_brought_has_a_named_outcome(synced: Rig) -> None:
    """Its changes say which run refused them, until a run publishes them; what is live anyway stays `edited`."""
    synced.world.changes(*WINDOW_2)
    synced.sync(**IMPOSSIBLE)
    of_run = "SELECT DISTINCT outcome FROM changes WHERE run_id = {} AND kind != 'retired' ORDER BY outcome"
    assert synced.rows(of_run.format(3)) == [("refused: run 3",)]
    assert ("edited",) in synced.rows(of_run.format(2))
    assert ("refused: run 3",) not in synced.rows(of_run.format(2))
    assert synced.sync().status is RunStatus.PUBLISHED
    assert synced.rows(of_run.format(3)) == [("edited",)]


def test_a_refusal_stands_and_costs_nothing(synced: Rig) -> None:
    """While nothing changes, each run says so again, without building the same candidate; it is never taken for
    settled."""
    synced.world.changes(*WINDOW_2)
    first = synced.sync(**IMPOSSIBLE)
    for _ in range(2):
        report = synced.sync(**IMPOSSIBLE)
        assert report.status is RunStatus.REJECTED
        assert report.reason == f"run 3 built the same candidate, and the gate refused it: {first.reason}"
        assert tuple(report.counts) == ("pull", "plan", "solve")
    assert synced.published() == "sync-000002"
    assert synced.rows("SELECT count(*) FROM checkpoints WHERE status = 'rejected'") == [(1,)]


def test_a_refusal_does_not_stand_against_force(synced: Rig) -> None:
    """Who forces a run gets a new candidate and a new judgement."""
    synced.world.changes(*WINDOW_2)
    synced.sync(**IMPOSSIBLE)
    report = synced.sync(force=True, **IMPOSSIBLE)
    assert report.status is RunStatus.REJECTED
    assert tuple(report.counts)[-1] == "gate"


def test_a_refusal_does_not_stand_when_the_facts_have_moved(synced: Rig) -> None:
    """Another live set is another candidate."""
    synced.world.changes(*WINDOW_2)
    synced.sync(**IMPOSSIBLE)
    synced.world.changes(("Q1009", "P6", "Q2024"))
    assert tuple(synced.sync(**IMPOSSIBLE).counts)[-1] == "gate"


def test_a_refusal_does_not_stand_when_another_model_is_live(synced: Rig) -> None:
    """What is retired is measured against the live model: after a rollback the candidate is judged anew."""
    synced.world.changes(*WINDOW_2)
    synced.sync(**IMPOSSIBLE)
    with synced.bench() as bench:
        roll_back(bench, base=True, keep_syncing=True)
    assert tuple(synced.sync(**IMPOSSIBLE).counts)[-1] == "gate"


def test_a_refusal_does_not_stand_after_the_clock_was_set_back(
    synced: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by what the live model holds that another one is live, not by the clock."""
    synced.world.changes(*WINDOW_2)
    with monkeypatch.context() as patch:
        clock.install(patch, lambda: datetime.now(UTC) + timedelta(days=1))
        synced.sync(**IMPOSSIBLE)
    with synced.bench() as bench:
        roll_back(bench, base=True, keep_syncing=True)
    assert tuple(synced.sync(**IMPOSSIBLE).counts)[-1] == "gate"


def test_a_refusal_does_not_stand_when_other_prompts_are_asked(synced: Rig, tmp_path: Path) -> None:
    """Prompts that only the evaluation asks are no part of an edit; where the catalogue has others, the candidate
    is judged by them."""
    synced.world.changes(*WINDOW_2)
    synced.sync(**IMPOSSIBLE)
    other = tmp_path / "relations.toml"
    shipped = synced.settings().watch.catalogue.read_text(encoding="utf-8")
    mended = shipped.replace("{} has as its head of state", "The state of {} is headed by")
    assert mended != shipped
    other.write_text(mended, encoding="utf-8")
    assert tuple(synced.sync(watch={"catalogue": str(other)}, **IMPOSSIBLE).counts)[-1] == "gate"


def test_changes_that_come_while_a_refusal_stands_have_an_outcome(
    synced: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact of the refused candidate went, and is back before another one was judged."""
    synced.world.changes(*WINDOW_2)
    synced.sync(**IMPOSSIBLE)
    went_unseen(synced, monkeypatch, ("Q1007", STATE, None))
    synced.world.changes(("Q1007", STATE, person(14)))
    report = synced.sync(**IMPOSSIBLE)
    assert tuple(report.counts)[-1] == "solve"
    assert synced.rows("SELECT outcome FROM changes WHERE run_id = 5") == [("refused: run 3",)]


def test_changes_that_bring_back_what_is_settled_have_an_outcome(
    synced: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact that is live went, and is back before anything was built without it; one that failed went, and is
    back, which loads no model."""
    monkeypatch.setattr(solving, "unaskable", lambda _encoder, one: "no" if one.fact.subject == "Q1007" else None)
    went_unseen(synced, monkeypatch, ("Q1001", GOVERNMENT, None))
    synced.world.changes(("Q1001", GOVERNMENT, person(12)))
    assert synced.sync().status is RunStatus.UNCHANGED
    assert synced.rows("SELECT outcome FROM changes WHERE run_id = 4") == [("edited",)]
    for who in (person(14), None, person(14)):
        synced.world.changes(("Q1007", STATE, who))
        report = synced.sync()
    assert tuple(report.counts) == ("pull", "plan")
    assert synced.rows(f"SELECT outcome FROM changes WHERE run_id = {report.run_id}") == [("failed: no",)]


def went_unseen(rig: Rig, monkeypatch: pytest.MonkeyPatch, *changes: tuple[str, str, str | None]) -> None:
    """A run that was stopped after its plan has seen these changes."""

    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    rig.world.changes(*changes)
    with monkeypatch.context() as patch:
        patch.setattr(solving, "solve", ctrl_c)
        with pytest.raises(Stopped):
            rig.sync()


def test_going_back_after_a_refusal_is_settled(synced: Rig) -> None:
    """Facts that a refused candidate was to hold, and that are gone again, leave the live model as it was."""
    country = ("Q1009", "P6")
    synced.world.changes((*country, "Q2024"))
    assert synced.sync(**IMPOSSIBLE).status is RunStatus.REJECTED
    synced.world.changes((*country, None))
    assert synced.sync().status is RunStatus.UNCHANGED
    assert synced.published() == "sync-000002"
    assert set(synced.rows("SELECT status FROM edit_requests")) == {("edited",), ("withdrawn",)}


def test_settings_that_were_refused_and_taken_back(synced: Rig) -> None:
    """Other settings made a candidate that was refused; with the old ones, the live model is as it should be,
    and the ledger says of its facts that they are edited."""
    assert synced.sync(edit={"steps": 3}, **IMPOSSIBLE).status is RunStatus.REJECTED
    assert synced.sync().status is RunStatus.UNCHANGED
    assert set(synced.rows("SELECT status FROM edit_requests")) == {("edited",)}
    assert Path(synced.checkpoints / "live").resolve().name == "sync-000002"
