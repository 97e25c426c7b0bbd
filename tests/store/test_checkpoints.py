"""The ledger of synced models: one is live at any time, and each can come back."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from kbsync.errors import StoreError
from kbsync.store import checkpoints, requests
from kbsync.store.engine import Store, open_store
from kbsync.store.tables import Action, PublicationRow
from tests.store.examples import NOON, edit_request, later, new_checkpoint, new_run


def candidate(tx: Session, name: str, minutes: float = 0, ids: tuple[int, ...] = ()) -> tuple[int, int]:
    """A candidate and the run that built it."""
    run_id = new_run(tx, minutes)
    return checkpoints.add_candidate(tx, run_id, later(minutes), new_checkpoint(name), ids), run_id


def published(tx: Session, *names: str) -> list[int]:
    """Checkpoints that went live one after the other, a minute each."""
    found = []
    for minute, name in enumerate(names):
        one, run_id = candidate(tx, name, minute)
        checkpoints.publish(tx, one, run_id, later(minute))
        found.append(one)
    return found


def live_name(tx: Session) -> str | None:
    now = checkpoints.live(tx)
    return now and (now.checkpoint.name if now.checkpoint else "base")


def test_nothing_is_live_at_first(store: Store) -> None:
    """Before the first publication there is none, and nothing to roll back to."""
    with store.begin() as tx:
        assert checkpoints.live(tx) is None
        with pytest.raises(StoreError, match="nothing to roll back to"):
            checkpoints.rollback(tx, NOON)
        with pytest.raises(StoreError, match="the base model is live already"):
            checkpoints.publish(tx, None, new_run(tx), NOON)


def test_publishing_ends_the_one_before(store: Store) -> None:
    """The new publication begins at the moment at which the old one ends, and statuses follow."""
    with store.begin() as tx:
        one, two = published(tx, "one", "two")
        newest, oldest = checkpoints.publications(tx)
        assert (oldest.at, oldest.ended_at, newest.at, newest.ended_at) == (NOON, later(1), later(1), None)
        assert checkpoints.checkpoint_of(tx, one).status == "retired"
        assert checkpoints.checkpoint_named(tx, "two").status == "published"
        assert [c.id for c in checkpoints.checkpoints(tx)] == [two, one]


def test_checkpoint_knows_its_live_set(store: Store) -> None:
    """The requests that a checkpoint holds come back with their words; the base model holds none."""
    many = [edit_request(name=name) for name in "ab"]
    with store.begin() as tx:
        ids = requests.save_requests(tx, new_run(tx), NOON, [*many, edit_request(name="c")])
        one, _ = candidate(tx, "one", ids=tuple(ids[:2]))
        assert checkpoints.checkpoint_of(tx, one).facts == 2
        assert checkpoints.held_set(tx, one) == {i: r.content_hash for i, r in zip(ids, many, strict=False)}
        assert [r.request for r in checkpoints.held_requests(tx, one)] == many
        assert checkpoints.held_set(tx, None) == {}


def test_rejected_checkpoint_never_goes_live(store: Store) -> None:
    """What the gate refused can neither be published nor rolled back to."""
    with store.begin() as tx:
        published(tx, "good")
        bad, run_id = candidate(tx, "bad", 5)
        checkpoints.reject(tx, bad)
        with pytest.raises(StoreError, match="rejected by the gate"):
            checkpoints.publish(tx, bad, run_id, later(5))
        with pytest.raises(StoreError, match="has never been published"):
            checkpoints.rollback(tx, later(6), to=bad)
        with pytest.raises(StoreError, match="is published, not a candidate"):
            checkpoints.reject(tx, checkpoints.checkpoint_named(tx, "good").id)
        assert live_name(tx) == "good"


def test_live_checkpoint_is_not_published_again(store: Store) -> None:
    """Publishing what is live is an error, not a second row."""
    with store.begin() as tx:
        (one,) = published(tx, "one")
        with pytest.raises(StoreError, match="one is live already"):
            checkpoints.publish(tx, one, 1, later(1))
        assert len(checkpoints.publications(tx)) == 1


def test_rollbacks_go_back_step_by_step_to_the_base_model(store: Store) -> None:
    """Each rollback undoes one publication: three, two, one, base; then there is nothing left."""
    with store.begin() as tx:
        published(tx, "one", "two", "three")
        seen = []
        for minute in range(3):
            back = checkpoints.rollback(tx, later(10 + minute))
            seen.append((live_name(tx), back.action, back.at))
        assert seen == [
            ("two", Action.ROLLBACK, later(10)),
            ("one", Action.ROLLBACK, later(11)),
            ("base", Action.ROLLBACK, later(12)),
        ]
        with pytest.raises(StoreError, match="nothing to roll back to"):
            checkpoints.rollback(tx, later(13))


def test_rollback_to_a_named_model(store: Store) -> None:
    """Any published checkpoint, or the base model, can be named; an unknown one can't."""
    with store.begin() as tx:
        one, _, _ = published(tx, "one", "two", "three")
        checkpoints.rollback(tx, later(10), to=one)
        assert live_name(tx) == "one"
        checkpoints.rollback(tx, later(11), base=True)
        assert live_name(tx) == "base"
        with pytest.raises(StoreError, match="there is no checkpoint 99"):
            checkpoints.rollback(tx, later(12), to=99)
        with pytest.raises(StoreError, match="no checkpoint named nine"):
            checkpoints.checkpoint_named(tx, "nine")


def test_database_itself_refuses_two_live_models(store: Store) -> None:
    """The unique index keeps a second live row out, whoever writes it."""
    with store.begin() as tx:
        published(tx, "one")
    with pytest.raises(StoreError, match="breaks one of its rules"), store.begin() as tx:
        tx.add(PublicationRow(action=Action.PUBLISH, at=later(1), live=True))


def test_live_row_cannot_have_ended(store: Store) -> None:
    """`live` and `ended_at` can't contradict each other."""
    row = PublicationRow(action=Action.PUBLISH, at=NOON, ended_at=later(1), live=True)
    with pytest.raises(StoreError, match="breaks one of its rules"), store.begin() as tx:
        tx.add(row)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.sampled_from(["publish", "reject", "rollback", "base", "first"]), max_size=10))
def test_one_model_is_live_whatever_happens(sqlite_template: Path, steps: list[str]) -> None:
    """After any sequence of steps, refused ones included, the publications tile time and one is open."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(sqlite_template, f"{folder}/kbsync.db")
        with open_store(f"sqlite:///{folder}/kbsync.db") as store, store.begin() as tx:
            for minute, step in enumerate(["publish", *steps]):
                _take(tx, step, minute)
            rows = tx.scalars(select(PublicationRow).order_by(PublicationRow.id)).all()
            assert [row.live for row in rows] == [False] * (len(rows) - 1) + [True]
            for earlier, then in pairwise(rows):
                assert earlier.ended_at == then.at
                assert earlier.checkpoint_id != then.checkpoint_id


def _take(tx: Session, step: str, minute: int) -> None:
    one, run_id = candidate(tx, f"c{minute}", minute)
    try:
        if step == "publish":
            checkpoints.publish(tx, one, run_id, later(minute))
        elif step == "reject":
            checkpoints.reject(tx, one)
            checkpoints.publish(tx, one, run_id, later(minute))
        elif step == "first":
            checkpoints.rollback(tx, later(minute), to=1)
        else:
            checkpoints.rollback(tx, later(minute), base=step == "base")
    except StoreError:
        assert step != "publish", "a new candidate can always be published"


def test_judged_checkpoints_are_those_that_the_gate_has_seen(store: Store) -> None:
    """Published, retired and rejected ones, newest first; of one live set only the last, and no mere candidate."""
    with store.begin() as tx:
        published(tx, "one", "two")
        refused, _ = candidate(tx, "three", 3)
        checkpoints.reject(tx, refused)
        candidate(tx, "four", 4)
        assert [one.name for one in checkpoints.judged(tx)] == ["three", "two", "one"]
        assert [one.name for one in checkpoints.judged(tx, "base", limit=2)] == ["three", "two"]
        assert checkpoints.judged(tx, "another base") == []
        again = replace(new_checkpoint("again"), live_hash=new_checkpoint("one").live_hash)
        checkpoints.reject(tx, checkpoints.add_candidate(tx, new_run(tx, 5), later(5), again, ()))
        assert [one.name for one in checkpoints.judged(tx)] == ["again", "three", "two"]
