"""What rollbacks set aside, and how that ends."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.facts import EditRequest
from kbsync.store import asides, checkpoints, requests
from kbsync.store.engine import Store
from kbsync.store.tables import RequestStatus
from tests.store.examples import edit_request, fact, later, new_checkpoint, new_run

Q1_OLD, Q1_NEW = (edit_request(fact("Q1", value), "One", value) for value in ("Q11", "Q12"))
Q2, Q3 = edit_request(fact("Q2", "Q21"), "Two", "Q21"), edit_request(fact("Q3", "Q31"), "Three", "Q31")


def publish(tx: Session, minute: int, *live: EditRequest) -> int:
    """A model that holds these, live; the id of its checkpoint."""
    run = new_run(tx, minute)
    ids = requests.save_requests(tx, run, later(minute), live)
    requests.set_status(tx, run, later(minute), ids, RequestStatus.EDITED)
    one = checkpoints.add_candidate(tx, run, later(minute), new_checkpoint(f"model-{minute}"), ids)
    checkpoints.publish(tx, one, run, later(minute))
    return one


def back(
    tx: Session, minute: int, left: int | None, to: int | None
) -> tuple[dict[str, tuple[object, object]], int]:
    """Roll back; what is set aside by it, as (disliked object, kept object) by subject, and how many ended."""
    at = checkpoints.rollback(tx, later(minute), to, base=to is None).id
    found, ended = asides.set_aside(tx, at, later(minute), "ann", left, to)
    return _shown(found), ended


def _shown(found: list[asides.Aside]) -> dict[str, tuple[object, object]]:
    def object_of(one: requests.StoredRequest | None) -> object:
        return one.request.target_new if one is not None else None

    return {one.group[0]: (object_of(one.disliked), object_of(one.kept)) for one in found}


def test_differences_are_set_aside_and_the_rest_is_not(store: Store) -> None:
    """What was replaced, retired and new, each with what was disliked and what stays."""
    with store.begin() as tx:
        first = publish(tx, 1, Q1_OLD, Q2)
        second = publish(tx, 2, Q1_NEW, Q3)
        found, ended = back(tx, 3, second, first)
        assert found == {"Q1": ("Q12", "Q11"), "Q2": (None, "Q21"), "Q3": ("Q31", None)}
        assert ended == 0
        assert _shown(asides.standing(tx)) == found
        assert asides.counted(tx) == 3


def test_a_step_forward_ends_what_it_brings_back(store: Store) -> None:
    """And sets nothing aside; two steps back keep the first dislike with what the older model has."""
    with store.begin() as tx:
        first = publish(tx, 1, Q1_OLD)
        second = publish(tx, 2, Q1_NEW)
        back(tx, 3, second, first)
        found, ended = back(tx, 4, first, None)
        assert (found, ended) == ({"Q1": ("Q12", None)}, 0)
        found, ended = back(tx, 5, None, first)
        assert (found, ended) == ({"Q1": ("Q12", "Q11")}, 0)
        assert back(tx, 6, first, second) == ({}, 1)
        assert asides.standing(tx) == []


def test_ended_by_release_or_by_the_plan(store: Store) -> None:
    """Each has who ended it; what does not stand can't be released."""
    with store.begin() as tx:
        first = publish(tx, 1, Q2)
        second = publish(tx, 2, Q1_NEW, Q3)
        back(tx, 3, second, first)
        ids = {one.group[0]: one.id for one in asides.standing(tx)}
        assert [one.fact for one in asides.release(tx, [ids["Q1"]], later(4), "ann")] == [Q1_NEW.fact]
        with pytest.raises(ConfigError, match=f"nothing is set aside as a{ids['Q1']}"):
            asides.release(tx, [ids["Q2"], ids["Q1"]], later(4), "ann")
        assert asides.end(tx, {("Q3", "P6"), ("Q9", "P6")}, later(5), "run 7") == 1
        assert asides.end(tx, set(), later(5), "run 7") == 0
        assert [one.group[0] for one in asides.release_all(tx, later(6), "ann")] == ["Q2"]
        with pytest.raises(ConfigError, match="no rollback"):
            asides.release_all(tx, later(6), "ann")


def test_requests_of_a_model_that_is_live_again_stand(store: Store) -> None:
    """What a plan had withdrawn is edited again; of others nothing changes."""
    with store.begin() as tx:
        first = publish(tx, 1, Q1_OLD)
        publish(tx, 2, Q1_NEW)
        old = [one.id for one in requests.requests_of_facts(tx, [Q1_OLD.fact])[Q1_OLD.fact]]
        requests.withdraw(tx, 2, later(2), old, "no longer current")
        asides.stand_again(tx, first)
        assert {one.reason for one in requests.requests_by_id(tx, old)} == {None}
        assert requests.status_counts(tx) == {RequestStatus.EDITED: 2}
