"""`kbsync history` tells one subject's story, found by id or by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.store import mirror
from kbsync.store.engine import open_store
from tests.cli.conftest import Call, data, error, url_of
from tests.store.examples import later, named, new_run, page, statement


def test_by_id_in_json(told: Call) -> None:
    """The change that came from Wikidata, and the edit that it became, with what it did."""
    story = data(told("history", "Q30", "--json"))
    assert (story["subject"], story["label"]) == ("Q30", "United States")
    first, change = story["changes"]
    assert (first["new_label"], first["outcome"]) == ("Donald Trump", "baseline")
    assert (change["old_label"], change["new_label"], change["outcome"]) == ("Donald Trump", "Joe Biden", "edited")
    assert change["at"] == "2024-03-01T12:01:00Z"
    (edit,) = story["edits"]
    assert edit["said_after"] == "somebody"
    assert edit["p_new_before"] == pytest.approx(0.01)
    assert edit["live_from"] == "2024-03-01T12:04:00Z"
    assert edit["live_until"] is None


def test_tables_for_people(told: Call) -> None:
    """Both tables say the same in words, times in UTC."""
    shown = told("history", "Q142").stdout
    assert shown.startswith("Q142 France\n")
    assert "Élisabeth Borne" in shown
    assert "0.01 → 0.5" in shown
    assert "2024-03-01 13:04:00 – 2024-03-01 15:00:00" in shown


@pytest.mark.parametrize("name", ["United States", "united states", " United States "])
def test_by_label(told: Call, name: str) -> None:
    """A label finds its subject, whatever its case."""
    assert data(told("history", name, "--json"))["subject"] == "Q30"


def test_an_id_without_facts(told: Call) -> None:
    """An id that the store has no fact of is an error, also when it is the object of one."""
    for one in ("Q424242", "Q6279"):
        result = told("history", one)
        assert result.exit_code == 2
        assert f"knows no fact of {one}" in result.stderr


def test_an_unknown_name(told: Call) -> None:
    """A name that is nobody's, or only an object's, is an error that says what to try."""
    for name in ("Atlantis", "Joe Biden", "'; DROP TABLE facts; --"):
        assert "no subject called" in error(told("history", name, "--json"))["message"]
    assert data(told("history", "Q30", "--json"))


def test_a_name_of_several(told: Call, config: Path) -> None:
    """Two subjects with one name are listed; the story of neither is told."""
    with open_store(url_of(config)) as store, store.begin() as tx:
        run = new_run(tx, 500)
        both = [statement(1, "Q9", "Q7"), statement(1, "Q9", "Q8")]
        mirror.apply(tx, run, later(500), page(both, items=[named("Q7", "Georgia"), named("Q8", "Georgia")]), True)
    message = error(told("history", "Georgia", "--json"))["message"]
    assert "Q7, Q8" in message
    shown = told("history", "Q7").stdout
    assert "baseline" in shown
    assert "No edits." in shown


def test_bytes_that_are_not_utf8(told: Call) -> None:
    """A shell passes them on; no database takes them."""
    result = told("history", "a\udcffb")
    assert result.exit_code == 2
    assert "bytes that are not UTF-8" in result.stderr
