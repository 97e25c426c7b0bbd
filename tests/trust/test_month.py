"""The made-up month: what it is made of, and that the filter lets no named kind of vandalism through."""

from __future__ import annotations

from collections import Counter

import pytest

from kbsync.bench.month import BEYOND, NAMED, Kind, Month, make_month
from kbsync.bench.trust import Replay, replay, settings_without

SEED = 20220


@pytest.fixture(scope="module")
def month() -> Month:
    """The month that docs/trust.md has the figures of."""
    return make_month(SEED)


@pytest.fixture(scope="module")
def filtered(month: Month) -> Replay:
    """The month with the default settings, synced once a day."""
    return replay(month, settings_without("all checks"), 24)


def test_the_month_is_large_and_hostile_enough(month: Month) -> None:
    """At least 5,000 changes, at least 5 % of them vandalism, each of the six kinds many times."""
    kinds = Counter(one.kind for one in month.made)
    assert len(month.made) >= 5000
    assert sum(count for kind, count in kinds.items() if kind is not Kind.HONEST) >= 0.05 * len(month.made)
    assert all(kinds[kind] >= 40 for kind in NAMED)


def test_the_month_is_its_seed(month: Month) -> None:
    """The same seed makes the same month, another one another."""
    small = make_month(1, 50)
    assert small.made == make_month(1, 50).made
    assert small.edits == make_month(1, 50).edits
    assert small.made != make_month(2, 50).made


def test_no_vandalism_of_a_named_kind_leaks(filtered: Replay) -> None:
    """None of the six kinds reaches the model; of edit wars a sync a day sees too little (the next test)."""
    kinds = [kind for kind in NAMED if kind is not Kind.WAR]
    assert {kind: filtered.leaked[kind].hits for kind in kinds} == dict.fromkeys(kinds, 0)


def test_edit_wars_are_seen_where_the_pulls_are_close() -> None:
    """With a sync an hour no kind leaks, wars neither; the month has fewer honest changes here."""
    hourly = replay(make_month(SEED, 200), settings_without("all checks"), 1)
    assert {kind: hourly.leaked[kind].hits for kind in NAMED} == dict.fromkeys(NAMED, 0)


def test_honest_changes_get_through(filtered: Replay) -> None:
    """At least 97 % of those that nobody took back."""
    assert filtered.through.count >= 4500
    assert filtered.through.share >= 0.97


def test_what_a_filter_cannot_tell_is_counted(filtered: Replay) -> None:
    """A lie that looks like a fact gets through: the replay does see a leak where there is one."""
    assert all(filtered.leaked[kind].hits > 0 for kind in BEYOND)


def test_without_the_filter_vandalism_leaks() -> None:
    """Every kind of a smaller month reaches a model that follows each edit at the next sync."""
    open_door = replay(make_month(3, 300), settings_without("no check at all"), 6)
    assert all(open_door.leaked[kind].hits > 0 for kind in NAMED)
    assert open_door.through.share > 0.99
