"""What is watched: the file's relations, those of commands, and their filters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kbsync.errors import ConfigError
from kbsync.facts import Subjects
from kbsync.settings import load_settings
from kbsync.store import watches
from kbsync.store.engine import open_store
from kbsync.sync import watching
from tests.stores import Stores

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_both_are_watched_and_the_file_s_words_hold(stores: Stores, tmp_path: Path) -> None:
    """The file's come first; a command's filter of one that the file names counts for nothing."""
    settings = load_settings(None, {"watch": {"relations": ["P6", "P35"], "classes": {"P35": ["Q5", "Q4"]}}})
    with open_store(stores.make(tmp_path / "kbsync.db")) as store:
        with store.begin() as tx:
            watches.add(tx, "P169", Subjects(where="?item a ?c"), "tests", NOON)
            watches.add(tx, "P6", Subjects(ids=frozenset({"Q1"})), "tests", NOON)
        with store.read() as tx:
            found = watching.watches(tx, settings)
            assert {one: (watch.source, watch.subjects.words) for one, watch in found.items()} == {
                "P6": ("file", "all"),
                "P35": ("file", "class Q4, Q5"),
                "P169": ("command", "where ?item a ?c"),
            }
            assert watching.effective(tx, settings).watch.relations == ("P6", "P35", "P169")
            assert watching.watch_of(tx, settings, "P39") is None
    watching.check(found.values())


def test_priorities_of_both(stores: Stores, tmp_path: Path) -> None:
    """The planner gets the file's and the commands'; of what both name, the file's holds."""
    settings = load_settings(None, {"watch": {"relations": ["P6", "P35"], "priority": {"P6": 3}}})
    with open_store(stores.make(tmp_path / "kbsync.db")) as store:
        with store.begin() as tx:
            watches.add(tx, "P169", Subjects(("Q5",)), "tests", NOON, 7)
            watches.add(tx, "P35", Subjects(), "tests", NOON, 9)
            watches.add(tx, "P54", Subjects(), "tests", NOON)
        with store.read() as tx:
            assert watching.effective(tx, settings).watch.priority == {"P6": 3, "P169": 7}
            assert {one: watch.priority for one, watch in watching.watches(tx, settings).items()} == {
                "P6": 3, "P35": 0, "P169": 7, "P54": 0,
            }  # fmt: skip
        with store.begin() as tx:
            before, after = watches.add(tx, "P169", None, "tests", NOON, -1)
        assert before is not None
        assert (before.priority, after.priority, after.subjects) == (7, -1, Subjects(("Q5",)))


def test_a_list_in_a_file(tmp_path: Path) -> None:
    """One id a line; blank lines and comments count for nothing, and a file of nothing is an error."""
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\xef\xbb\xbfQ1\r\n\r\n  Q2 # two\n# Q3\n")
    assert watching.read_ids(path) == {"Q1", "Q2"}
    for content, said in (
        (b"# none\n", "names none"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"Q1\nQ0\n", "line 2: 'Q0'"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            watching.read_ids(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Subjects(), Subjects(("Q5",))),
        (Subjects(("Q5",)), Subjects(ids=frozenset({"Q5"}))),
        (Subjects(("Q5",)), Subjects(where="Q5")),
        (Subjects(ids=frozenset()), Subjects()),
    ],
)
def test_filters_are_told_apart_and_kept_whole(one: Subjects, other: Subjects) -> None:
    """Different filters have different keys, and each comes back from what was written down."""
    assert one.key != other.key
    assert [Subjects.from_data(each.as_data()) for each in (one, other)] == [one, other]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"classes": {"P35": ["Q5"]}}, "'P35' has a filter and is not one of watch.relations"),
        ({"classes": {"P6": ["Q5"]}, "where": {"P6": "?item a ?c"}}, "'P6' has two filters"),
        ({"where": {"P6": "  "}}, "the pattern of P6 is empty"),
        ({"subjects": {"P6": []}}, "the list of P6 names none"),
        ({"classes": {"P6": ["P31"]}}, "'P31' of P6 is not an item id"),
    ],
)
def test_a_wrong_filter_in_the_file(table: dict[str, object], said: str) -> None:
    """The error names the relation and what is wrong."""
    with pytest.raises(ConfigError, match=said):
        load_settings(None, {"watch": {"relations": ["P6"], **table}})
