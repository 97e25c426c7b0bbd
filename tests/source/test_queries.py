"""The queries: what gets into them, and that only the standard is used."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdflib.plugins.sparql import prepareQuery

from kbsync.source import queries
from kbsync.source.client import SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from tests.source.triples import insert

T = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
ALL = {
    "lag": queries.lag(),
    "newest": queries.newest("P6"),
    "next_subjects": queries.next_subjects("P6", "http://www.wikidata.org/entity/Q5", 100),
    "statements_of": queries.statements_of("P6", ["Q1", "Q2"]),
    "changed": queries.changed("P6", (T, "http://www.wikidata.org/entity/Q5"), T, 100),
    "versions": queries.versions("P6", ["Q1"]),
    "totals": queries.totals("P6"),
    "totals of some": queries.totals("P6", "?item wdt:P17 wd:Q142 ."),
    "labels": queries.labels(["Q1", "P6"], "en"),
    "redirects": queries.redirects(["Q1"]),
    "deleted": queries.deleted(["Q1-0000-AB", "q42-1"]),
}


@pytest.mark.parametrize("name", ALL)
def test_queries_are_standard_sparql(name: str, client: SparqlClient) -> None:
    """A second, strict parser accepts each query, a server runs it, and nothing of one engine alone is in it."""
    query = ALL[name]
    prepareQuery(query)
    client.select(query)
    assert not re.search(r"hint:|bd:|SERVICE|OFFSET|mwapi|\bAS OF\b", query)


@pytest.mark.parametrize("bad", ["", "Q1 } DROP ALL #", "q1", "Q01", "Q", "wd:Q1", "Q1\n", "Q１", "P6> <urn:x"])
def test_text_that_is_no_id_never_gets_into_a_query(bad: str) -> None:
    """Every builder refuses an item or property that is not an id."""
    builders: tuple[Callable[[], str], ...] = (
        lambda: queries.statements_of("P6", [bad]),
        lambda: queries.versions("P6", ["Q1", bad]),
        lambda: queries.totals(bad),
        lambda: queries.labels([bad], "en"),
        lambda: queries.redirects([bad]),
        lambda: queries.deleted([f"{bad}\\>"]),
        lambda: queries.next_subjects(bad, "", 10),
        lambda: queries.changed(bad, (T, ""), T, 10),
        lambda: queries.newest(bad),
    )
    for build in builders:
        with pytest.raises(ValueError, match="not a"):
            build()


def test_an_item_is_not_a_property() -> None:
    """A relation must be a P id."""
    with pytest.raises(ValueError, match="Q6"):
        queries.next_subjects("Q6", "", 10)


@given(st.text(max_size=40))
def test_a_key_from_outside_stays_a_literal(key: str) -> None:
    """Whatever text an endpoint names an item by, the next page's query has it as one string literal."""
    query = queries.next_subjects("P6", "x" + key, 5)
    literal = re.search(r'STR\(\?item\) > ("(?:[^"\\\n\r]|\\.)*")\) \}', query)
    assert literal is not None
    inner = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), literal[1][1:-1])
    assert inner == "x" + key


def test_times_are_written_in_utc() -> None:
    """A time in another zone is the same moment in UTC."""
    elsewhere = T.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert queries.changed("P6", (elsewhere, ""), elsewhere, 1) == queries.changed("P6", (T, ""), T, 1)
    assert '"2024-01-02T03:04:05Z"^^xsd:dateTime' in queries.changed("P6", (T, ""), T, 1)


def test_the_window_is_half_open(client: SparqlClient, wikidata: EmbeddedWikidata) -> None:
    """The lower key is excluded with its item and included with a later one; the upper time is excluded."""
    for number in (1, 2, 3):
        insert(
            wikidata,
            f'wd:Q{number} p:P6 s:Q{number}-a ; schema:dateModified "2024-01-02T03:04:05Z"^^xsd:dateTime . ',
        )
    insert(wikidata, 'wd:Q4 p:P6 s:Q4-a ; schema:dateModified "2024-01-02T03:04:06Z"^^xsd:dateTime . ')

    def found(after: str, until: datetime) -> list[str]:
        rows = client.select(queries.changed("P6", (T, queries.ENTITY + after), until, 10))
        return [row["item"].value.removeprefix(queries.ENTITY) for row in rows]

    assert found("Q1", T + timedelta(seconds=1)) == ["Q2", "Q3"]
    assert found("Q3", T + timedelta(seconds=2)) == ["Q4"]
    assert found("", T) == []
