"""`kbsync config` shows what is in force and where it comes from, and hides passwords."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kbsync.cli.config import EXAMPLES
from kbsync.cli.main import cli
from kbsync.cli.origins import effective
from kbsync.settings import Settings, load_settings
from tests.cli.conftest import Call, data, error


def test_where_each_value_comes_from(call: Call, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default, file or environment; the environment wins, in either of its spellings."""
    monkeypatch.setenv("KBSYNC_EDIT__STEPS", "7")
    monkeypatch.setenv("kbsync_watch__max_live", "5")
    monkeypatch.setenv("KBSYNC_EVALUATE", '{"neighbors": 2}')
    shown = data(call("config", "show", "--json"))
    assert shown["edit"]["steps"] == {"value": 7, "origin": "environment"}
    assert shown["watch"]["max_live"] == {"value": 5, "origin": "environment"}
    assert shown["watch"]["relations"] == {"value": ["P6"], "origin": str(config)}
    assert shown["evaluate"]["neighbors"] == {"value": 2, "origin": "environment"}
    assert shown["evaluate"]["drift_tokens"]["origin"] == "default"


def test_every_setting_is_shown(call: Call) -> None:
    """Nothing is left out, in JSON or in TOML."""
    shown = data(call("config", "show", "--json"))
    expected = {name: set(table) for name, table in Settings().model_dump().items()}
    assert {name: set(table) for name, table in shown.items()} == expected
    text = call("config", "show").stdout
    assert all(key in text for table in expected.values() for key in table)


@pytest.mark.parametrize(
    "more",
    [
        "",
        '[gate]\nmin_efficacy_success = "off"\n',
        '[schedule]\ncron = "15 3 * * *"\n',
        '[edit]\nlayers = [3, 4]\ncovariance_weight = 1e-7\n[source]\ncontact = "a \\"b\\" \\\\ ü \\u007f"\n',
        "[watch.priority]\nP6 = 10\n",
    ],
    ids=["plain", "a rule that is off", "cron", "odd values", "priorities"],
)
def test_the_output_is_a_file_with_the_same_settings(call: Call, config: Path, more: str) -> None:
    """What `config show` prints, saved and read again, gives equal settings."""
    config.write_text(config.read_text() + more)
    before = load_settings(config)
    again = config.parent / "again.toml"
    again.write_text(call("config", "show").stdout)
    assert load_settings(again) == before


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql+psycopg://me:se/cr:et@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql+psycopg://host/db?user=me&password=secret", "postgresql+psycopg://host/db?user=me&password=***"),
        ("postgresql+psycopg://:secret@host/db?sslpassword=secret&a=b", "postgresql+psycopg://:***@host/db?sslpassword=***&a=b"),
        ("postgresql+psycopg://me@host/db", "postgresql+psycopg://me@host/db"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)  # fmt: skip
def test_passwords_are_masked(url: str, shown: str) -> None:
    """Wherever a URL may hold a password, it isn't shown; the rest is."""
    settings = load_settings(overrides={"store": {"url": url}})
    values = {(one.section, one.key): one.value for one in effective(settings, None)}
    assert values["store", "url"] == shown
    assert "secret" not in str(values)


def test_an_endpoint_with_a_password_in_it_is_refused(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes from, and without showing it: the secret has a setting of its own."""
    monkeypatch.setenv("KBSYNC_SOURCE__ENDPOINT", "https://me:secret@localhost/sparql")
    for words in (["config", "show"], ["config", "show", "--json"]):
        result = call(*words)
        assert result.exit_code == 2
        assert "secret@" not in result.output
        assert "KBSYNC_SOURCE__TOKEN" in result.output


def test_a_wrong_value_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value out of range ends with 2 and names its key."""
    monkeypatch.setenv("KBSYNC_EDIT__STEPS", "0")
    assert "edit.steps" in error(call("config", "show", "--json"))["message"]


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_examples_are_the_shipped_files(name: str) -> None:
    """What is printed is the file, to the byte."""
    result = CliRunner().invoke(cli, ["config", "example", name])
    shipped = (Path(__file__).parents[2] / "config" / EXAMPLES[name]).read_text(encoding="utf-8")
    assert result.stdout == shipped
    assert not EXAMPLES[name].endswith(".toml") or tomllib.loads(result.stdout)


def test_the_unit_is_one(tmp_path: Path) -> None:
    """It notifies, is watched, and has time to stop; systemd itself finds nothing wrong with it."""
    text = CliRunner().invoke(cli, ["config", "example", "systemd"]).stdout
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].endswith("/kbsync run")
    assert int(service["TimeoutStopSec"]) > 10
    assert 0 < int(service["WatchdogSec"]) < Settings().schedule.stall_s
    tool = shutil.which("systemd-analyze")
    if tool is not None:
        file = tmp_path / "kbsync.service"
        file.write_text(text.replace(service["ExecStart"], "/bin/true"))
        done = subprocess.run([tool, "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, [line for line in done.stderr.splitlines() if "kbsync" in line]) == (0, [])


def test_no_other_example() -> None:
    """A name that isn't there ends with 2 and lists those that are."""
    result = CliRunner().invoke(cli, ["config", "example", "other"])
    assert result.exit_code == 2
    assert "wikidata" in result.stderr


def values_of(path: Path) -> dict[str, Any]:
    return {f"{one.section}.{one.key}": one for one in effective(load_settings(path), path)}


def test_order_is_the_classes(config: Path) -> None:
    """Settings come in the order in which they are documented."""
    expected = [f"{name}.{key}" for name, table in Settings().model_dump().items() for key in table]
    assert list(values_of(config)) == expected


def test_a_token_is_never_printed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as TOML, which can be loaded all the same, nor as JSON."""
    monkeypatch.setenv("KBSYNC_SOURCE__TOKEN", "hush")
    shown = call("config", "show").stdout
    assert "hush" not in shown
    assert "# token is set, and not shown  # environment" in shown
    assert "token" not in tomllib.loads(shown)["source"]
    printed = call("config", "show", "--json")
    assert "hush" not in printed.stdout
    assert data(printed)["source"]["token"]["origin"] == "environment"


def test_a_budget_that_is_off_is_printed_as_such(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output gives the same settings again."""
    monkeypatch.setenv("KBSYNC_SOURCE__SECONDS_PER_MINUTE", "off")
    assert tomllib.loads(call("config", "show").stdout)["source"]["seconds_per_minute"] == "off"
