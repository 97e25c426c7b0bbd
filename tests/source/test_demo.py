"""The demo slice does what its table says, seen through the pulls."""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kbsync.settings import SourceSettings, share
from kbsync.source.client import SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.queries import ENTITY
from tests.source.mirror import Mirror

DEMO = share("data/demo")
Expected = tuple[str, str, str, str, str]  # subject, property, old, new, kind


@pytest.fixture(scope="module")
def demo() -> Iterator[EmbeddedWikidata]:
    """The demo's server at its base state."""
    with EmbeddedWikidata([DEMO / "wikidata.nt.gz"]) as server:
        yield server


def table(window: str) -> list[dict[str, str]]:
    """The rows of expected.tsv for one window."""
    with (DEMO / "expected.tsv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row for row in rows if row["window"] == window]


def test_the_demo_windows_bring_the_changes_of_the_table(
    demo: EmbeddedWikidata, settings_for: Callable[..., SourceSettings]
) -> None:
    """Each window's changes are exactly the rows of expected.tsv that change a truthy value, and labelled."""
    settings = settings_for(demo.endpoint, page_size=2000, overlap_s=1200)
    client = SparqlClient(settings)
    relations = sorted({row["property"] for window in "12" for row in table(window)} - {""})
    mirrors = {relation: Mirror(relation) for relation in relations}
    for mirror in mirrors.values():
        mirror.pull(client, settings)
    for window in "12":
        demo.apply(DEMO / f"window-{window}.ru.gz")
        changes = [change for mirror in mirrors.values() for change in mirror.pull(client, settings)]
        found: set[Expected] = {
            (
                change.subject,
                change.relation,
                change.old.text if change.old else "",
                change.new.text if change.new else "",
                change.kind.value,
            )
            for change in changes
        }
        rows = [row for row in table(window) if row["kind"] not in ("touched", "ended")]
        wanted = {tuple(row[k] for k in ("subject", "property", "old", "new", "kind")) for row in rows}
        assert found == wanted
        assert len(changes) == len(rows)
        for row in rows:
            labels = mirrors[row["property"]].labels
            for side in ("old", "new"):
                assert not row[side] or labels[row[side]].label == row[f"{side}_label"]
            assert labels[row["subject"]].label == row["label"]


def test_the_demo_is_as_large_and_as_varied_as_its_page_says() -> None:
    """Window 1 has 76 edits to make and 30 that change nothing; no relation has over a third of them."""
    kinds = Counter(row["kind"] for row in table("1"))
    assert kinds == {"replaced": 70, "added": 6, "retired": 8, "ended": 1, "touched": 30}
    edits = [row for row in table("1") if row["kind"] in ("replaced", "added")]
    assert max(Counter(row["property"] for row in edits).values()) <= 25
    assert {row["style"] for row in edits} >= {"end+add", "replace", "remove+add", "add"}
    first = {(row["subject"], row["property"], row["new"]) for row in edits}
    again = [row for row in table("2") if (row["subject"], row["property"], row["old"]) in first]
    assert Counter(row["kind"] for row in again) == {"replaced": 19, "retired": 5, "ended": 2}
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 3_000_000


def test_edits_lie_inside_their_window(demo: EmbeddedWikidata) -> None:
    """Every time that a window writes is inside it, and the lag triple moves to its end."""
    begin = "2021-12-30T00:00:00Z"
    for window in "12":
        text = gzip.decompress(Path(DEMO / f"window-{window}.ru.gz").read_bytes()).decode()
        insert = text.partition("INSERT DATA")[2]
        times = re.findall(
            rf'^<({ENTITY}Q\d+|http://www\.wikidata\.org)> <[^>]*dateModified> "([^"]+)"', insert, re.M
        )
        (end,) = (time for subject, time in times if not subject.startswith(ENTITY))
        edited = [time for subject, time in times if subject.startswith(ENTITY)]
        assert edited
        assert all(begin < time < end for time in edited)
        begin = end
