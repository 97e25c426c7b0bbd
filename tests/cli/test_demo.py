"""`kbsync demo` shows what the demo found. (What it finds is the sync room's to prove: it takes minutes.)"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kbsync.cli.main import cli
from kbsync.evaluate.gate import Verdict
from kbsync.evaluate.metrics import Metric
from kbsync.facts import Phase
from kbsync.store.tables import RunStatus
from kbsync.sync import demo
from kbsync.sync.demo import Check, DemoResult, DemoRow
from kbsync.sync.run import Report
from tests.cli.conftest import Call, data

METRICS = [
    Metric("efficacy_success", Phase.BEFORE, 0.25, 80),
    Metric("efficacy_success", Phase.AFTER, 0.99, 80),
    Metric("perplexity", Phase.BEFORE, 20.0, 4000),
    Metric("perplexity", Phase.AFTER, 21.0, 4000),
    Metric("retired_favoured", Phase.AFTER, float("nan"), 0),
]
VERDICTS = [
    Verdict("efficacy_success", 0.99, "≥", 0.95, True, "fine"),
    Verdict("perplexity_ratio", 1.05, "≤", 1.04, False, "too much"),
]
PLACE = Path("c/sync-000003")
REPORT = Report(3, RunStatus.PUBLISHED, None, {"pull": {"stored": 3}}, METRICS, VERDICTS, PLACE, 61.0)
RESULT = DemoResult(
    reports=(REPORT,),
    rows=(
        DemoRow("Poland: head of government", "replaced", "Donald Tusk", "[b]who?\n", "Donald Tusk", "edited"),
        DemoRow("Chile: head of state", "retired", "Piñera", "Piñera", "nobody", "still favoured"),
    ),
    checks=(Check("newest objects", True), Check("same bits", True)),
    checkpoint=PLACE,
    store="sqlite:///kbsync.db",
    config=Path("var/demo/kbsync.toml"),
    seconds=125.0,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `run_demo` was called with; `result` is what it gives."""
    seen: dict[str, Any] = {"result": RESULT}

    def run_demo(folder: Path, progress: object, config: Path | None) -> DemoResult:
        seen.update(folder=folder, config=config)
        result: DemoResult = seen["result"]
        return result

    monkeypatch.setattr(demo, "run_demo", run_demo)
    return seen


def test_what_people_see(call: Call, asked: dict[str, Any]) -> None:
    """Facts with both models' words, metrics with thresholds, checks, places, and questions to ask next."""
    result = call("demo")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    assert "Poland: head of government replaced Donald Tusk [b]who?\\n Donald Tusk edited" in shown
    assert "efficacy success 0.25 0.99 ✓ ≥ 0.95 80" in shown
    assert "perplexity 20 21 ✗ ratio ≤ 1.04 4000" in shown
    assert "✓ newest objects" in shown
    assert "store sqlite:///kbsync.db" in shown
    assert "checkpoint c/sync-000003" in shown
    assert "2 min 5 s in all" in shown
    assert result.stdout.count("kbsync -c var/demo/kbsync.toml sql ") == 3
    assert asked["folder"] == Path("var/demo")


def test_queries_to_try_are_valid(told: Call, asked: dict[str, Any]) -> None:
    """Each query that the demo offers runs on a store with a past, and finds something."""
    assert len(demo.QUERIES) == 3
    for query in demo.QUERIES:
        assert data(told("sql", query, "--json"))["rows"]


def test_json(call: Call, config: Path, asked: dict[str, Any]) -> None:
    """The same for programs; what could not be measured is null. The folder and the config are handed on."""
    found = data(call("demo", "--folder", "elsewhere", "--json"))
    assert found["rows"][0]["synced_says"] == "Donald Tusk"
    assert found["checks"] == [{"text": "newest objects", "passed": True}, {"text": "same bits", "passed": True}]
    assert found["runs"][0]["metrics"][-1]["value"] is None
    assert (asked["folder"], asked["config"]) == (Path("elsewhere"), config)


def test_a_file_that_the_environment_names_is_not_the_demos(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], tmp_path: Path
) -> None:
    """In a container, or after `export KBSYNC_CONFIG=…`, it is there for other commands, or not there yet."""
    monkeypatch.setenv("KBSYNC_CONFIG", str(tmp_path / "none.toml"))
    assert CliRunner().invoke(cli, ["demo"]).exit_code == 0
    assert asked["config"] is None


def test_a_broken_promise(call: Call, asked: dict[str, Any]) -> None:
    """A check that fails ends with 1 and is named, in both forms."""
    asked["result"] = dataclasses.replace(RESULT, checks=(Check("same bits", False),))
    result = call("demo")
    assert result.exit_code == 1
    assert "✗ same bits" in result.stdout
    assert result.stderr.splitlines()[-1].endswith("not all of its checks passed: same bits")
    result = call("demo", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["checks"][0]["passed"] is False
