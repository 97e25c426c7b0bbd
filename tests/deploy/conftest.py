"""The files of deploy/, parsed, and a server to try them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kbsync.serve.families import FAMILIES, PROCESS
from tests.deploy.promql import OVER_COUNTERS, Parser, Query, Wrong
from tests.serve.conftest import Client, ask, settings, told, told_template

__all__ = ["Client", "ask", "settings", "told", "told_template"]

DEPLOY = Path(__file__).parents[2] / "deploy"
KINDS = {one.name: one.kind for one in (*FAMILIES, *PROCESS)}
LABELS = {one.name: one.labels for one in (*FAMILIES, *PROCESS)}


def query(text: str) -> Query:
    """A query over kbsync's metrics. Raises Wrong for metrics and labels that there are not, and for counters that
    are not taken as a rate, or gauges that are."""
    found = Parser(text, LABELS).parse()
    for one in found.used:
        counted = one.function in OVER_COUNTERS
        if counted != (KINDS[one.metric] == "counter"):
            raise Wrong(f"{one.metric} is a {KINDS[one.metric]}")
        if counted and not one.ranged:
            raise Wrong(f"{one.function} of {one.metric} needs a range")
    return found


@pytest.fixture(scope="session")
def alerts() -> list[dict[str, Any]]:
    """Every rule of alerts.yml."""
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="session")
def dashboard() -> dict[str, Any]:
    """dashboard.json."""
    found: dict[str, Any] = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """compose.yml."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
    return found
