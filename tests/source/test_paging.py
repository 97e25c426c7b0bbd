"""Pages that shrink when the endpoint runs out of time, against a real server behind a proxy of faults."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from kbsync.errors import BadAnswer, EndpointDown
from kbsync.settings import SourceSettings
from kbsync.source import pull
from kbsync.source.client import SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.guard import Guard
from kbsync.source.picking import PAGES
from kbsync.source.reader import fetch_labels
from tests.source.faults import JSON_TYPE, Answer, serve
from tests.source.mirror import Mirror
from tests.source.triples import PREFIXES, lag, stamp, statement

Make = Callable[..., SourceSettings]
T0 = datetime(2024, 1, 1, tzinfo=UTC)
ITEMS = 230


@pytest.fixture
def filled(wikidata: EmbeddedWikidata) -> EmbeddedWikidata:
    """Items Q1000 … with a value each."""
    rows = "".join(
        statement(f"Q{n}", "A", "P6", f"wd:Q{n + 5000}")
        + f"wd:Q{n} schema:version 1 ; schema:dateModified {stamp(T0)} . "
        for n in range(1000, 1000 + ITEMS)
    )
    wikidata.update(f"{PREFIXES}INSERT DATA {{ {rows} }}")
    lag(wikidata, T0)
    return wikidata


def size_of(query: str) -> int:
    """How much a query asks for: the pages that it picks subjects for, or its ids."""
    limit = re.search(r"LIMIT (\d+)", query)
    return int(limit[1]) // PAGES if limit else len(re.findall(r"wd:Q\d+", query))


def through(server: EmbeddedWikidata, fault: Answer, most: int) -> Callable[[str], Answer]:
    """Answers of the real server, but a fault for whatever asks for more than `most`."""

    def answer(query: str) -> Answer:
        if size_of(query) > most:
            return fault
        request = urllib.request.Request(
            server.endpoint,
            data=urllib.parse.urlencode({"query": query}).encode(),
            headers={"Accept": "application/sparql-results+json"},
        )
        with urllib.request.urlopen(request) as response:
            body = response.read()
        assert json.loads(body)
        return Answer(body=body, content_type=JSON_TYPE)

    return answer


CUT = {
    "timeout": Answer(status=504, body=b"gateway timeout"),
    "timeout in 500": Answer(status=500, body=b"java.util.concurrent.TimeoutException: query timeout"),
    "cut": Answer(body=b'{"head":{"vars":["x"]},"results":{"bindings":[{"x"'),
}


@pytest.mark.parametrize("fault", CUT)
def test_a_page_that_is_too_large_is_halved_until_it_fits(
    filled: EmbeddedWikidata, settings_for: Make, fault: str
) -> None:
    """Each size fails once, is not tried again, and in the end everything is there, once."""
    with serve(through(filled, CUT[fault], 60)) as faults:
        settings = settings_for(faults.url, page_size=200)
        client = SparqlClient(settings)
        mirror = Mirror("P6")
        mirror.pull(client, settings)
        assert len(mirror.facts()) == ITEMS
        assert mirror.counts["duplicate"] == 0
        sizes = [size_of(query) for query in faults.queries if "LIMIT" in query]
        assert sizes[:3] == [200, 100, 50]
        assert sorted(sizes[:3], reverse=True) == sizes[:3]
        assert max(sizes[3:]) <= 77


def test_the_size_is_remembered_and_grows_again(filled: EmbeddedWikidata, settings_for: Make) -> None:
    """The next pull begins with the size that worked; after enough good pages it is the settings' again."""
    kept = []
    with serve(through(filled, CUT["cut"], 60)) as faults:
        settings = settings_for(faults.url, page_size=200)
        guard = Guard(settings, None, kept.append)
        Mirror("P6").pull(SparqlClient(settings, guard=guard), settings)
        guard.close()
    assert kept[-1].page_size is not None
    assert kept[-1].page_size < 100
    with serve(through(filled, CUT["cut"], 10_000)) as faults:
        settings = settings_for(faults.url, page_size=200)
        guard = Guard(settings, kept[-1], kept.append)
        client = SparqlClient(settings, guard=guard)
        Mirror("P6").pull(client, settings)
        assert next(size_of(query) for query in faults.queries if "LIMIT" in query) < 100
        for _ in range(100):
            guard.page_was_read()
        assert guard.page_size == 200
        assert guard.state.page_size is None


def test_below_the_floor_the_fault_is_raised(filled: EmbeddedWikidata, settings_for: Make) -> None:
    """An endpoint that can't even answer the smallest page fails the pull, and the cursor stays."""
    for fault, error in (("cut", BadAnswer), ("timeout", EndpointDown)):
        with serve(through(filled, CUT[fault], 10)) as faults:
            settings = settings_for(faults.url, page_size=100, attempts=2)
            mirror = Mirror("P6")
            with pytest.raises(error):
                mirror.pull(SparqlClient(settings), settings)
            assert mirror.cursor is None
            assert [size_of(query) for query in faults.queries if "LIMIT" in query] == [100, 50, 25, 25]


def test_a_small_page_size_of_the_settings_is_its_own_floor(filled: EmbeddedWikidata, settings_for: Make) -> None:
    """`page_size = 5` is never raised to the floor."""
    with serve(CUT["cut"]) as faults:
        settings = settings_for(faults.url, page_size=5, attempts=2)
        pages = pull.first_pull(SparqlClient(settings), "P6", T0, settings)
        with pytest.raises(BadAnswer):
            next(pages)
        assert [size_of(query) for query in faults.queries] == [5, 5]


def test_ids_are_asked_for_in_smaller_chunks(filled: EmbeddedWikidata, settings_for: Make) -> None:
    """A list of ids is cut as pages are: every id is asked for and answered once."""
    with serve(through(filled, CUT["timeout"], 60)) as faults:
        settings = settings_for(faults.url, page_size=1000)
        ids = [f"Q{n}" for n in range(1000, 1000 + ITEMS)]
        found = fetch_labels(SparqlClient(settings), ids, "en")
        assert list(found) == ids
        assert all(item.revision == 1 for item in found.values())
        answered = [one for query in faults.queries if size_of(query) <= 60 for one in ids_of(query)]
        assert sorted(answered) == sorted(ids)


def ids_of(query: str) -> Iterator[str]:
    """The ids that a query names."""
    return (match[3:] for match in re.findall(r"wd:Q\d+", query))
