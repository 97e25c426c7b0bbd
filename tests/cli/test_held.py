"""`kbsync held`, `approve` and `reject`."""

from __future__ import annotations

from tests.cli.conftest import Call, data, error


def test_held_lists_changes_and_facts(told: Call) -> None:
    """What the filter holds has an id; what can't be said has none."""
    found = data(told("held", "--json"))
    assert [(one["id"], one["subject"], one["object"], one["reason"]) for one in found["changes"]] == [
        ("h1", "Q5", "Q7", "no reference")
    ]
    assert [(one["subject"], one["reason"]) for one in found["facts"]] == [("Q5", "no label")]
    assert found["runs"] == []
    text = told("held").stdout
    assert "no reference" in text
    assert "by hand" in text
    assert data(told("held", "--json", "--reason", "no label"))["changes"] == []
    assert "Nothing is held" in told("held", "--reason", "no such").stdout


def test_a_decision_is_written_down(told: Call) -> None:
    """Who, when and why; one id twice is one decision."""
    assert data(told("approve", "h1", "h1", "--why", "seen it", "--json"))["approved"][0]["id"] == "h1"
    assert data(told("reject", "h1", "--json"))["rejected"][0]["way"] == "enter"
    assert "approved h1" in told("approve", "h1").stdout
    rows = data(told("sql", "SELECT approved, why, subject FROM trust_decisions ORDER BY id", "--json"))["rows"]
    assert [(bool(approved), why, subject) for approved, why, subject in rows] == [
        (True, "seen it", "Q5"), (False, None, "Q5"), (True, None, "Q5"),
    ]  # fmt: skip


def test_what_is_not_held_can_not_be_decided(told: Call) -> None:
    """An unknown id, a run that asked nothing and another word are errors of code 2, and leave nothing."""
    for words, message in (
        (("approve", "h99"), "nothing is held as h99"),
        (("approve", "1"), "run 1 does not wait"),
        (("approve", "h" + "9" * 25), "neither an id"),
        (("approve", "9" * 25), "neither an id"),
        (("reject", "h" + "9" * 25), "not an id"),
        (("approve", "h1", "nonsense"), "neither an id"),
        (("reject", "1"), "not an id"),
    ):
        told_error = error(told(*words, "--json"))
        assert told_error["exit_code"] == 2
        assert message in told_error["message"]
    assert data(told("sql", "SELECT * FROM trust_decisions", "--json"))["rows"] == []
