"""What bisections keep out, until it is released."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.store import quarantines, requests
from kbsync.store.engine import Store
from kbsync.store.outcomes import Verdict
from kbsync.store.quarantines import Evidence, Trial
from kbsync.store.requests import StoredRequest
from kbsync.store.tables import KeptOut
from tests.store.examples import edit_request, fact, later, new_run

EVIDENCE = Evidence("perplexity_ratio", 1.3, 1.04, "≤", 1.05)


def stored(tx: Session, run: int, *subjects: str) -> list[StoredRequest]:
    """Requests about these subjects."""
    wanted = [edit_request(fact(one), one, "Joe Biden", "Donald Trump") for one in subjects]
    return requests.requests_by_id(tx, requests.save_requests(tx, run, later(0), wanted))


def keep_out(tx: Session, run: int, kind: KeptOut, *found: StoredRequest, base: str = "base") -> None:
    """Keep these out on a base model."""
    evidence = EVIDENCE if kind is KeptOut.QUARANTINED else None
    quarantines.keep_out(tx, run, later(1), base, kind, [(one, "why", evidence) for one in found])


def test_it_is_kept_out_on_its_base_model_until_released(store: Store) -> None:
    """By content hash, on the base model that it was found on; a second word takes the place of the first."""
    with store.begin() as tx:
        run = new_run(tx)
        one, other = stored(tx, run, "Q1", "Q2")
        keep_out(tx, run, KeptOut.LEFT_OUT, one, other)
        keep_out(tx, run, KeptOut.QUARANTINED, one)
        keep_out(tx, run, KeptOut.QUARANTINED, other, base="another")
        assert quarantines.kept_out(tx, "base") == {
            one.request.content_hash: KeptOut.QUARANTINED,
            other.request.content_hash: KeptOut.LEFT_OUT,
        }
        assert quarantines.kept_out(tx, "third") == {}
        assert quarantines.counted(tx) == {KeptOut.LEFT_OUT: 1, KeptOut.QUARANTINED: 2}
        assert [row.kind for row in quarantines.of_run(tx, run)] == [
            KeptOut.LEFT_OUT, KeptOut.LEFT_OUT, KeptOut.QUARANTINED, KeptOut.QUARANTINED,
        ]  # fmt: skip


def test_what_was_left_out_is_let_in_when_the_run_is_over(store: Store) -> None:
    """And what is quarantined stays out."""
    with store.begin() as tx:
        run = new_run(tx)
        one, other = stored(tx, run, "Q1", "Q2")
        keep_out(tx, run, KeptOut.LEFT_OUT, one)
        keep_out(tx, run, KeptOut.QUARANTINED, other)
        assert quarantines.let_in_left_out(tx, later(2), "run 1") == 1
        assert quarantines.let_in_left_out(tx, later(3), "run 2") == 0
        assert quarantines.kept_out(tx, "base") == {other.request.content_hash: KeptOut.QUARANTINED}


def test_release(store: Store) -> None:
    """One by its id, all of a run by its number; what is not kept out is an error that releases nothing."""
    with store.begin() as tx:
        first, second = new_run(tx), new_run(tx, 1)
        one, two, three = stored(tx, first, "Q1", "Q2", "Q3")
        keep_out(tx, first, KeptOut.QUARANTINED, one, two)
        keep_out(tx, second, KeptOut.QUARANTINED, three)
        with pytest.raises(ConfigError, match="nothing is kept out as q99"):
            quarantines.release(tx, [1, 99], later(2), "ann")
        assert len(quarantines.kept_out(tx, "base")) == 3
        (released,) = quarantines.release(tx, [1, 1], later(2), "ann")
        assert (released.fact.subject, released.released_at) == ("Q1", later(2))
        with pytest.raises(ConfigError, match="as q1;"):
            quarantines.release(tx, [1], later(2), "ann")
        assert [row.fact.subject for row in quarantines.release_run(tx, first, later(3), "ann")] == ["Q2"]
        with pytest.raises(ConfigError, match="keeps nothing out"):
            quarantines.release_run(tx, first, later(3), "ann")
        assert list(quarantines.kept_out(tx, "base")) == [three.request.content_hash]


def test_trials_come_back_as_they_were(store: Store) -> None:
    """With who was in them and what the gate said; of another run there are none."""
    with store.begin() as tx:
        run = new_run(tx)
        ids = tuple(one.id for one in stored(tx, run, "Q1", "Q2"))
        trials = [
            Trial(0, 5, ids, False, 0.0, (Verdict("neighborhood_drop", 0.1, 0.05, "≤", False),)),
            Trial(1, 3, (), True, 2.5, (Verdict("neighborhood_drop", None, 0.05, "≤", True),)),
        ]
        for trial in reversed(trials):
            quarantines.save_trial(tx, run, later(1), trial)
        assert quarantines.trials_of(tx, run) == trials
        assert quarantines.trials_of(tx, new_run(tx, 1)) == []
