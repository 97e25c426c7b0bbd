"""`kbsync sync` and `kbsync run`, from a real endpoint to a published tiny model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kbsync.cli.report import counts_in_words
from kbsync.errors import StoreError
from kbsync.settings import share
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.store.query import run_sql
from tests.cli.conftest import Call, data, error, url_of

SETTINGS = """
[edit]
prefixes = 0
contexts = []
key_contexts = []
layers = [1, 2]
steps = 2
repair_rounds = 0
[covariance]
tokens = 400
chunk_tokens = 32
facts_share = 0
[evaluate]
neighbors = 1
drift_tokens = 64
said_tokens = 2
[trust]
settling = "0"
label_settling = "0"
references = "optional"
types = "off"
war_flips = 0
max_per_subject = 0
max_per_relation = 0
label_checks = false
[schedule]
poll_s = 0.1
"""
NO_GATE = "\n".join(
    f'{rule} = "off"'
    for rule in (
        "min_efficacy_success",
        "min_efficacy_accuracy",
        "min_paraphrase_success",
        "max_neighborhood_drop",
        "max_retired_favoured",
    )
)


@pytest.fixture
def wikidata(config: Path, tiny: Path) -> Iterator[EmbeddedWikidata]:
    """The demo's slice of Wikidata, served, and a config that reads it."""
    with EmbeddedWikidata([share("data/demo/wikidata.nt.gz")]) as served:
        text = config.read_text().replace("[model]", f'[model]\nbase = "{tiny}"\ndevice = "cpu"')
        text += SETTINGS + f'[source]\nendpoint = "{served.endpoint}"\n[serve]\nport = 0\n[gate]\n{NO_GATE}\n'
        config.write_text(text)
        yield served


def gate(config: Path, ratio: str) -> None:
    """Let the perplexity's growth be the one rule that counts."""
    with config.open("a") as file:
        file.write(f"max_perplexity_ratio = {ratio}\n")


def test_from_wikidata_to_a_published_model(call: Call, config: Path, wikidata: EmbeddedWikidata) -> None:
    """The first sync adopts, one after changes publishes, one without does nothing, all with code 0."""
    gate(config, "1e9")
    first = data(call("sync", "--json"))
    assert first["status"] == "unchanged"
    wikidata.apply(share("data/demo/window-1.ru.gz"))
    second = data(call("sync", "--json"))
    assert second["status"] == "published"
    assert Path(second["checkpoint"]).is_dir()
    assert {metric["phase"] for metric in second["metrics"]} == {"before", "after"}
    rules = ["perplexity_ratio", "finite", "read_back", "collapse"]
    assert [verdict["metric"] for verdict in second["verdicts"]] == rules
    assert data(call("checkpoint", "verify", "--rebuild", "--json"))["problems"] == []
    third = call("sync")
    assert third.exit_code == 0
    assert "run 3 unchanged: the live model holds the wanted facts already" in third.stdout
    assert "pull: " in third.stderr
    forced = call("sync", "--force")
    assert "run 4 published" in forced.stdout
    assert "✓ ratio ≤ 1e+09" in forced.stdout
    assert len(data(call("status", "--json"))["runs"]) == 4


def test_a_refusal(call: Call, config: Path, wikidata: EmbeddedWikidata) -> None:
    """Code 7, the verdicts printed, the report and the error in one JSON document, and nothing is live."""
    gate(config, "1e-9")
    wikidata_before = data(call("sync", "--json"))["status"]
    assert wikidata_before == "unchanged"
    wikidata.apply(share("data/demo/window-1.ru.gz"))
    refused = call("sync")
    assert refused.exit_code == 7
    assert "broken" in refused.stdout
    assert "perplexity_ratio" in refused.stdout
    assert refused.stderr.splitlines()[-1].startswith("kbsync: the gate refused run 2: perplexity_ratio ")
    again = call("sync", "--json", "--force")
    assert again.exit_code == 7
    document = json.loads(again.stdout)
    assert document["status"] == "rejected"
    assert document["error"]["kind"] == "GateRefused"
    assert document["verdicts"][0]["passed"] is False
    assert data(call("status", "--json"))["live"] is None


def test_nothing_to_watch(call: Call, config: Path) -> None:
    """A config without relations is told so, before anything is fetched."""
    config.write_text(config.read_text().replace('["P6"]', "[]"))
    assert "watch.relations is empty" in error(call("sync", "--json"))["message"]


def test_an_endpoint_that_is_down(call: Call, config: Path) -> None:
    """Code 3, and the run's row says what happened."""
    config.write_text(config.read_text() + '[source]\nendpoint = "http://127.0.0.1:9/sparql"\nattempts = 1\n')
    assert error(call("sync", "--json"))["exit_code"] == 3
    (run,) = data(call("status", "--json"))["runs"]
    assert run["status"] == "failed"


def test_counts_in_words() -> None:
    """Numbers by named outcome, seconds as durations, fractions as such."""
    counts: dict[str, Any] = {"stored": 12, "solve_s": 75.0, "residual": 0.25, "steps": 20.0}
    assert counts_in_words(counts) == "12 stored, solve 1 min 15 s, residual 0.25, 20 steps"
    assert counts_in_words({**counts, "condition_4": 1.5e6, "solve_residual_4": 1e-12}) == counts_in_words(counts)


def test_the_daemon_syncs_answers_triggers_and_ends(call: Call, config: Path, wikidata: EmbeddedWikidata) -> None:
    """`kbsync run` syncs at once, answers `trigger --wait`, logs JSON, and ends on Ctrl-C with code 0; with SIGTERM
    the tests of the loop end it."""
    del wikidata
    line = [sys.executable, "-m", "kbsync.cli.main", "-c", str(config), "run"]
    with _running(line) as daemon:
        url = url_of(config)
        _until(lambda: _runs(url) >= 1, daemon)
        answered = data(call("trigger", "--wait", "--timeout", "300", "--json"))
        assert answered["status"] == "unchanged"
        assert data(call("status", "--json"))["daemon"]["up"] is True
        assert "on this store already" in _second(line)
        daemon.send_signal(signal.SIGINT)
        out, err = daemon.communicate(timeout=300)
    assert daemon.returncode == 0
    assert out == ""
    events = [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")]
    assert "listening" in events, "the HTTP door is another thread's, and opens before or after the lead"
    of_daemon = [event for event in events if event != "listening"]
    assert of_daemon[0] == "daemon started"
    assert of_daemon[-1] == "daemon stopped"
    assert data(call("status", "--json"))["daemon"]["up"] is False


@contextmanager
def _running(line: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone afterwards, also when the test fails."""
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _second(line: list[str]) -> str:
    """What a second daemon on the same store says; it ends with 11."""
    second = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert second.returncode == 11
    return second.stderr


def _runs(url: str) -> int:
    """How many runs have ended."""
    try:
        return int(run_sql(url, "SELECT COUNT(ended_at) FROM runs").rows[0][0] or 0)
    except StoreError:  # there is no store yet, or not all of it
        return 0


def _until(done: Any, daemon: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not done():
        assert daemon.poll() is None, daemon.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
