"""`kbsync release`, and what `kbsync held` and `kbsync status` say of what is kept out."""

from __future__ import annotations

from pathlib import Path

from kbsync.store import asides, checkpoints
from kbsync.store.engine import open_store
from tests.cli.conftest import Call, data, error, url_of


def test_what_is_kept_out_is_listed_with_its_evidence(told: Call) -> None:
    """Once, with the id that release takes and the numbers; status counts it."""
    found = data(told("held", "--json"))
    (one,) = found["kept_out"]
    assert (one["id"], one["kind"], one["subject"], one["run"]) == ("q1", "quarantined", "Q142", 3)
    assert (one["metric"], one["value_with"], one["value_without"], one["threshold"]) == (
        "perplexity_ratio", 1.3, 1.04, 1.05,
    )  # fmt: skip
    assert "Q142" not in {fact["subject"] for fact in found["facts"]}
    assert "without it, it is 1.040" in " ".join(told("held").stdout.split())
    assert data(told("held", "--json", "--reason", "quarantined"))["kept_out"] == [one]
    assert data(told("held", "--json", "--reason", "no label"))["kept_out"] == []
    assert data(told("status", "--json"))["kept_out"] == {"quarantined": 1}
    assert "1 quarantined; `kbsync held` lists them" in told("status").stdout


def test_release_by_id_or_by_run(told: Call) -> None:
    """It is let in, once, and by whom is kept."""
    assert [one["id"] for one in data(told("release", "q1", "q1", "--json"))["released"]] == ["q1"]
    assert data(told("held", "--json"))["kept_out"] == []
    rows = data(told("sql", "SELECT released_by IS NULL FROM quarantines", "--json"))["rows"]
    assert [bool(nobody) for (nobody,) in rows] == [False]
    assert "nothing is kept out as q1" in error(told("release", "q1", "--json"))["message"]


def test_release_of_a_run(told: Call) -> None:
    """Its number stands for all that it has kept out."""
    assert told("release", "3").stdout == "released q1; the next sync tries it again\n"
    assert "run 3 keeps nothing out" in error(told("release", "3", "--json"))["message"]


def test_what_a_rollback_set_aside_is_listed_and_released(call: Call, told: Call, config: Path) -> None:
    """With what stays; by its id, or all of it by a word."""
    with open_store(url_of(config)) as store, store.begin() as tx:
        live = checkpoints.live(tx)
        assert live is not None
        newer = checkpoints.checkpoint_named(tx, "model-2").id
        asides.set_aside(tx, live.id, live.at, "ann", newer, live.checkpoint.id if live.checkpoint else None)
    (one,) = [row for row in data(told("held", "--json"))["kept_out"] if row["kind"] == "rolled back"]
    assert (one["id"], one["subject"], one["object_label"]) == ("a1", "Q142", "Gabriel Attal")
    assert one["reason"] == "set aside by a rollback"
    assert data(call("status", "--json"))["kept_out"] == {"quarantined": 1, "rolled back": 1}
    assert "released a1" in told("release", "rollback").stdout
    assert "no rollback" in error(told("release", "rollback", "--json"))["message"]
    assert "nothing is set aside as a1" in error(told("release", "a1", "--json"))["message"]


def test_what_can_not_be_released(told: Call) -> None:
    """Another kind of id is an error of code 2, and leaves all as it was."""
    beyond = [(letter + "9" * 25,) for letter in ("q", "a", "")]
    for words in (("h1",), ("q1", "nonsense"), ("q-1",), ("q1", "q99"), *beyond):
        assert error(told("release", *words, "--json"))["exit_code"] == 2
    assert len(data(told("held", "--json"))["kept_out"]) == 1
