"""docs/gate.md explains every rule of the gate, with its real default, and invents no figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kbsync.evaluate.gate import COLLAPSE, FINITE, READ_BACK, judge
from kbsync.evaluate.metrics import Metric
from kbsync.facts import Phase
from kbsync.settings import GateSettings
from kbsync.sync import readback

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "gate.md").read_text(encoding="utf-8")
TABLE = {
    name: (default, metric)
    for name, default, metric in re.findall(r"^\| `(\w+)` \| `([^`]+)` \| `(\w+)` \| [a-z]", PAGE, re.MULTILINE)
}
RULES = [name for name in GateSettings.model_fields if name != "bisect_rebuilds"]  # docs/quarantine.md's
FIGURE = re.compile(r"(?<![\d.])\d\.\d{2,}(?!\d)")


@pytest.mark.parametrize("name", RULES)
def test_every_setting_is_explained_with_its_real_default(name: str) -> None:
    """A row of the table and a section of its own, which names the default, too."""
    default = str(GateSettings.model_fields[name].default)
    assert TABLE[name][0] == default
    section = PAGE.split(f"\n### `{name}`\n")[1].split("\n#")[0]
    assert f"default of `{default}`" in section
    assert len(section) > 200


def test_the_table_has_no_others() -> None:
    """A setting that is gone is gone from the page."""
    assert set(TABLE) == set(RULES)


def test_the_bound_of_the_bisection_is_the_real_one() -> None:
    """It is no rule, and is explained where the bisection is."""
    page = (DOCS / "quarantine.md").read_text(encoding="utf-8")
    assert f"bounds them for each run: {GateSettings().bisect_rebuilds} is enough" in page


def test_the_metrics_are_those_of_the_verdicts() -> None:
    """Each rule is found in the ledger by the name that the page gives it."""
    names = ("efficacy_success", "efficacy_accuracy", "paraphrase_success", "neighborhood_success", "perplexity")
    metrics = [Metric(name, phase, 1.0, 1) for name in names for phase in Phase]
    given = [verdict.metric for verdict in judge(metrics, GateSettings())]
    assert [metric for _, metric in TABLE.values()] == given
    for rule in (FINITE, READ_BACK, COLLAPSE):
        assert f"\n| `{rule}` |" in PAGE
        assert f"\n**`{rule}`.**" in PAGE


def test_the_probes_are_those_that_are_asked() -> None:
    """How many prompts, how much text, and how near the answers must be."""
    words = {5: "five", 32: "32"}
    said = f"{words[readback.PROMPTS]} of the live set's rewrite prompts and {words[readback.TEXT_TOKENS]} tokens"
    assert said in PAGE
    assert readback.TOLERANCE == 2**-7
    assert "within 2⁻⁷ of the largest logit" in PAGE
    assert readback.COLLAPSED == 0.9
    assert "nine places in ten or more" in PAGE


def test_every_figure_was_measured() -> None:
    """What the reasons rest on stands in the pages that say how it was measured; the rest are settings."""
    measured = "".join((DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("quality", "performance"))
    settings = {str(field.default) for field in GateSettings.model_fields.values()}
    examples = "".join(re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    prose = PAGE.replace(examples, "")
    figures = set(FIGURE.findall(re.sub(r"`[^`\n]*`", "", prose)))
    assert len(figures) > 15
    assert {one for one in figures if one not in measured and one not in settings} == set()
