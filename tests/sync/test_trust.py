"""The trust filter in the loop: what waits never reaches the model, and what a model holds stays meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kbsync.errors import ConfigError
from kbsync.store import trust
from kbsync.store.engine import open_store
from kbsync.store.tables import RunStatus
from kbsync.sync.clock import now
from kbsync.sync.run import Report
from tests.sync.rig import OPEN_TRUST, Rig
from tests.sync.world import COUNTRIES, GOVERNMENT, WINDOW_2, person

HELD = "SELECT way, subject, object, reason, waits_until FROM held_changes ORDER BY way, subject, object"


def synced_with(rig: Rig, **settings: object) -> Report:
    """One sync with a filter that is open but for `settings`."""
    return rig.sync(trust={**OPEN_TRUST, **settings})


def wait(rig: Rig, hours: float) -> None:
    """Time passes at the source."""
    rig.world.now += timedelta(hours=hours - 1)
    rig.world.tick()


def held(rig: Rig) -> list[tuple[Any, ...]]:
    """(way, subject, object, reason) of what is held."""
    return [row[:4] for row in rig.rows(HELD)]


def live(rig: Rig) -> set[tuple[str, str]]:
    """(subject, object's label) of what the model holds."""
    return {(s, o) for s, o in rig.rows("SELECT subject, object_label FROM live_facts")}


def decide(rig: Rig, approved: bool) -> None:
    """Approve or reject all that is held."""
    with open_store(rig.settings().store.url) as store, store.begin() as tx:
        for (number,) in rig.rows("SELECT id FROM held_changes"):
            trust.decide(tx, number, approved, "a test", None, now())


def test_a_revert_in_time_never_reaches_the_model(rig: Rig) -> None:
    """A vandal's value is held while it stands, and when it is reverted nothing was ever to be done."""
    rig.world.changes(("Q1001", GOVERNMENT, person(12)))
    first = synced_with(rig, settling="24h")
    assert first.status is RunStatus.UNCHANGED
    assert held(rig) == [("enter", "Q1001", person(12), "settling"), ("leave", "Q1001", person(0), "settling")]
    rig.world.changes(("Q1001", GOVERNMENT, person(0)))
    wait(rig, 40)
    assert synced_with(rig, settling="24h").status is RunStatus.UNCHANGED
    assert held(rig) == []
    assert rig.rows("SELECT * FROM edit_requests") == []
    assert rig.rows(f"SELECT outcome FROM changes WHERE new_value = '{person(12)}'") == [("superseded",)]
    verdicts = rig.rows("SELECT reason, closed_at IS NOT NULL FROM trust_verdicts WHERE NOT passed")
    assert verdicts == [("settling", 1), ("settling", 1)]


def test_what_has_settled_is_published_and_what_goes_stays_until_then(rig: Rig) -> None:
    """A value becomes an edit after its day. When it is deleted the model keeps it for a day; then it goes."""
    rig.world.changes(("Q1001", GOVERNMENT, person(12)))
    assert synced_with(rig, settling="24h").counts["plan"]["held: settling"] == 1
    wait(rig, 24)
    assert synced_with(rig, settling="24h").status is RunStatus.PUBLISHED
    assert live(rig) == {("Q1001", "Mina")}
    rig.world.changes(("Q1001", GOVERNMENT, None))
    assert synced_with(rig, settling="24h").status is RunStatus.UNCHANGED
    assert held(rig) == [("leave", "Q1001", person(12), "settling")]
    assert rig.rows("SELECT outcome FROM changes WHERE kind = 'retired'") == [("held: settling",)]
    wait(rig, 24)
    synced_with(rig, settling="24h")
    assert live(rig) == set()
    assert rig.rows("SELECT outcome FROM changes WHERE kind = 'retired'") == [("retired",)]


def test_references_and_decisions(rig: Rig) -> None:
    """Without a reference a fact waits for somebody: rejected it stays out, approved it is edited."""
    rig.world.changes(("Q1001", GOVERNMENT, person(12)))
    assert synced_with(rig, references="required").status is RunStatus.UNCHANGED
    assert ("enter", "Q1001", person(12), "no reference") in held(rig)
    assert rig.rows("SELECT reason FROM held_facts") == [("no reference",)]
    decide(rig, approved=False)
    assert synced_with(rig).status is RunStatus.UNCHANGED
    assert ("enter", "Q1001", person(12), "rejected") in held(rig)
    decide(rig, approved=True)
    assert synced_with(rig, references="required").status is RunStatus.PUBLISHED
    assert live(rig) == {("Q1001", "Mina")}
    assert rig.rows("SELECT reason FROM trust_verdicts WHERE passed AND closed_at IS NULL AND way = 'enter'") == [
        ("approved",)
    ]


def test_classes_are_read_and_read_again_while_in_doubt(rig: Rig) -> None:
    """A city does not govern; when the item is put right, the next sync sees it, through a subclass too."""
    direct = "http://www.wikidata.org/prop/direct/"
    rig.world._update(f"INSERT DATA {{ wd:{person(12)} <{direct}P31> wd:Q515 }}")
    rig.world.changes(("Q1001", GOVERNMENT, person(12)))
    synced_with(rig, types="both")
    assert ("enter", "Q1001", person(12), "class of the object") in held(rig)
    rig.world._update(
        f"DELETE DATA {{ wd:{person(12)} <{direct}P31> wd:Q515 }} ; "
        f"INSERT DATA {{ wd:{person(12)} <{direct}P31> wd:Q888 . wd:Q888 <{direct}P279> wd:Q5 }}"
    )
    assert synced_with(rig, types="both").status is RunStatus.PUBLISHED
    assert held(rig) == []
    before = rig.rows("SELECT count(*) FROM item_classes")
    synced_with(rig, types="both")
    assert rig.rows("SELECT count(*) FROM item_classes") == before


def test_a_new_name_settles(rig: Rig) -> None:
    """While a new label is young the old one is used, in the model too."""
    rig.world.changes(("Q1001", GOVERNMENT, person(12)))
    synced_with(rig)
    assert live(rig) == {("Q1001", "Mina")}
    wait(rig, 24)  # Mina is new to the store, so her name has to settle too
    rig.world.name("Q1001", "Poopland")
    rig.world._edited("Q1001")
    rig.world.tick()
    report = synced_with(rig, label_settling="24h")
    assert (report.status, report.counts["plan"]["name kept: label settling"]) == (RunStatus.UNCHANGED, 1)
    assert ("label", "Q1001", "Poopland", "label settling") in held(rig)
    rig.world.name("Q1001", COUNTRIES["Q1001"])
    rig.world._edited("Q1001")
    rig.world.tick()
    assert synced_with(rig, label_settling="24h").status is RunStatus.UNCHANGED
    assert held(rig) == []
    assert len(rig.rows("SELECT * FROM edit_requests")) == 1


def test_a_run_that_would_change_too_much_asks(synced: Rig) -> None:
    """It stops before it solves; approved, the next one goes on; what comes on top is asked again."""
    synced.world.changes(*WINDOW_2)
    before = synced.published()
    asking: dict[str, Any] = {"ask_share": 0.25, "ask_floor": 1}
    first = synced_with(synced, **asking)
    assert (first.status, tuple(first.counts)) == (RunStatus.WAITING, ("pull", "plan"))
    assert first.reason is not None
    assert f"kbsync approve {first.run_id}" in first.reason
    assert synced.published() == before
    assert synced_with(synced, **asking).status is RunStatus.WAITING
    with open_store(synced.settings().store.url) as store, store.begin() as tx:
        with pytest.raises(ConfigError, match="does not wait"):
            trust.approve_run(tx, 1, "a test", None, now())
        assert trust.approve_run(tx, first.run_id, "a test", None, now()) > 1
    assert synced_with(synced, **asking).status is RunStatus.PUBLISHED
    assert synced.published() != before


def test_a_run_brings_so_many_new_facts_at_most(rig: Rig) -> None:
    """The oldest changes first; the others wait for the next run."""
    rig.world.changes(("Q1001", GOVERNMENT, person(12)))
    rig.world.changes(("Q1002", GOVERNMENT, person(13)))
    synced_with(rig, max_per_run=1)
    assert live(rig) == {("Q1001", "Mina")}
    assert ("enter", "Q1002", person(13), "limit of the run") in held(rig)
    synced_with(rig, max_per_run=1)
    assert live(rig) == {("Q1001", "Mina"), ("Q1002", "Noel")}
