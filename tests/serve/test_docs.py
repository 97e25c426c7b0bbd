"""docs/monitoring.md says what is there: every metric with its type and labels, and every page."""

from __future__ import annotations

import re
from pathlib import Path

from kbsync.serve.families import FAMILIES, PROCESS
from tests.serve.conftest import Client

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")


def test_every_metric_is_documented_as_it_is() -> None:
    """Name, type, labels and meaning, in the order of the table, and none that is not exposed."""
    rows = re.findall(r"^\| `((?:kbsync|process)_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [
        (one.name, one.kind, ", ".join(f"`{label}`" for label in one.labels), one.help)
        for one in (*FAMILIES, *PROCESS)
    ]


def test_every_page_is_documented(ask: Client) -> None:
    """The table of pages is the server's, by path and method."""
    rows = set(re.findall(r"^\| `(/[^`]*)` \| (GET|POST) \|", PAGE, re.MULTILINE))
    paths = ask("/openapi.json").data["paths"]
    served = {(path, method.upper()) for path, methods in paths.items() for method in methods}
    assert rows == served | {("/openapi.json", "GET")}
