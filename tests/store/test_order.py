"""The store after any pages in any order is the plain model's, row for row."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from kbsync.facts import Pulled, Statement
from kbsync.source.page import assemble, newest
from kbsync.store import known, mirror, readings
from kbsync.store.engine import Store
from kbsync.store.tables import Base, EntityRow
from tests.source.order_model import (
    RELATION,
    STATES,
    TIMES,
    Look,
    cursor_of,
    expected,
    facts_of,
    moment,
    page_of,
    subject_at,
)
from tests.store.examples import NOON, all_rows, named, new_run, page, statement

SUBJECTS = 100  # of one example: each has a history of its own


@pytest.fixture(scope="module")
def memory() -> Iterator[Engine]:
    """SQLite in memory with all tables and one run."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as tx, tx.begin():
        new_run(tx)
    yield engine
    engine.dispose()


def take(tx: Session, look: Look) -> Pulled:
    """Store one page as the pull does: compared with the store and written in one transaction."""
    at = moment(look.time)
    found = page_of(look)
    found = newest(found, readings.readings_of(tx, RELATION, found.subjects), at)
    pulled = assemble(found, known.statements_of(tx, RELATION, found.subjects), at)
    mirror.apply(tx, 1, at, pulled, False)
    return pulled


def held(tx: Session) -> dict[str, dict[str, Statement]]:
    """The live statements by subject."""
    found = known.statements_of(tx, RELATION, [subject_at(place) for place in range(SUBJECTS)])
    return {one: {s.id: s for s in rows} for one, rows in found.items()}


def looks_of(seed: int) -> list[Look]:
    """A few pages, each of which says something of most subjects; some come twice."""
    chance = random.Random(seed)
    looks = [
        Look(chance.randrange(TIMES), tuple(chance.randrange(STATES) for _ in range(SUBJECTS)))
        for _ in range(chance.randint(1, 5))
    ]
    looks += chance.sample(looks, chance.randint(0, 1))
    chance.shuffle(looks)
    return looks


@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 2**32))
def test_any_order_of_pages_ends_in_the_model_s_rows(memory: Engine, seed: int) -> None:
    """6,000 histories of a subject: live statements, facts, labels and the cursor are what the model says."""
    looks = looks_of(seed)
    with Session(memory) as tx:
        for look in looks:
            take(tx, look)
        wanted = expected(looks)
        assert held(tx) == wanted
        facts = {(f.fact.subject, f.fact.value.text) for f in known.known_facts(tx, [RELATION])}
        assert facts == facts_of(wanted)
        assert known.cursor(tx, RELATION) == max(cursor_of(look) for look in looks)
        highest: dict[str, int] = {}
        for look in looks:
            for place, state in enumerate(look.states):
                if state > 1:
                    highest[subject_at(place)] = max(highest.get(subject_at(place), 0), state - 1)
        labels = {one: label for one, label in tx.execute(select(EntityRow.id, EntityRow.label))}  # noqa: C416
        assert labels == {one: f"{one} at {revision}" for one, revision in highest.items()}
        tx.rollback()


@settings(
    max_examples=15,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 2**32))
def test_a_page_that_comes_again_changes_no_row(memory: Engine, seed: int) -> None:
    """Each page of the past, read again, leaves every row of every table as it was."""
    looks = looks_of(seed)
    with Session(memory) as tx:
        for look in looks:
            take(tx, look)
        before = all_rows(tx)
        for look in looks:
            assert take(tx, look).changes == ()
        assert all_rows(tx) == before
        tx.rollback()


def test_an_older_page_does_not_overwrite(store: Store) -> None:
    """A page that was made before a newer one was stored is `older` by name when it comes at last."""
    late = page([statement(1, "Q7")], gone=[("Q30-2", "deleted")], items=[named("Q30", "old", 4)])
    with store.begin() as tx:
        run_id = new_run(tx)
        newer = [statement(1, "Q8"), statement(2, "Q9")]
        mirror.apply(tx, run_id, NOON, page(newer, items=[named("Q30", "new", 5)]), False)
        before = all_rows(tx)
        counts = mirror.apply(tx, run_id, NOON, late, False)
        assert counts["older"] == 1
        assert all_rows(tx) == before
