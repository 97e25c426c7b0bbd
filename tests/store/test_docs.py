"""docs/sql.md says what is there: its queries run, and its names are the database's."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest
from sqlalchemy import inspect

from kbsync import facts
from kbsync.store import tables
from kbsync.store.connect import make_engine, parse_url
from kbsync.store.engine import Store
from kbsync.store.query import run_sql
from kbsync.store.schema import VERSION_TABLE
from tests.store.story import tell

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def documented(heading: str) -> dict[str, list[str]]:
    """The names in the first column of the table under `heading`, each with its list of columns."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|$", section, re.MULTILINE)
    return {name: columns.split(", ") for name, columns in found}


def test_page_has_queries() -> None:
    """The queries of the page are found, so that the next test runs some."""
    assert len(QUERIES) >= 10


@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_documented_query_answers(url: str, store: Store, sql: str) -> None:
    """Each query of the page runs as it stands on both databases, and finds rows in a store with a past."""
    tell(store)
    assert run_sql(url, sql).rows


def test_documented_columns_are_the_databases(url: str, store: Store) -> None:
    """Every view and table is on the page with exactly its columns, in their order, and no other is."""
    engine = make_engine(parse_url(url))
    with engine.connect() as connection:
        found = inspect(connection)
        views = {name: [c["name"] for c in found.get_columns(name)] for name in found.get_view_names()}
        held = {name: [c["name"] for c in found.get_columns(name)] for name in found.get_table_names()}
    engine.dispose()
    held.pop(VERSION_TABLE)
    assert documented("Views") == views
    assert documented("Tables") == held


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("runs.status", tables.RunStatus),
        ("edit_requests.status", tables.RequestStatus),
        ("checkpoints.status", tables.CheckpointStatus),
        ("publications.action", tables.Action),
        ("quarantines.kind", tables.KeptOut),
        ("changes.kind", facts.ChangeKind),
        ("divergences.kind", facts.DivergenceKind),
        ("triggers.wants", tables.Wants),
        ("statements.rank", facts.Rank),
        ("statements.refs", facts.References),
        ("trust_verdicts.way", tables.Way),
        ("facts.value_kind", facts.ValueKind),
        ("outcomes.phase", facts.Phase),
        ("outcomes.kind", facts.PromptKind),
    ],
)
def test_documented_words_are_the_programs(column: str, words: type[StrEnum]) -> None:
    """The words that a column may hold are those that the program writes."""
    assert f"| `{column}` | {', '.join(words)} |" in PAGE
