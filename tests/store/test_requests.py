"""The ledger of edit requests: what was saved comes back, and each knows where it stands."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbsync.facts import EditRequest
from kbsync.store import requests
from kbsync.store.engine import Store, open_store
from kbsync.store.tables import RequestStatus
from tests.store.examples import NOON, edit_request, edit_requests, fact, later, new_run


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(saved=st.lists(edit_requests, max_size=5))
def test_request_comes_back_exactly_as_it_was_saved(sqlite_template: Path, saved: list[EditRequest]) -> None:
    """Whatever the words, a loaded request equals the saved one, and so does its content hash."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(sqlite_template, f"{folder}/kbsync.db")
        with open_store(f"sqlite:///{folder}/kbsync.db") as store:
            with store.begin() as tx:
                ids = requests.save_requests(tx, new_run(tx), NOON, saved)
            last = dict(zip(ids, saved, strict=True))
            with store.read() as tx:
                found = {one.id: one.request for one in requests.requests_by_id(tx, ids)}
            assert found == last
            assert all(found[one].content_hash == last[one].content_hash for one in ids)


def test_request_comes_back_from_either_database(store: Store) -> None:
    """Braces, quotes and other scripts survive both databases' JSON."""
    odd = edit_request(name="{} 日本 \"'\\ é\u2028", new="{0}", old="")
    with store.begin() as tx:
        (one,) = requests.save_requests(tx, new_run(tx), NOON, [odd])
    with store.read() as tx:
        assert [r.request for r in requests.requests_by_id(tx, [one, 99])] == [odd]


def test_request_is_known_by_its_fact_and_words(store: Store) -> None:
    """Saved again it keeps its id and takes new evaluation prompts; other words or another fact are new."""
    first = edit_request()
    relabelled = replace(first, subject_label="the States", neighborhood=(), target_old="Trump")
    headed = replace(first, relation_label="prime minister")
    namesake = replace(first, fact=fact("Q31"))
    renamed = edit_request(name="USA")
    with store.begin() as tx:
        (one,) = requests.save_requests(tx, new_run(tx), NOON, [first])
        again = requests.save_requests(tx, new_run(tx, 1), later(1), [relabelled, namesake, renamed, headed])
        assert again[0] == one
        assert len(set(again)) == 4
        stored = requests.requests_by_id(tx, [one])[0]
        assert stored.request == relabelled
        assert (stored.first_run, stored.last_run) == (1, 2)
        of_fact = requests.requests_of_facts(tx, [fact()])
        assert [r.id for r in of_fact[fact()]] == [one, again[2], again[3]]


def test_planning_again_does_not_undo_an_edit(store: Store) -> None:
    """A request that is solved or edited stays so when it is planned again; a withdrawn one is planned."""
    with store.begin() as tx:
        run_id = new_run(tx)
        many = [edit_request(name=name) for name in "abc"]
        ids = requests.save_requests(tx, run_id, NOON, many)
        requests.set_statuses(
            tx,
            run_id,
            NOON,
            {ids[0]: (RequestStatus.SOLVED, None), ids[1]: (RequestStatus.EDITED, None)},
        )
        requests.withdraw(tx, run_id, NOON, [ids[2]], "retired")
        assert requests.requests_by_id(tx, [ids[2]])[0].reason == "retired"
        requests.save_requests(tx, run_id, later(1), many)
        assert [one.status for one in requests.requests_by_id(tx, ids)] == ["solved", "edited", "planned"]
        requests.save_requests(tx, run_id, later(2), many, RequestStatus.KNOWN, "the model says so")
        assert requests.status_counts(tx) == {RequestStatus.KNOWN: 3}
        assert len(requests.requests_with(tx, [RequestStatus.KNOWN], ["P6"])) == 3
        assert requests.requests_with(tx, [RequestStatus.KNOWN], ["P35"]) == []


def test_batch_stays_whole_until_all_of_it_is_solved(store: Store) -> None:
    """A killed run finds the batch it was at with the very same requests, even those withdrawn since."""
    with store.begin() as tx:
        run_id = new_run(tx)
        ids = requests.save_requests(tx, run_id, NOON, [edit_request(name=name) for name in "abcde"])
        requests.assign_batch(tx, "000001-0000", ids[:2])
        requests.assign_batch(tx, "000001-0001", ids[2:4])
        requests.set_status(tx, run_id, NOON, ids[:2], RequestStatus.SOLVED)
        requests.withdraw(tx, run_id, NOON, [ids[3]], "retired")
    with store.read() as tx:
        (batch,) = requests.pending_batches(tx)
        assert batch.name == "000001-0001"
        assert [one.id for one in batch.requests] == ids[2:4]
        assert [one.batch for one in batch.requests] == [batch.name] * 2
