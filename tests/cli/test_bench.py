"""`kbsync bench`: the measurements as a person and as a program see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kbsync.bench import capacity
from kbsync.cli.bench_tables import ELSEWHERE
from kbsync.evaluate.surroundings import said_elsewhere
from kbsync.settings import load_settings
from tests.cli.conftest import Call, data, error
from tests.tiny import encoder, requests, tiny_model

SETTINGS = """
[covariance]
tokens = 400
chunk_tokens = 32
facts_share = 0
[edit]
layers = [1, 2]
steps = 2
repair_rounds = 1
[evaluate]
drift_tokens = 64
neighbors = 2
said_tokens = 2
"""
MACHINE = {"date", "device", "threads", "python", "torch", "transformers", "solve_dtype", "model", "seed"}
DRAWN = {
    "source", "seed", "drawn", "known", "unaskable", "solve_s_per_edit", "solve_s", "mean_steps", "machine",
    "settings",
}  # fmt: skip
MEASURED = {
    "edits", "asked", "metrics", "elsewhere", "generation", "perplexity", "misses", "residual", "occupied", "drift",
    "rebuild_s_per_fact",
    "rebuild_s", "repair_s", "relations",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _settings(config: Path, tiny: Path) -> None:
    text = config.read_text().replace("[model]", f'[model]\nbase = "{tiny}"\ndevice = "cpu"\nthreads = 1')
    config.write_text(text + SETTINGS)


def test_quality_as_json(call: Call, tmp_path: Path, config: Path) -> None:
    """Everything that the page names, in the file as on stdout; no store is made."""
    out = tmp_path / "quality.json"
    found = data(call("bench", "quality", "--edits", "4", "--seed", "2", "--out", str(out), "--json"))
    assert set(found) == DRAWN | MEASURED
    assert set(found["machine"]) == MACHINE
    assert (found["drawn"], found["seed"]) == (4, 2)
    assert json.loads(out.read_text()) == found
    assert not (config.parent / "kbsync.db").exists()


def test_quality_for_a_person(call: Call) -> None:
    """Which edits, each metric with its intervals, relations, cost, and the machine."""
    result = call("bench", "quality", "--edits", "4", "--real")
    assert result.exit_code == 0, result.output
    assert "4 of 4 the demo's real changes, seed 0 (0 known to the base model)" in result.stdout
    for words in ("efficacy accuracy", "neighborhood unchanged", "score", "without BOS", "perplexity ratio",
                  "seconds per solved edit", "missed after the solve", "transformers"):  # fmt: skip
        assert words in result.stdout
    for words, count in (("paraphrase success", "12"), ("fluency", "4")):
        line = next(line for line in result.stdout.splitlines() if words in line and " to " in line)
        assert line.split()[-1] == count


def test_all_surroundings_have_words_for_a_person() -> None:
    """Those of a chat model, which has them all; none is left over."""
    assert set(said_elsewhere(tiny_model(), encoder(), requests())) == set(ELSEWHERE)


def test_texts_are_left_out_where_none_are_wanted(call: Call) -> None:
    """As many as asked for; none with 0."""
    found = data(call("bench", "quality", "--edits", "3", "--generate", "2", "--json"))["generation"]
    assert {name: pair["after"]["count"] for name, pair in found.items()}["fluency"] == 2
    shown = call("bench", "quality", "--edits", "2", "--generate", "0").stdout
    assert "efficacy accuracy" in shown
    assert "fluency" not in shown


def test_capacity(call: Call, tmp_path: Path) -> None:
    """A point for each size, with what a measurement of quality has, as JSON, in the file and as a table."""
    out = tmp_path / "capacity.json"
    found = data(call("bench", "capacity", "--upto", "3", "--out", str(out), "--json"))
    assert set(found) == DRAWN | {"curve", "capacity"}
    assert [set(point) for point in found["curve"]] == [MEASURED]
    assert set(found["capacity"]) == {"facts", "low", "high", "rule", "max_live", "rules"}
    assert json.loads(out.read_text()) == found
    shown = call("bench", "capacity", "--upto", "3").stdout
    assert "3 edits" in shown
    assert "neighborhood success, base model" in shown
    assert "room occupied" in shown


def test_capacity_at_chosen_sizes(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are measured, what lies beyond all edits is all of them, and the file is there from the first on."""
    out = tmp_path / "capacity.json"
    there: list[bool] = []
    real = capacity.measure

    def noted(*args: Any) -> capacity.Measured:
        there.append(out.exists())
        return real(*args)

    monkeypatch.setattr(capacity, "measure", noted)
    found = data(call("bench", "capacity", "--upto", "4", "--at", "99,2,1", "--out", str(out), "--json"))
    left = 4 - found["known"]
    assert [point["edits"] for point in found["curve"]] == sorted({1, 2, left})
    assert there == [False, True, True]
    assert "whole numbers" in call("bench", "capacity", "--at", "2,none").output


def test_capacity_as_settings_and_as_a_picture(call: Call, tmp_path: Path, config: Path) -> None:
    """The TOML is a file of settings that can be read, with the fitted limit; the PNG is a picture."""
    toml, png = tmp_path / "room.toml", tmp_path / "curve.png"
    found = data(call("bench", "capacity", "--upto", "4", "--toml", str(toml), "--png", str(png), "--json"))
    assert 1 <= found["capacity"]["max_live"] <= 4
    assert load_settings(toml).watch.max_live == found["capacity"]["max_live"]
    assert "bench capacity" in toml.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")


def test_editor(call: Call) -> None:
    """Speed first, then quality."""
    shown = call("bench", "editor", "--edits", "2").stdout
    assert shown.index("Speed") < shown.index("Quality of the candidate") < shown.index("Measured on")


def test_covariance(call: Call, tmp_path: Path) -> None:
    """A point for each count and mix, as JSON, in the file and as a table."""
    out = tmp_path / "covariance.json"
    words = ("bench", "covariance", "--edits", "3", "--tokens", "200, 400")
    found = data(call(*words, "--mix", "text", "--mix", "samples=0.25", "--out", str(out), "--json"))
    assert set(found) == DRAWN | {"points"}
    assert [set(one) for one in found["points"]] == [
        MEASURED | {"covariance", "moved_by_halving", "perplexity_ratio"}
    ] * 4
    assert [one["covariance"]["samples_share"] for one in found["points"]] == [0, 0, 0.25, 0.25]
    assert [one["covariance"]["tokens"] for one in found["points"]] == [200, 400] * 2
    assert set(found["points"][0]["covariance"]) == {
        "tokens", "facts_share", "samples_share", "dataset_share", "sources", "seconds", "effective_rank",
    }  # fmt: skip
    assert json.loads(out.read_text()) == found
    shown = call(*words)
    assert shown.exit_code == 0, shown.output
    for text in ("200 tokens", "400 tokens", "207 text", "on disk", "perplexity ratio", "moved by half the tokens"):
        assert text in shown.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--tokens", "5000;10000"),
        ("--tokens", "0"),
        ("--tokens", ""),
        ("--mix", "facts"),
        ("--mix", "prose=0.5"),
        ("--mix", "facts=much"),
    ],
)
def test_counts_and_mixes_that_are_none(call: Call, words: tuple[str, str]) -> None:
    """The option is named, and what it should look like."""
    found = error(call("bench", "covariance", *words, "--json"))
    assert found["exit_code"] == 2
    assert words[0] in found["message"]
    assert "such as" in found["message"]


def test_a_setting_from_the_environment(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in force, and the result says so."""
    monkeypatch.setenv("KBSYNC_EDIT__CLAMP", "0.25")
    assert data(call("bench", "quality", "--edits", "2", "--json"))["settings"]["clamp"] == 0.25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("quality", "--edits", "9999"), "has only 2400 counterfactual edits"),
        (("quality", "--edits", "9999", "--real"), "the demo has only"),
        (("capacity", "--upto", "9999"), "ask for that many or fewer"),
        (("quality", "--out", "no/such/folder/x.json"), "--out: there is no folder"),
        (("capacity", "--out", "no/such/folder/x.json"), "--out: there is no folder"),
        (("capacity", "--out", "/proc/x.json"), "--out: /proc/x.json can't be written"),
        (("capacity", "--png", "/proc/x.png"), "--png: /proc/x.png can't be written"),
        (("capacity", "--toml", "no/such/folder/x.toml"), "--toml: there is no folder"),
        (("capacity", "--png", "no/such/folder/x.png"), "--png: there is no folder"),
        (("editor", "--out", "no/such/folder/x.json"), "--out: there is no folder"),
        (("covariance", "--out", "no/such/folder/x.json"), "--out: there is no folder"),
        (("covariance", "--edits", "9999", "--tokens", "400"), "has only 2400 counterfactual edits"),
        (("covariance", "--mix", "facts=0.6,samples=0.6"), "are more than 1 together"),
    ],
)
def test_what_can_not_be_measured(call: Call, words: tuple[str, ...], message: str) -> None:
    """One line that says why, and code 2, before anything is solved."""
    found = error(call("bench", *words, "--json"))
    assert found["kind"] == "ConfigError"
    assert message in found["message"]


def test_a_result_that_can_not_be_written(call: Call, tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / "taken").mkdir()
    result = call("bench", "quality", "--edits", "2", "--out", str(tmp_path / "taken"))
    assert result.exit_code == 2
    assert "taken" in result.stderr
