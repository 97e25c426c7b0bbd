"""`kbsync watch`: what it writes down, what it shows, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.cli.plan_checks import check_watch
from kbsync.errors import ConfigError
from kbsync.settings import load_settings
from kbsync.source.embedded import EmbeddedWikidata
from tests.cli.conftest import Call, data, error
from tests.source.triples import PREFIXES, insert, statement


@pytest.fixture(scope="module")
def one_server() -> Iterator[EmbeddedWikidata]:
    """A company with a chief executive, which is an instance of a class below another."""
    with EmbeddedWikidata([]) as server:
        insert(server, statement("Q100", "A", "P169", "wd:Q200"))
        server.update(
            f"{PREFIXES}PREFIX wdt: <http://www.wikidata.org/prop/direct/>\n"
            "INSERT DATA { wd:Q100 wdt:P31 wd:Q783794 . wd:Q783794 wdt:P279 wd:Q43229 }"
        )
        yield server


@pytest.fixture
def asked(call: Call, config: Path, one_server: EmbeddedWikidata) -> Call:
    """`call` with this endpoint."""
    source = f'[source]\nendpoint = "{one_server.endpoint}"\nattempts = 1\ncontact = "tests"\n'
    config.write_text(source + config.read_text())
    return call


def watched(call: Call) -> dict[str, dict[str, object]]:
    """What `watch list` shows, by relation."""
    return {one["relation"]: one for one in data(call("watch", "list", "--json"))["watched"]}


def test_add_list_and_remove(asked: Call) -> None:
    """A relation is watched from `add` to `remove`, beside the file's."""
    told = asked("watch", "add", "P169")
    assert told.exit_code == 0
    assert "P169 (chief executive officer) is watched: all. The next sync makes its first pull" in told.stdout
    assert "taken as known" in told.stdout
    found = watched(asked)
    assert list(found) == ["P6", "P169"]
    assert found["P6"]["source"] == "file"
    assert found["P169"] == {
        "relation": "P169", "label": None, "source": "command", "also": False, "filter": "all", "priority": 0,
        "backfill": "to come", "subjects_read": 0, "facts": 0, "held": 0,
    }  # fmt: skip
    assert "watched already" in asked("watch", "add", "P169").stdout
    assert "P169" in asked("watch", "list").stdout
    assert "first pull: P6, P169 to come" in asked("status").stdout
    asked("watch", "add", "P35", "P36", "P37")
    assert "first pull: 5 to come" in asked("status").stdout
    asked("watch", "remove", "P35", "P36", "P37")
    assert data(asked("watch", "remove", "--json", "P169")) == {
        "removed": [{"relation": "P169", "still_watched": False}]
    }
    assert list(watched(asked)) == ["P6"]


def test_what_a_store_knows_of_a_relation(told: Call) -> None:
    """Live and held facts are those of the store, and its first pull is done."""
    row = watched(told)["P6"]
    assert row["backfill"] == "done"
    assert isinstance(row["facts"], int)
    assert row["facts"] > 0
    assert isinstance(row["held"], int)
    assert row["held"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--class", "Q43229"], "class Q43229"),
        (["--class", "Q43229", "--class", "Q5"], "class Q43229, Q5"),
        (["--subjects", "Q100, Q101"], "list of 2: Q100, Q101"),
        (["--where", "?item wdt:P31\n wd:Q783794 # companies"], "where ?item wdt:P31 wd:Q783794 # companies"),
    ],
)
def test_filters_are_tried_and_kept(asked: Call, options: list[str], words: str) -> None:
    """A filter that finds the company is written down; another one in its place says what it was."""
    assert data(asked("watch", "add", "--json", "P169", *options)) == {
        "added": [{"relation": "P169", "filter": words, "priority": 0, "was": None, "priority_was": None}]
    }
    assert watched(asked)["P169"]["filter"] == words
    changed = asked("watch", "add", "P169")
    assert f"all; before: {words}. The next sync retires" in changed.stdout


def test_a_priority_alone_leaves_the_filter(asked: Call) -> None:
    """`--priority` counts and is shown; given alone it changes nothing else, and a new filter leaves it."""
    told = asked("watch", "add", "P169", "--class", "Q43229", "--priority", "3").stdout
    assert "is watched: class Q43229, priority 3. The next sync" in told
    assert (watched(asked)["P169"]["priority"], watched(asked)["P6"]["priority"]) == (3, 0)
    told = asked("watch", "add", "P169", "--priority", "-2").stdout
    assert told == "P169 (chief executive officer) has priority -2 from the next sync on; before: 3\n"
    assert watched(asked)["P169"]["filter"] == "class Q43229"
    asked("watch", "add", "P169", "--subjects", "Q100")
    assert (watched(asked)["P169"]["priority"], watched(asked)["P169"]["filter"]) == (-2, "list of 1: Q100")
    assert asked("watch", "add", "P169", "--priority", "high").exit_code == 2


def test_a_list_in_a_file(asked: Call, tmp_path: Path) -> None:
    """One id a line, with comments; a line that is none is named with its number."""
    (tmp_path / "ids.txt").write_text("Q100  # a company\n\n# no\nQ7\n")
    done = data(asked("watch", "add", "--json", "P169", "--subjects-file", "ids.txt"))
    assert done["added"][0]["filter"] == "list of 2: Q100, Q7"
    (tmp_path / "ids.txt").write_text("Q100\nP7\n")
    failed = asked("watch", "add", "--json", "P169", "--subjects-file", "ids.txt")
    assert error(failed)["message"] == "ids.txt: line 2: 'P7' is not an item id such as Q42"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "P1690"], "is not in the catalogue"),
        (["add", "P1690"], "or P169 (chief executive officer)? If not, add an entry"),
        (["add", "chief executive oficer"], "did you mean P169 (chief executive officer)"),
        (["add", "P9999999"], "add an entry for it there, as docs/relations.md shows"),
        (["add", "P6"], "P6 is watched by watch.relations already"),
        (["add", "P169", "--class", "P31"], "--class: 'P31' is not an item id"),
        (["add", "P169", "--subjects", "Q1,,Q2"], "--subjects: '' is not an item id"),
        (["add", "P169", "--subjects-file", "none.txt"], "none.txt can't be read: No such file"),
        (["add", "P169", "--class", "Q5", "--subjects", "Q1"], "give one of --class"),
        (["add", "P169", "--where", "?x a ?y"], "--where: the pattern does not bind ?item"),
        (["add", "P169", "--where", ""], "--where: the pattern is empty"),
        (["add", "P169", "--where", "?item a ?c }"], "--where: the pattern is not SPARQL (line 1, column"),
        (["add", "P169", "--where", "SERVICE <http://x/> { ?item a ?c }"], "SERVICE asks another endpoint"),
        (["add", "P169", "--where", "?item wdt:P31 wd:Q5"], "has no subject with P169 that the filter finds"),
        (["add", "P169", "--class", "Q5"], "so nothing was added; --no-try adds it all the same"),
        (["add", "P169", "--subjects", "Q7"], "has no subject with P169"),
        (["remove", "P6"], "take it out there"),
        (["remove", "P169"], "P169 is not watched; `kbsync watch list`"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(asked: Call, words: list[str], said: str) -> None:
    """Exit code 2 with what is wrong, and nothing is written down."""
    assert asked("watch", "add", "P35").exit_code == 0
    failed = asked("watch", words[0], "--json", *words[1:])
    assert failed.exit_code == 2, failed.output
    assert said in error(failed)["message"]
    assert list(watched(asked)) == ["P6", "P35"]


def test_an_endpoint_that_does_not_answer(call: Call, config: Path) -> None:
    """A filter can't be tried: exit code 3, nothing is added, unless the user says so."""
    config.write_text('[source]\nendpoint = "http://127.0.0.1:9/sparql"\nattempts = 1\n' + config.read_text())
    failed = call("watch", "add", "--json", "P169", "--class", "Q5")
    assert failed.exit_code == 3
    assert error(failed)["message"].startswith("the filter could not be tried, so nothing was added: ")
    assert data(call("watch", "add", "--json", "P169", "--class", "Q5", "--no-try"))["added"]


def test_a_relation_that_the_file_took_over(asked: Call, config: Path) -> None:
    """Named by both, the file's words hold; removed, it stays watched by the file."""
    assert asked("watch", "add", "P169", "--subjects", "Q100").exit_code == 0
    config.write_text(config.read_text().replace('["P6"]', '["P6", "P169"]'))
    row = watched(asked)["P169"]
    assert (row["source"], row["also"], row["filter"]) == ("file", True, "all")
    assert "file, command" in asked("watch", "list").stdout
    assert "watch.relations still names it" in asked("watch", "remove", "P169").stdout
    assert watched(asked)["P169"]["also"] is False


def test_the_doctor_looks_at_filters(asked: Call, config: Path) -> None:
    """It counts what commands have added, and a pattern of the file that is not allowed fails its check."""
    assert asked("watch", "add", "P169").exit_code == 0
    assert [one.text for one in check_watch(load_settings(config))][1] == "2 relations, each with prompts"
    config.write_text(config.read_text() + '[watch.where]\nP6 = "?item a ?c }"\n')
    with pytest.raises(ConfigError, match=r"watch\.where\.P6: the pattern is not SPARQL"):
        list(check_watch(load_settings(config)))
