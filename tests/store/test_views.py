"""The views tell the story that the tables hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbsync.facts import Phase, PromptKind
from kbsync.store import outcomes
from kbsync.store.engine import Store
from kbsync.store.query import Cell, run_sql
from tests.store.examples import later, new_run
from tests.store.story import tell


@pytest.fixture
def told(url: str, store: Store) -> str:
    """The URL of a store in which the story has happened."""
    tell(store)
    return url


def rows(url: str, sql: str) -> list[tuple[Cell, ...]]:
    return list(run_sql(url, sql).rows)


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (-600, ("base", 0)),
        (3.9, ("base", 0)),
        (4, ("model-1", 1)),
        (63.9, ("model-1", 1)),
        (64, ("model-2", 2)),
        (179.9, ("model-2", 2)),
        (180, ("model-1", 1)),
        (1e6, ("model-1", 1)),
    ],
)
def test_exactly_one_model_was_live_at_any_time(told: str, minutes: float, expected: tuple[str, int]) -> None:
    """One WHERE finds the model that was live, from before the first publication until after the last."""
    at = later(minutes).isoformat(timespec="microseconds").replace("+00:00", "Z")
    query = f"SELECT checkpoint, facts FROM publication_at WHERE live_from <= '{at}' AND live_until > '{at}'"
    assert rows(told, query) == [expected]


def test_live_facts_are_those_of_the_published_model(told: str) -> None:
    """After the rollback the live model holds the first edit only, with words for all of it."""
    query = "SELECT subject_label, relation_label, object, object_label, new_object, checkpoint FROM live_facts"
    assert rows(told, query) == [
        ("United States", "head of government", "Q6279", "Joe Biden", "Joe Biden", "model-1")
    ]


def test_edit_history_has_before_and_after_and_where_it_lives(told: str) -> None:
    """Each request shows what the last evaluation measured and from when until when a model held it."""
    query = """
        SELECT subject_label, old_object, new_object, status, p_new_before, p_new_after, accuracy_after,
               paraphrase_success, neighborhood_success, checkpoint, live_from, live_until
        FROM edit_history ORDER BY request
    """
    states, france = rows(told, query)
    assert states[:4] == ("United States", "Donald Trump", "Joe Biden", "edited")
    assert states[4:6] == pytest.approx((0.01, 0.5))
    assert bool(states[6])
    assert states[7:9] == (0.5, None)
    assert states[9:] == ("model-2", "2024-03-01T12:04:00.000000Z", None)
    assert not france[6]
    assert france[9:] == ("model-2", "2024-03-01T13:04:00.000000Z", "2024-03-01T15:00:00.000000Z")


def test_edit_history_of_a_retired_fact_shows_its_edit(told: str, store: Store) -> None:
    """A later look at whether a retired fact lingers does not overwrite what its edit had done."""
    with store.begin() as tx:
        run_id = new_run(tx, 200)
        (one,) = [o for o in outcomes.outcomes_of(tx, 1, Phase.AFTER) if o.kind is PromptKind.REWRITE]
        lingering = replace(one, kind=PromptKind.RETIRED, logp_new=-9.0)
        outcomes.save_outcomes(tx, run_id, [lingering], {one.content_hash: 1})
    (found,) = rows(told, "SELECT p_new_after FROM edit_history WHERE request = 1")
    assert found == pytest.approx((0.5,))


def test_run_summary_has_one_row_per_run(told: str) -> None:
    """Times, changes, metrics and the gate's word stand beside each run; a refused one says why."""
    query = """
        SELECT run, status, seconds, solve_s, added, replaced, retired, efficacy_success,
               neighborhood_before, perplexity_ratio, gate, checkpoint, facts
        FROM run_summary ORDER BY run
    """
    first, second, third = rows(told, query)
    assert first == (1, "published", 300.0, 0.5, 3, 1, 0, 1.0, 0.75, 1.05, "passed", "model-1", 1)
    assert second[4:7] == (0, 1, 0)
    assert third[:2] + third[10:] == (3, "rejected", "refused", "model-3", 0)
    assert third[3] is None


def test_held_facts_have_reasons(told: str) -> None:
    """A held fact stands with its reason, and with ids where there are no labels."""
    query = "SELECT subject, subject_label, object_label, reason FROM held_facts"
    assert rows(told, query) == [("Q5", None, "Q9", "no label")]


def test_fact_changes_have_words(told: str) -> None:
    """A change reads as words, with its outcome."""
    query = "SELECT kind, old_label, new_label, outcome FROM fact_changes WHERE subject = 'Q142' ORDER BY change"
    assert rows(told, query) == [
        ("added", None, "Élisabeth Borne", "baseline"),
        ("replaced", "Élisabeth Borne", "Gabriel Attal", "edited"),
    ]


def test_base_model_is_live_in_an_empty_store(url: str, store: Store) -> None:
    """A store in which nothing was published says that the base model is live, and the other views are empty."""
    assert rows(url, "SELECT checkpoint, action FROM publication_at") == [("base", "none")]
    for view in ("live_facts", "edit_history", "run_summary", "held_facts", "fact_changes"):
        assert rows(url, f"SELECT * FROM {view}") == []
