"""The stream as a tail, into a real store: what it touches is read, what it misses the tails find."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from kbsync.errors import StoreError
from kbsync.source import stream as mutation_stream
from kbsync.store import runs, touches, triggers
from kbsync.store.tables import RunRow, RunStatus
from kbsync.sync import daemon
from kbsync.sync.clock import now
from kbsync.sync.follower import Follower
from kbsync.sync.overdue import last_sync
from kbsync.sync.progress import Silent
from kbsync.sync.pulling import pull
from kbsync.sync.run import STREAM, sync_once
from tests.source.events import Stream, event, replay, since_of
from tests.sync import clock
from tests.sync.clock import Clock
from tests.sync.rig import Rig
from tests.sync.test_daemon import FakeSync, wait_for
from tests.sync.world import GOVERNMENT, STATE, person

CURSORS = "SELECT relation, modified, item FROM cursors ORDER BY relation"
CHANGES = "SELECT kind, subject, relation, old_value, new_value FROM changes WHERE outcome = 'pending' ORDER BY id"


def source(stream: Stream, **more: object) -> dict[str, object]:
    """Settings of a source that follows the stream."""
    return {"stream": True, "stream_url": stream.url, "stream_drain_s": 30.0, "attempts": 1, **more}


def pulled(rig: Rig, settings: dict[str, object], only_touched: bool = True) -> Counter[str]:
    """The pull stage of one run."""
    with rig.bench(source=settings) as bench:
        with bench.store.begin() as tx:
            run_id = runs.start_run(tx, "stream", now(), {})
        try:
            with Silent().stage("pull") as task:
                return pull(bench, run_id, task, only_touched)
        finally:
            with bench.store.begin() as tx:
                runs.finish_run(tx, run_id, RunStatus.UNCHANGED, now())


def told(rig: Rig, country: str, operation: str = "diff", revision: int | None = None) -> str:
    """The event of a country's last edit, as young as this moment."""
    return event(country, revision or rig.world.revision, operation, f"{now():%Y-%m-%dT%H:%M:%SZ}")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections follow one another at once."""
    monkeypatch.setattr(mutation_stream, "PAUSES_S", (0.01,))


@pytest.fixture
def changed(rig: Rig) -> Iterator[tuple[Rig, Stream]]:
    """One head of government was replaced, and the stream tells."""
    rig.world.changes(("Q1001", GOVERNMENT, person(20)))
    with replay([event("Q1", 1, domain="canary"), event("Q77", 9), told(rig, "Q1001")]) as stream:
        yield rig, stream


def test_what_the_stream_touches_is_read_at_once(changed: tuple[Rig, Stream]) -> None:
    """The change is a row, no cursor moved, position and outcomes are stored; a second look finds nothing."""
    rig, stream = changed
    before = rig.rows(CURSORS)
    counts = pulled(rig, source(stream))
    assert rig.rows(CHANGES) == [("replaced", "Q1001", GOVERNMENT, person(0), person(20))]
    assert counts["touches read"] == 2  # for both relations that the country is tracked in
    assert rig.rows(CURSORS) == before
    assert rig.rows("SELECT outcome, events FROM stream_outcomes ORDER BY outcome") == [
        ("filtered: canary", 1),
        ("filtered: not watched", 1),
        ("touched", 1),
    ]
    assert '"offset": 2' in rig.rows("SELECT last_event_id FROM streams")[0][0]
    assert rig.rows("SELECT * FROM touches") == []
    assert since_of(stream.paths[0]) is not None
    assert pulled(rig, source(stream))["changes"] == 0
    assert '"offset": 2' in str(stream.asked[-1])


def test_the_tail_finds_nothing_more(changed: tuple[Rig, Stream]) -> None:
    """After the stream the store has the rows that the tail would have brought."""
    rig, stream = changed
    pulled(rig, source(stream))
    facts = rig.rows("SELECT subject, relation, value FROM facts WHERE retired_at IS NULL ORDER BY 1, 2, 3")
    counts = pulled(rig, {}, only_touched=False)
    assert counts["changes"] == 0
    assert counts["stored"] == 0
    assert rig.rows("SELECT subject, relation, value FROM facts WHERE retired_at IS NULL ORDER BY 1, 2, 3") == facts


def test_an_endpoint_that_is_behind_is_waited_for(rig: Rig) -> None:
    """The event is ahead of the endpoint: nothing is taken, nothing retired, until it shows the revision."""
    ahead = rig.world.revision + 1
    with replay([told(rig, "Q1002", revision=ahead), told(rig, "Q1003", "delete", rig.world.revision)]) as stream:
        counts = pulled(rig, source(stream))
        assert counts["behind"] == 4
        assert rig.rows(CHANGES) == []
        assert len(rig.rows("SELECT * FROM touches")) == 4
        rig.world.changes(("Q1002", STATE, None))
        assert rig.world.revision == ahead
        pulled(rig, source(stream))
        assert [row[:3] for row in rig.rows(CHANGES)] == [("retired", "Q1002", STATE)]
        assert {row[0] for row in rig.rows("SELECT item FROM touches")} == {"Q1003"}
        counts = pulled(rig, source(stream, stream_patience_s=0.001))
        assert counts["touches given up"] == 2
        assert rig.rows("SELECT * FROM touches") == []
        assert ("given up: the endpoint does not show it", 2) in rig.rows(
            "SELECT outcome, events FROM stream_outcomes"
        )


@pytest.mark.parametrize("back", [timedelta(minutes=10), timedelta(days=700)])
def test_the_clock_steps_back_under_what_waits(rig: Rig, monkeypatch: pytest.MonkeyPatch, back: timedelta) -> None:
    """What was seen before that is waited for as long as anything else, from then on: it is neither given up at
    once nor kept until the clock has caught up, and is taken as soon as the endpoint shows it."""
    told_at, ahead = datetime.now(UTC), rig.world.revision + 1
    with replay([told(rig, "Q1002", revision=ahead), told(rig, "Q1003", revision=ahead + 7)]) as stream:
        settings = source(stream, stream_patience_s=900.0)
        hands = Clock(told_at)
        clock.install(monkeypatch, hands)
        pulled(rig, settings)
        hands.set(told_at - back)
        pulled(rig, settings)
        assert len(rig.rows("SELECT * FROM touches")) == 4  # two relations each
        rig.world.changes(("Q1002", STATE, None))
        pulled(rig, settings)
        assert [row[:3] for row in rig.rows(CHANGES)] == [("retired", "Q1002", STATE)]
        hands.set(told_at - back + timedelta(seconds=890))
        pulled(rig, settings)
        assert {row[0] for row in rig.rows("SELECT item FROM touches")} == {"Q1003"}
        hands.set(told_at - back + timedelta(seconds=960))
        assert pulled(rig, settings)["touches given up"] == 2
    assert rig.rows("SELECT * FROM touches") == []


def test_a_deleted_item_is_retired_once_the_endpoint_agrees(rig: Rig) -> None:
    """A delete event and an endpoint without the item: its facts go, with the reason."""
    rig.world.server.update("DELETE WHERE { <http://www.wikidata.org/entity/Q1004> ?p ?o }")
    with replay([told(rig, "Q1004", "delete", 100)]) as stream:
        pulled(rig, source(stream))
    assert {row[:3] for row in rig.rows(CHANGES)} == {
        ("retired", "Q1004", GOVERNMENT),
        ("retired", "Q1004", STATE),
    }
    reasons = "SELECT DISTINCT retired_reason FROM statements WHERE subject = 'Q1004'"
    assert rig.rows(reasons) == [("item deleted",)]


def test_a_gap_is_counted_and_the_tail_closes_it(changed: tuple[Rig, Stream]) -> None:
    """The stream has forgotten our position: the run goes on, and its tails find what was missed."""
    rig, stream = changed
    pulled(rig, source(stream))
    rig.world.changes(("Q1005", GOVERNMENT, person(21)))
    stream.script.append(404)
    counts = pulled(rig, source(stream), only_touched=False)
    assert counts["stream: gap"] == 1
    assert rig.rows(CHANGES)[1:] == [("replaced", "Q1005", GOVERNMENT, person(4), person(21))]
    assert rig.rows("SELECT last_event_id FROM streams") == [(None,)]


def test_a_stream_that_is_down_fails_no_run(rig: Rig) -> None:
    """The tails go on, and the count says that the stream was not read."""
    rig.world.changes(("Q1006", GOVERNMENT, person(22)))
    with replay([], [500] * 5) as stream:
        counts = pulled(rig, source(stream), only_touched=False)
    assert counts["stream: not read"] == 1
    assert [row[1] for row in rig.rows(CHANGES)] == ["Q1006"]


def test_position_and_touches_commit_together(changed: tuple[Rig, Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies while it stores events has stored none of them; the next one reads them again."""
    rig, stream = changed

    def power_cut(*_args: object) -> None:
        raise StoreError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(touches, "count", power_cut)
        with pytest.raises(StoreError, match="power cut"):
            pulled(rig, source(stream))
    assert rig.rows("SELECT * FROM touches") == rig.rows("SELECT * FROM streams") == []
    pulled(rig, source(stream))
    assert [row[1] for row in rig.rows(CHANGES)] == ["Q1001"]


def test_the_daemon_s_ear(rig: Rig) -> None:
    """The follower tells of a touch within seconds, while the connection stays open, and ends when asked to."""
    heard = threading.Event()
    with (
        replay([event("Q1", 1, domain="canary")], linger_s=60) as stream,
        rig.bench(source=source(stream)) as bench,
    ):
        follower = Follower(bench, heard.set)
        follower.start()
        assert not heard.wait(0.2)
        rig.world.changes(("Q1007", STATE, person(23)))
        stream.events += [told(rig, "Q1007"), *[event("Q77", n) for n in range(600)]]
        assert heard.wait(20)
        bench.follows_stream = True
        assert len(rig.rows("SELECT * FROM touches")) == 2
        asked = len(stream.asked)
        with bench.store.begin() as tx:
            run_id = runs.start_run(tx, "stream", now(), {})
        with Silent().stage("pull") as task:
            assert pull(bench, run_id, task, only_touched=True)["changes"] == 1
        assert len(stream.asked) == asked
        stream.events.append(event("Q78", 1))
        follower.stop(20)
        assert not follower.alive


def test_the_daemon_runs_for_a_touch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of a tracked country starts a run of its own, outside the schedule."""
    monkeypatch.setattr(daemon, "_BURST_S", 0.0)
    sync = FakeSync()
    with replay([event("Q1", 1, domain="canary")], linger_s=60) as stream:
        settings = rig.settings(schedule={"poll_s": 0.02}, source=source(stream))
        one = daemon.Daemon(settings, Silent(), sync)
        thread = threading.Thread(target=one.run, daemon=True)
        thread.start()
        rig.world.changes(("Q1008", STATE, person(24)))
        stream.events += [told(rig, "Q1008"), *[event("Q77", n) for n in range(600)]]
        wait_for(lambda: STREAM in sync.seen)
        one.stop()
        stream.events.append(event("Q78", 1))
        thread.join(20)
    assert not thread.is_alive()
    assert set(sync.seen) <= {STREAM, "startup"}


def test_a_run_of_the_stream_answers_no_trigger_and_is_no_scheduled_run(rig: Rig) -> None:
    """Who asked for a sync waits for a whole one, and the schedule counts from the last whole one."""
    rig.world.tick()
    before = rig.rows(CURSORS)
    with replay([]) as stream, rig.bench(source=source(stream)) as bench:
        with bench.store.begin() as tx:
            asked = triggers.request(tx, "tests", now())
        assert sync_once(bench, STREAM).status is RunStatus.UNCHANGED
        assert rig.rows(CURSORS) == before
        with bench.store.read() as tx:
            assert [one.id for one in triggers.waiting(tx)] == [asked]
        with bench.store.read() as tx:
            assert last_sync(tx) == tx.scalars(select(RunRow.started_at).order_by(RunRow.id).limit(1)).one()
        assert sync_once(bench, "trigger").status is RunStatus.UNCHANGED
        assert rig.rows(CURSORS) != before
