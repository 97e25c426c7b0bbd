"""The client against a server that misbehaves in every way that we know of."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from kbsync.errors import BadAnswer, EndpointDown, KbsyncError, SourceError, Stopped, Throttled
from kbsync.settings import SourceSettings
from kbsync.source.client import SparqlClient, Term, retry_after_s
from kbsync.source.embedded import EmbeddedWikidata
from tests.source.faults import GOOD, Answer, serve

Make = Callable[..., SourceSettings]
QUERY = "SELECT ?x WHERE { ?x ?y ?z }"


def test_terms_keep_kind_datatype_and_language(client: SparqlClient, wikidata: EmbeddedWikidata) -> None:
    """Each term of a real answer comes back with its kind, datatype and language; unbound ones are missing."""
    wikidata.update(
        'INSERT DATA { <urn:s> <urn:p> <urn:o> . <urn:s> <urn:q> "a \\"quoted\\" ☃"@en . <urn:s> <urn:r> 5 . '
        "<urn:s> <urn:t> _:b }"
    )
    rows = client.select("SELECT ?o ?none WHERE { <urn:s> ?p ?o } ORDER BY ?p")
    assert [row["o"] for row in rows[:3]] == [
        Term("uri", "urn:o"),
        Term("literal", 'a "quoted" ☃', None, "en"),
        Term("literal", "5", "http://www.w3.org/2001/XMLSchema#integer"),
    ]
    assert rows[3]["o"].kind == "bnode"
    assert all("none" not in row for row in rows)


def test_requests_are_posted_and_say_who_asks(settings_for: Make) -> None:
    """A query goes by POST, over 8 kB too, with our own User-Agent and one Accept type."""
    with serve(Answer()) as faults:
        client = SparqlClient(settings_for(faults.url, contact="who@example.org"))
        query = QUERY + " # " + "x" * 20_000
        client.select(query)
        assert faults.methods == ["POST"]
        assert faults.queries == [query]
        assert faults.fields == [["query"]]
        assert faults.headers[0]["user-agent"].startswith("kbsync/")
        assert "(who@example.org) SPARQLWrapper/" in faults.headers[0]["user-agent"]
        assert faults.headers[0]["accept"] == "application/sparql-results+json"


def test_counters_add_up(settings_for: Make) -> None:
    """The counters have every request, the bytes of good answers and the seconds that all of it took."""
    with serve(Answer(status=500), Answer(pause_s=0.1)) as faults:
        client = SparqlClient(settings_for(faults.url))
        client.select(QUERY)
        assert client.counters.requests == 2
        assert client.counters.bytes == len(GOOD)
        assert 0.1 <= client.counters.seconds < 5


def test_a_closed_port_is_endpoint_down_after_all_attempts(settings_for: Make) -> None:
    """Without a server the error is one line that names the URL, after as many tries as were allowed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/sparql"
    client = SparqlClient(settings_for(url, attempts=3))
    with pytest.raises(EndpointDown) as caught:
        client.select(QUERY)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert client.counters.requests == 3


def test_an_unknown_host_is_endpoint_down(settings_for: Make) -> None:
    """A name that does not resolve is EndpointDown too."""
    client = SparqlClient(
        settings_for("http://nowhere.invalid/sparql", attempts=1, allowed_hosts=["nowhere.invalid"])
    )
    with pytest.raises(EndpointDown, match=r"nowhere\.invalid"):
        client.select(QUERY)


def test_a_connection_that_is_hung_up_is_endpoint_down(settings_for: Make) -> None:
    """A server that closes the connection without an answer is EndpointDown, and is tried again."""
    with serve(Answer(hang_up=True)) as faults:
        client = SparqlClient(settings_for(faults.url, attempts=2))
        with pytest.raises(EndpointDown):
            client.select(QUERY)
        assert client.counters.requests == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_server_error_is_tried_again(settings_for: Make, status: int) -> None:
    """A 5xx and then an answer is an answer; a 5xx for ever is EndpointDown with the status."""
    with serve(Answer(status=status), Answer(status=status), Answer()) as faults:
        assert SparqlClient(settings_for(faults.url)).select(QUERY)
    with serve(Answer(status=status)) as faults:
        client = SparqlClient(settings_for(faults.url, attempts=3))
        with pytest.raises(EndpointDown, match=str(status)):
            client.select(QUERY)
        assert client.counters.requests == 3


def test_html_is_a_bad_answer_that_is_named(settings_for: Make) -> None:
    """A page in place of JSON is named as one, and is not asked for again."""
    page = Answer(body=b"<html>Wikidata Query Service</html>", content_type="text/html; charset=utf-8")
    with serve(page) as faults:
        client = SparqlClient(settings_for(faults.url))
        with pytest.raises(BadAnswer, match="HTML page"):
            client.select(QUERY)
        assert client.counters.requests == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/sparql-results+xml", None])
def test_a_foreign_content_type_is_a_bad_answer(settings_for: Make, kind: str | None) -> None:
    """Even whole SPARQL JSON is not trusted under another content type."""
    with serve(Answer(content_type=kind)) as faults, pytest.raises(BadAnswer, match=re.escape(kind or "unknown")):
        SparqlClient(settings_for(faults.url)).select(QUERY)


@pytest.mark.parametrize("cut", [1, len(GOOD) // 2, len(GOOD) - 1])
def test_a_cut_body_is_tried_again_and_then_bad(settings_for: Make, cut: int) -> None:
    """A body cut after status 200 is never an answer, wherever it is cut; a whole one that follows is."""
    half = Answer(body=GOOD[:cut])
    with serve(half, Answer()) as faults:
        assert SparqlClient(settings_for(faults.url)).select(QUERY) == [{"x": Term("literal", "1")}]
    with serve(half) as faults:
        client = SparqlClient(settings_for(faults.url, attempts=3))
        with pytest.raises(BadAnswer, match="cut short"):
            client.select(QUERY)
        assert client.counters.requests == 3


def test_a_body_with_a_stack_trace_at_its_end_is_bad(settings_for: Make) -> None:
    """Rows followed by an error text, as a server writes at its deadline, are not an answer."""
    body = GOOD[:-3] + b"\njava.util.concurrent.TimeoutException\n\tat com.bigdata.rdf\n"
    with serve(Answer(body=body)) as faults, pytest.raises(BadAnswer):
        SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)


def test_a_body_shorter_than_its_length_is_bad(settings_for: Make) -> None:
    """A connection that closes before Content-Length is a failure, also when what came is whole JSON."""
    with serve(Answer(claim_length=len(GOOD) + 10, body=GOOD[:-10])) as faults, pytest.raises(BadAnswer):
        SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"head": {}},
        {"results": {"bindings": []}},
        {"head": {}, "results": {"bindings": [{"x": "bare"}]}},
        {"head": {}, "results": {"bindings": [{"x": {"type": "triple", "value": "x"}}]}},
        {"head": {}, "results": {"bindings": [{"x": {"type": "uri", "value": 5}}]}},
        {"head": {}, "boolean": True},
        {"head": None, "results": {"bindings": []}},
    ],
)
def test_json_that_is_no_sparql_result_is_bad(settings_for: Make, answer: object) -> None:
    """Valid JSON of any other shape is a bad answer, not an empty one and not a traceback."""
    with serve(Answer(body=json.dumps(answer).encode())) as faults, pytest.raises(BadAnswer):
        SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)


def test_typed_literals_of_the_first_draft_are_literals(settings_for: Make) -> None:
    """Some servers still say `typed-literal`; a text that only looks like it stays as it is."""
    said = '{"type": "typed-literal"}'
    binding = {
        "x": {"type": "typed-literal", "value": "5", "datatype": "urn:number"},
        "y": {"value": said, "type": "literal"},
        "z": {"type": "literal", "value": "typed-literal"},
    }
    body = json.dumps({"head": {"vars": ["x", "y", "z"]}, "results": {"bindings": [binding]}}).encode()
    with serve(Answer(body=body)) as faults:
        assert SparqlClient(settings_for(faults.url)).select(QUERY) == [
            {
                "x": Term("literal", "5", "urn:number"),
                "y": Term("literal", said),
                "z": Term("literal", "typed-literal"),
            }
        ]


def test_bytes_that_are_not_utf8_are_bad(settings_for: Make) -> None:
    """A body in another encoding is a bad answer."""
    with serve(Answer(body=GOOD.replace(b"1", b"\xff\xfe"))) as faults, pytest.raises(BadAnswer):
        SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)


def test_an_answer_over_the_cap_is_refused_while_it_comes(settings_for: Make) -> None:
    """Reading stops at the cap: an endless body costs no more than the cap, and is not asked for again."""
    with serve(Answer(body=b" " * 5_000_000 + GOOD)) as faults:
        client = SparqlClient(settings_for(faults.url, max_answer_bytes=200_000))
        with pytest.raises(BadAnswer, match="200000 bytes"):
            client.select(QUERY)
        assert client.counters.requests == 1
    with serve(Answer()) as faults:
        assert SparqlClient(settings_for(faults.url, max_answer_bytes=len(GOOD))).select(QUERY)
        with pytest.raises(BadAnswer):
            SparqlClient(settings_for(faults.url, max_answer_bytes=len(GOOD) - 1)).select(QUERY)


def test_a_silent_server_is_endpoint_down_in_time(settings_for: Make) -> None:
    """A server that accepts and says nothing costs the timeout and no more."""
    with serve(Answer(pause_s=3.0)) as faults:
        client = SparqlClient(settings_for(faults.url, timeout_s=0.2, attempts=1))
        begun = time.monotonic()
        with pytest.raises(EndpointDown, match=r"0\.2 s"):
            client.select(QUERY)
        assert time.monotonic() - begun < 2


def test_a_dripping_server_is_endpoint_down_in_time(settings_for: Make) -> None:
    """A server that sends a byte now and then does not hold us past the timeout."""
    with serve(Answer(drip_s=0.05)) as faults:
        client = SparqlClient(settings_for(faults.url, timeout_s=0.3, attempts=1))
        begun = time.monotonic()
        with pytest.raises(EndpointDown, match=r"within 0\.3 s"):
            client.select(QUERY)
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_slept_through(settings_for: Make, status: int) -> None:
    """A refusal with Retry-After is waited for exactly as long as it says, then asked again."""
    slept: list[float] = []
    with serve(Answer(status=status, headers={"Retry-After": "7"}), Answer()) as faults:
        assert SparqlClient(settings_for(faults.url), sleep=slept.append).select(QUERY)
    assert slept == [7.0]


def test_retry_after_as_a_date_is_slept_through(settings_for: Make) -> None:
    """A Retry-After that is an HTTP date means the seconds until then."""
    slept: list[float] = []
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    with serve(Answer(status=429, headers={"Retry-After": when}), Answer()) as faults:
        SparqlClient(settings_for(faults.url), sleep=slept.append).select(QUERY)
    assert slept == [pytest.approx(89, abs=3)]


def test_a_429_without_a_time_is_given_a_minute(settings_for: Make) -> None:
    """Without Retry-After we wait the minute over which the public service counts."""
    slept: list[float] = []
    with serve(Answer(status=429), Answer()) as faults:
        SparqlClient(settings_for(faults.url), sleep=slept.append).select(QUERY)
    assert slept == [60.0]


def test_a_wait_that_is_too_long_is_raised_with_its_seconds(settings_for: Make) -> None:
    """Over max_wait_s nothing is slept; the error carries the seconds for the schedule."""
    slept: list[float] = []
    with serve(Answer(status=429, headers={"Retry-After": "301"})) as faults:
        client = SparqlClient(settings_for(faults.url, max_wait_s=300), sleep=slept.append)
        with pytest.raises(Throttled) as caught:
            client.select(QUERY)
    assert caught.value.retry_after_s == 301
    assert slept == []
    assert len(faults.methods) == 1


def test_refusals_without_end_are_throttled_after_all_attempts(settings_for: Make) -> None:
    """An endpoint that refuses every attempt is Throttled, and the last refusal is not slept through."""
    slept: list[float] = []
    with serve(Answer(status=429, headers={"Retry-After": "1"})) as faults:
        with pytest.raises(Throttled):
            SparqlClient(settings_for(faults.url, attempts=3), sleep=slept.append).select(QUERY)
        assert len(faults.methods) == 3
    assert slept == [1.0, 1.0]


def test_a_ban_is_throttled_at_once(settings_for: Make) -> None:
    """403 with a ban is never tried again, whatever the attempts; the end of the ban is named."""
    body = b"You have been banned until 2024-05-01T00:00:00Z, please respect throttling and retry-after headers."
    with serve(Answer(status=403, body=body, content_type="text/plain")) as faults:
        with pytest.raises(Throttled, match="banned this client until 2024-05-01T00:00:00Z"):
            SparqlClient(settings_for(faults.url)).select(QUERY)
        assert len(faults.methods) == 1


@pytest.mark.parametrize(("status", "said"), [(400, "MalformedQuery"), (401, "401"), (403, "403"), (404, "404")])
def test_a_refused_query_is_named_and_not_repeated(settings_for: Make, status: int, said: str) -> None:
    """A 4xx is our fault or the settings': one request, one line, nothing of the body's control characters."""
    body = b"MalformedQuery:\r\n\x1b[31m at line 1\n"
    with serve(Answer(status=status, body=body, content_type="text/plain")) as faults:
        with pytest.raises(SourceError, match=said) as caught:
            SparqlClient(settings_for(faults.url)).select(QUERY)
        assert len(faults.methods) == 1
    assert str(caught.value).isprintable()


def test_a_malformed_query_is_rejected_by_a_real_server(client: SparqlClient) -> None:
    """A real server's 400 reaches the user as one line."""
    with pytest.raises(SourceError, match="rejects the query") as caught:
        client.select("SELECT ?x WHERE { ?x ?y }")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_as_a_post(settings_for: Make, status: int) -> None:
    """The query goes on to the new path with its body, its method and its headers."""
    with serve(Answer(status=status, headers={"Location": "/moved"}), Answer()) as faults:
        assert SparqlClient(settings_for(faults.url, token="s3cret")).select(QUERY)
        assert faults.methods == ["POST", "POST"]
        assert faults.queries == [QUERY, QUERY]
        assert faults.paths == ["/sparql", "/moved"]
        assert {one["authorization"] for one in faults.headers} == {"Bearer s3cret"}
        assert len({one["user-agent"] for one in faults.headers}) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_refused(settings_for: Make, status: int) -> None:
    """Another port is another host: it is named, and never asked."""
    with serve(Answer()) as other, serve(Answer(status=status, headers={"Location": other.url})) as faults:
        with pytest.raises(SourceError, match="redirects to another host, 127") as caught:
            SparqlClient(settings_for(faults.url)).select(QUERY)
        assert other.methods == []
        assert len(faults.methods) == 1
    assert "\n" not in str(caught.value)


def test_a_redirect_without_an_end_is_named(settings_for: Make) -> None:
    """A loop ends in an error, after a few requests."""
    with serve(Answer(status=307, headers={"Location": "/sparql"})) as faults:
        with pytest.raises(SourceError, match="redirects without an end"):
            SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)
        assert len(faults.methods) == 4


def test_the_body_of_a_redirect_is_not_read(settings_for: Make) -> None:
    """A redirect that drips a body without an end costs nothing."""
    drip = Answer(status=302, headers={"Location": "/moved"}, body=b"x" * 10_000, drip_s=0.05)
    with serve(drip, Answer()) as faults:
        begun = time.monotonic()
        assert SparqlClient(settings_for(faults.url)).select(QUERY)
        assert time.monotonic() - begun < 5


def test_a_sleep_that_is_stopped_ends_the_query(settings_for: Make) -> None:
    """What the sleep raises passes through, so that a stop does not wait for the endpoint."""

    def stop(seconds: float) -> None:
        raise Stopped(f"asked to stop during a wait of {seconds:g} s")

    with serve(Answer(status=429, headers={"Retry-After": "200"})) as faults:
        client = SparqlClient(settings_for(faults.url), sleep=stop)
        with pytest.raises(Stopped):
            client.select(QUERY)
        assert client.counters.requests == 1


def test_proxies_are_not_asked_for_loopback(settings_for: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An http_proxy in the environment does not stand between us and a server on this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serve(Answer()) as faults:
        assert SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)
    with pytest.raises(EndpointDown):
        SparqlClient(
            settings_for("http://wikidata.invalid/sparql", attempts=1, allowed_hosts=["wikidata.invalid"])
        ).select(QUERY)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 12 ", 12.0),
        ("-5", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 09:28:30 +0200", 30.0),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    """Seconds and dates are read; what can't be read is no time at all; the past is zero."""
    assert retry_after_s(header, datetime(2015, 10, 21, 7, 28, tzinfo=UTC)) == seconds


def test_every_failure_is_one_of_ours(settings_for: Make) -> None:
    """Whatever a server does, the caller sees a KbsyncError of one line."""
    faults_by_name = {
        "status line": Answer(status=299, content_type="text/html"),
        "nested": Answer(body=b"[" * 200_000),
        "teapot": Answer(status=418, content_type=None, body=b"\x00\xff"),
        "no content": Answer(status=204, body=b"", content_type=None),
        "not modified": Answer(status=304, body=b"", content_type=None),
    }
    for name, answer in faults_by_name.items():
        with serve(answer) as faults, pytest.raises(KbsyncError) as caught:
            SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)
        assert "\n" not in str(caught.value), name
