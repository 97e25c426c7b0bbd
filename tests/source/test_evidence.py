"""Evidence for the trust filter: references, classes and scores, from a real SPARQL server and real HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kbsync.facts import References
from kbsync.settings import SourceSettings, TrustSettings
from kbsync.source import evidence, parse, queries
from kbsync.source.client import SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from tests.source.triples import insert, statement

DERIVED = "<http://www.w3.org/ns/prov#wasDerivedFrom>"
REFERENCE = "<http://www.wikidata.org/prop/reference/"
INSTANCE, SUBCLASS = "<http://www.wikidata.org/prop/direct/P31>", "<http://www.wikidata.org/prop/direct/P279>"


def test_references_are_told_in_one_word(wikidata: EmbeddedWikidata, client: SparqlClient) -> None:
    """None, only imports, or at least one other; however many there are, a statement is one row."""
    for number, name in enumerate("abcd", 1):
        insert(wikidata, statement("Q1", name, "P6", f"wd:Q{10 + number}"))
    insert(wikidata, f"s:Q1-b {DERIVED} <urn:1> . <urn:1> {REFERENCE}P143> wd:Q328")
    insert(wikidata, f"s:Q1-c {DERIVED} <urn:1>, <urn:2> . <urn:2> {REFERENCE}P854> <https://example.org/>")
    insert(wikidata, f"s:Q1-d {DERIVED} <urn:2>, <urn:3> . <urn:3> {REFERENCE}P248> wd:Q36578")
    rows = client.select(queries.statements_of("P6", ["Q1"]))
    assert len(rows) == 4
    found = {one.id: one.references for one in parse.statements("P6", rows).statements}
    assert found == {
        "Q1-a": References.NONE, "Q1-b": References.IMPORTED,
        "Q1-c": References.SOURCED, "Q1-d": References.SOURCED,
    }  # fmt: skip


def test_classes_and_what_they_are_below(wikidata: EmbeddedWikidata, client: SparqlClient) -> None:
    """An item's classes, none for one without; a class is below itself and its superclasses, at any distance."""
    insert(wikidata, f"wd:Q1 {INSTANCE} wd:Q100, wd:Q200 . wd:Q100 {SUBCLASS} wd:Q101 . wd:Q101 {SUBCLASS} wd:Q5")
    assert evidence.fetch_classes(client, ["Q1", "Q2"]) == {"Q1": {"Q100", "Q200"}, "Q2": set()}
    assert evidence.fetch_roots(client, ["Q100", "Q200", "Q5"], ["Q5", "Q6"]) == {
        ("Q100", "Q5"): True, ("Q100", "Q6"): False, ("Q200", "Q5"): False, ("Q200", "Q6"): False,
        ("Q5", "Q5"): True, ("Q5", "Q6"): False,
    }  # fmt: skip
    assert evidence.fetch_roots(client, ["Q100"], []) == {}


@contextlib.contextmanager
def scorer(
    answer: Callable[[dict[str, object]], tuple[int, bytes]],
) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """A scoring service on loopback: its URL, and what it was asked."""
    asked: list[dict[str, object]] = []
    elsewhere = "http://scores.example.org/"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            status, said = answer(body)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", elsewhere)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/models/revertrisk:predict", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def said(score: object) -> bytes:
    """An answer in the service's form."""
    return json.dumps({"output": {"prediction": False, "probabilities": {"true": score, "false": 0.5}}}).encode()


def test_scores_are_asked_one_by_one() -> None:
    """The question and the answer have the service's form."""
    with scorer(lambda body: (200, said(0.97 if body["rev_id"] == 7 else 0.1))) as (url, asked):
        assert evidence.fetch_scores(TrustSettings(score_url=url), [7, 8]) == {7: 0.97, 8: 0.1}
    assert asked == [{"rev_id": 7, "lang": "wikidata"}, {"rev_id": 8, "lang": "wikidata"}]


@pytest.mark.parametrize(
    "broken",
    [(500, b""), (302, b""), (200, b"no JSON"), (200, b"{}"), *((200, said(one)) for one in ("0.5", 1.5, None))],
)
def test_an_answer_that_is_no_score_is_left_out(broken: tuple[int, bytes]) -> None:
    """Whatever is wrong with it; after three in a row nothing more is asked."""
    with scorer(lambda body: broken if body["rev_id"] != 3 else (200, said(0.5))) as (url, asked):
        assert evidence.fetch_scores(TrustSettings(score_url=url), [1, 2, 3, 4, 5, 6, 7]) == {3: 0.5}
    assert [one["rev_id"] for one in asked] == [1, 2, 3, 4, 5, 6]


def test_no_service_is_no_score(settings_for: Callable[..., SourceSettings]) -> None:
    """Nobody listens there: nothing is raised."""
    with scorer(lambda body: (200, said(0.5))) as (url, _):
        gone = url
    assert evidence.fetch_scores(TrustSettings(score_url=gone, score_timeout_s=0.5), [1, 2]) == {}
