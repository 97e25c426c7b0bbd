"""Pruning takes what nothing needs, and the views answer as before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, text

from kbsync.errors import StoreError
from kbsync.store import checkpoints, prunes, quarantines, requests, retention, runs, targets
from kbsync.store.engine import Store
from kbsync.store.limits import Limits
from kbsync.store.retention import Retention, Survey
from kbsync.store.tables import KeptOut, RequestStatus, RunRow, RunStatus, StageRow
from tests.store.examples import all_rows, later, new_checkpoint
from tests.store.story import FRANCE, tell

NONE = Limits(count=0)
NOTHING = Retention(NONE, NONE, NONE, NONE)
VIEWS = ("live_facts", "edit_history", "publication_at", "fact_changes", "held_facts")


def prune(store: Store, keep: Retention = NOTHING, minutes: float = 500) -> Survey:
    """As the sync room does it."""
    with store.begin() as tx:
        found = retention.survey(tx, keep, later(minutes))
        for run in found.outcomes:
            assert prunes.remove_outcomes(tx, run) == found.outcomes[run][0]
        prunes.carry_out(tx, found, later(minutes))
        prunes.note(tx, "tests", later(minutes), found)
    return found


def view(store: Store, name: str) -> list[tuple[object, ...]]:
    """All that a view shows."""
    with store.read() as tx:
        return sorted((tuple(row) for row in tx.execute(text(f"SELECT * FROM {name}"))), key=repr)


def idle(store: Store, count: int) -> None:
    """Runs that found nothing, an hour apart, after the story."""
    for number in range(count):
        with store.begin() as tx:
            run = runs.start_run(tx, "schedule", later(200 + 60 * number), {"model": {}}, None, None)
            runs.stage_started(tx, run, "pull", later(200 + 60 * number))
            runs.finish_run(tx, run, RunStatus.UNCHANGED, later(201 + 60 * number))


def test_what_is_needed_stays_whatever_the_limits(store: Store) -> None:
    """With every limit at 0 the live model keeps its files, its z and its live set, and the views say the same."""
    tell(store)
    before = {name: view(store, name) for name in VIEWS}
    found = prune(store)
    assert [one.name for one in found.checkpoints] == ["model-2"]  # model-1 is live, model-3 was refused last
    assert found.targets == ()
    assert {name: view(store, name) for name in VIEWS} == before
    with store.read() as tx:
        live = checkpoints.live(tx)
        assert live is not None
        assert live.checkpoint is not None
        assert live.checkpoint.name == "model-1"
        hashes = checkpoints.held_set(tx, live.checkpoint.id).values()
        assert targets.solved(tx, [f"z-{one}" for one in hashes]) == {f"z-{one}" for one in hashes}


def test_a_pruned_checkpoint_can_not_go_live(store: Store) -> None:
    """The ledger refuses by name, before anybody looks for files."""
    tell(store)
    (gone,) = prune(store).checkpoints
    with pytest.raises(StoreError, match="files of checkpoint model-2 were pruned"), store.begin() as tx:
        checkpoints.rollback(tx, later(600), gone.id)


def test_what_a_rollback_brings_back_stays(store: Store) -> None:
    """While model-2 is live, model-1 is what a rollback needs."""
    tell(store)
    with store.begin() as tx:
        second = checkpoints.checkpoint_named(tx, "model-2").id
        checkpoints.rollback(tx, later(190), second)
        assert checkpoints.rollback_target(tx) == checkpoints.checkpoint_named(tx, "model-1").id
    assert prune(store).checkpoints == ()
    with store.begin() as tx:
        back = checkpoints.rollback(tx, later(600)).checkpoint
    assert back is not None
    assert back.name == "model-1"


def test_a_z_goes_when_its_fact_is_withdrawn_and_its_checkpoint_is_gone(store: Store) -> None:
    """Not before both, and not before it is old enough from when it was last wanted."""
    tell(store)
    with store.begin() as tx:
        french = next(
            s.id for s in requests.requests_with(tx, list(RequestStatus)) if s.request.target_new == "Gabriel Attal"
        )
        requests.withdraw(tx, 3, later(190), [french], "no longer current")
    month = Retention(Limits(), NONE, Limits(age=timedelta(minutes=60)), Limits())
    assert prune(store, month).targets == ()  # model-2 has its files, and could be rebuilt
    month = Retention(NONE, NONE, Limits(age=timedelta(minutes=60)), Limits())
    assert prune(store, month, 249).targets == ()
    assert [one.key for one in prune(store, month, 251).targets] == [f"z-{FRANCE.content_hash}"]


def test_outcomes_of_withdrawn_requests_go_and_the_last_word_on_others_stays(store: Store) -> None:
    """Of run 1 all is superseded by run 2 but what protects the live model-1; run 2's are the last word."""
    tell(store)
    found = prune(store, Retention(Limits(), NONE, Limits(), Limits()))
    assert found.outcome_rows == 0  # run 1 is model-1's, run 2 has the last word
    with store.begin() as tx:
        checkpoints.rollback(tx, later(200), checkpoints.checkpoint_named(tx, "model-2").id)
        third = checkpoints.add_candidate(tx, 2, later(210), new_checkpoint("model-4"), [])
        checkpoints.publish(tx, third, 2, later(211))
    shown = view(store, "edit_history")
    found = prune(store, Retention(Limits(), NONE, Limits(), Limits()))
    assert set(found.outcomes) == {1}
    assert view(store, "edit_history") == shown


def test_runs_that_found_nothing_go_and_referred_ones_are_thinned(store: Store) -> None:
    """The newest of each kind stays; a run that rows refer to keeps its row and loses what only tells of it."""
    tell(store)
    idle(store, 5)
    found = prune(store, Retention(Limits(), Limits(), Limits(), Limits(age=timedelta(minutes=130))))
    assert set(found.runs) == {4, 5, 6}
    assert set(found.runs.values()) == {RunStatus.UNCHANGED}
    with store.read() as tx:
        assert set(tx.scalars(select(RunRow.id))) == {1, 2, 3, 7, 8}
        assert set(tx.scalars(select(StageRow.run_id))) == {1, 2, 7, 8}  # the newest candidates' runs are needed
        assert prunes.pruned_runs(tx) == {"unchanged": 3}
        assert prunes.last_prune(tx) == later(500)


def test_the_runs_that_something_stands_by_stay(store: Store) -> None:
    """A refusal that stands and a quarantine, also that of a base model which was left: what tells their settings
    is kept, however many runs came since; let in again, it is not."""
    tell(store)
    with store.begin() as tx:
        for number, status in enumerate((RunStatus.PUBLISHED, *[RunStatus.REJECTED] * 3, RunStatus.PUBLISHED)):
            at = later(200 + number)
            run = runs.start_run(tx, "manual", at, {"model": {"base": "left" if number == 0 else "new"}}, "base")
            if number == 0:
                (one,) = requests.requests_by_id(tx, [1])
                quarantines.keep_out(tx, run, at, "base", KeptOut.QUARANTINED, [(one, "why", None)])
            if number == 1:
                runs.note_refusal(tx, run, "ff01")
            runs.finish_run(tx, run, status, at)
    prune(store)
    with store.begin() as tx:
        refused = runs.last_refusal(tx)
        assert refused is not None
        assert refused.settings == {"model": {"base": "new"}}
        left = runs.last_identified(tx, base="left")
        assert left is not None
        quarantines.release_run(tx, left.id, later(300), "tests")
    prune(store)
    with store.read() as tx:
        assert runs.last_identified(tx, base="left") is None


def test_a_second_time_there_is_nothing_to_do(store: Store) -> None:
    """Pruning is done when it is done."""
    tell(store)
    idle(store, 3)
    prune(store)
    with store.read() as tx:
        rows = all_rows(tx)
    again = prune(store)
    assert (again.checkpoints, again.outcomes, again.targets, again.runs, again.thinned) == ((), {}, (), {}, ())
    with store.read() as tx:
        after = all_rows(tx)
    assert len(after.pop("prunes")) == len(rows.pop("prunes")) + 1
    assert after == rows
