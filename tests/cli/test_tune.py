"""`kbsync tune`: what it prints, the file that it writes, and when it does neither."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kbsync.cli.main import cli
from kbsync.cli.tune import section
from kbsync.settings import load_settings
from tests.cli.conftest import Call, data, error

SETTINGS = """
[evaluate]
drift_tokens = 64
neighbors = 1
[covariance]
tokens = 400
chunk_tokens = 32
facts_share = 0
[gate]
max_perplexity_ratio = "off"
max_neighborhood_drop = {drop}
"""
EDIT = '[edit]\nsteps = 2\nbatch_size = 8\nlayers = [1, 2]\nsolve_dtype = "float32"\n'
TUNE = ("tune", "--edits", "4", "--clamp", "0.5")


@pytest.fixture
def settle(config: Path, tiny: Path) -> None:
    """A config with the tiny model and a gate that lets everything through."""
    text = config.read_text().replace("[model]", f'[model]\nbase = "{tiny}"\ndevice = "cpu"')
    config.write_text(text + SETTINGS.format(drop=1) + EDIT)


@pytest.mark.usefixtures("settle")
def test_what_is_printed(call: Call) -> None:
    """A row for each point with one chosen, the trade-off, the limits, a section to paste, and how to measure it
    on other edits."""
    result = call(*TUNE)
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if line.startswith("1-2 ")]
    assert len(rows) >= 4
    assert sum("chosen" in row for row in rows) == 1
    assert "neighborhood drop at most 0.5; half of what the gate leaves" in result.stdout
    assert "#" in result.stdout.split("# chosen, o allowed, x not allowed)")[1].split("+---")[0]
    pasted = tomllib.loads(result.stdout.split("perplexity ratio\n")[-1].split("\nThese settings were chosen")[0])
    assert set(pasted["edit"]) == {"clamp", "covariance_weight"}
    assert pasted["edit"]["clamp"] == 0.5
    assert "warning" not in result.stderr
    assert "tune: " in result.stderr


@pytest.mark.usefixtures("settle")
def test_the_printed_command_measures_the_chosen_settings(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line with which to measure on other edits parses, and its environment has the chosen settings."""
    result = call(*TUNE, "--layers", "1-2", "--layers", "0,1", "--seed", "2")
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[-5:] == ["kbsync", "bench", "quality", "--seed", "2"]
    bench = cli.get_command(cli.make_context("kbsync", ["bench"], resilient_parsing=True), "bench")
    assert bench is not None
    for word in words[:-5]:
        monkeypatch.setenv(*word.split("=", 1))
    edit = load_settings().edit
    assert edit.clamp == 0.5
    assert edit.layers in ((0, 1), (1, 2))
    assert f"covariance_weight = {edit.covariance_weight}" in result.stdout
    assert f"layers = {list(edit.layers)}" in result.stdout


@pytest.mark.usefixtures("settle")
def test_the_file_loads_and_is_kept(call: Call, config: Path, tiny: Path) -> None:
    """The file is a settings file with what was chosen and where it comes from; it is replaced with --force only,
    and its keys do what they say when they are put into the config."""
    out = config.parent / "tuned.toml"
    result = data(call(*TUNE, "--out", str(out), "--json"))
    chosen = result["points"][result["chosen"]]
    text = out.read_text(encoding="utf-8")
    assert text == result["toml"]
    loaded = load_settings(out).edit
    assert (loaded.clamp, loaded.covariance_weight) == (chosen["clamp"], chosen["covariance_weight"])
    assert f"# on {result['edits']} counterfactual edits (the last of seed 0)" in text
    assert result["machine"]["date"] in text
    assert str(tiny) in text
    assert f"efficacy accuracy {chosen['efficacy_accuracy']:.3f}" in text
    assert result["allowed"] is True
    refused = call(*TUNE, "--out", str(out), "--json")
    assert error(refused)["message"].endswith(
        "tuned.toml is there already; name another file, or replace it with --force"
    )
    assert out.read_text(encoding="utf-8") == text
    out.write_text("old")
    assert call(*TUNE, "--out", str(out), "--force").exit_code == 0
    assert load_settings(out).edit.clamp == 0.5
    keys = text.split("[edit]\n")[1]
    config.write_text(config.read_text() + keys)
    both = load_settings(config).edit
    assert (both.layers, both.covariance_weight) == ((1, 2), chosen["covariance_weight"])


def test_none_allowed_is_said(call: Call, config: Path, tiny: Path) -> None:
    """Where every point breaks a limit, the code is 0, and warning, file and JSON say so."""
    text = config.read_text().replace("[model]", f'[model]\nbase = "{tiny}"\ndevice = "cpu"')
    text = text + SETTINGS.format(drop=1).replace('"off"', "1e-9") + EDIT
    config.write_text(text)
    out = config.parent / "tuned.toml"
    result = call(*TUNE, "--out", str(out))
    assert result.exit_code == 0
    assert "warning: none of the settings kept within the limits" in result.stderr
    assert "no: perplexity" in result.stdout
    assert "# Beware: none of the settings kept within the limits" in out.read_text(encoding="utf-8")
    assert load_settings(out).edit.clamp == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "no/such/tuned.toml"], "--out: there is no folder"),
        (["--layers", "8-4"], "--layers: '8-4' is neither a range such as 4-8 nor a list such as 4,6,8"),
        (["--layers", "0-99999999999"], "--layers: '0-99999999999' is neither a range"),
        (["--clamp", "0"], "0.0 is not in the range x>0"),
        (["--clamp", "inf"], "--clamp: a number is needed that is finite"),
        (["--edits", "3000"], "has only 2400 counterfactual edits"),
    ],
)
@pytest.mark.usefixtures("settle")
def test_what_is_refused(call: Call, words: list[str], message: str) -> None:
    """A wrong option ends with code 2 and one line that names it."""
    result = call("tune", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_model_s_name_can_not_leave_its_comment() -> None:
    """What is written about the model stays in one comment, whatever its folder is called."""
    point = dict.fromkeys(
        ("efficacy_success", "efficacy_accuracy", "paraphrase_success", "neighborhood_drop", "perplexity_ratio"),
        1.0,
    )
    result: dict[str, Any] = {
        "points": [point], "chosen": 0, "allowed": True, "edits": 1, "seed": 0,
        "machine": {"date": "2026-01-01", "model": 'a\n[store]\nurl = "x"\x00', "device": "cpu"},
        "edit": {"layers": [4, 5], "clamp": 1.0, "covariance_weight": 1e-07},
    }  # fmt: skip
    assert tomllib.loads(section(result)) == {"edit": result["edit"]}
