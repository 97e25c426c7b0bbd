"""Bodies and headers: gzip and its bombs, encodings, credentials."""

from __future__ import annotations

import base64
import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from kbsync.errors import BadAnswer, ConfigError, SourceError
from kbsync.settings import SourceSettings
from kbsync.source.client import SparqlClient
from kbsync.source.transport import place_of
from tests.source.faults import GOOD, Answer, serve

Make = Callable[..., SourceSettings]
QUERY = "SELECT ?x WHERE { ?x ?y ?z }"
PACKED = gzip.compress(GOOD)


def packed(body: bytes, encoding: str = "gzip") -> Answer:
    """An answer in an encoding."""
    return Answer(body=body, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_gzip_is_asked_for_and_decoded(settings_for: Make, encoding: str) -> None:
    """A gzipped answer is the answer; nothing else is offered to the server."""
    with serve(packed(PACKED, encoding)) as faults:
        client = SparqlClient(settings_for(faults.url))
        assert client.select(QUERY)[0]["x"].value == "1"
        assert client.counters.bytes == len(GOOD)
        assert faults.headers[0]["accept-encoding"] == "gzip"


def test_a_gzip_bomb_is_refused_at_the_cap(settings_for: Make) -> None:
    """60 kB that decode to 60 MB cost no more memory than the cap, and one request."""
    bomb = gzip.compress(b" " * 60_000_000, compresslevel=6)
    assert len(bomb) < 80_000
    with serve(packed(bomb)) as faults:
        client = SparqlClient(settings_for(faults.url, max_answer_bytes=1_000_000))
        tracemalloc.start()
        with pytest.raises(BadAnswer, match="over 1000000 bytes"):
            client.select(QUERY)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(faults.methods) == 1
    assert peak < 5_000_000


@pytest.mark.parametrize(
    "body",
    [PACKED[: len(PACKED) // 2], PACKED[:-1], PACKED + b"more", GOOD, b"", PACKED[:20] + b"\xff" * 20],
    ids=["half", "no checksum", "goes on", "not gzip", "nothing", "damaged"],
)
def test_a_gzip_stream_that_is_not_whole_is_tried_again(settings_for: Make, body: bytes) -> None:
    """It is a cut answer like any other, never an empty or a shorter one."""
    with serve(packed(body), packed(PACKED)) as faults:
        assert SparqlClient(settings_for(faults.url)).select(QUERY)
        assert len(faults.methods) == 2
    with serve(packed(body)) as faults, pytest.raises(BadAnswer):
        SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip", "zstd"])
def test_an_encoding_that_was_not_asked_for_is_refused(settings_for: Make, encoding: str) -> None:
    """Only what was offered is decoded."""
    with serve(packed(zlib.compress(GOOD), encoding)) as faults, pytest.raises(BadAnswer, match="not asked for"):
        SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)


def test_a_stack_trace_after_half_an_answer_is_a_failure(settings_for: Make) -> None:
    """The public service writes its error into a body that began with status 200."""
    body = GOOD[:60] + b"SPARQL-QUERY: queryStr=...\njava.util.concurrent.TimeoutException\n\tat com.bigdata"
    for text in (body, GOOD + b"\njava.util.concurrent.TimeoutException"):
        with serve(Answer(body=text)) as faults, pytest.raises(BadAnswer, match="cut short"):
            SparqlClient(settings_for(faults.url, attempts=1)).select(QUERY)


def test_a_token_goes_to_the_endpoint_and_nowhere_else(settings_for: Make, tmp_path: Path) -> None:
    """Bearer by itself, basic with a user; from the environment's value or a file; absent without one."""
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    basic = "Basic " + base64.b64encode(b"me:s3cret").decode()
    cases: list[tuple[dict[str, object], str | None]] = [
        ({}, None),
        ({"token": "s3cret"}, "Bearer s3cret"),
        ({"token_file": file}, "Bearer s3cret"),
        ({"token_file": file, "user": "me"}, basic),
    ]
    for changes, expected in cases:
        with serve(Answer()) as faults:
            SparqlClient(settings_for(faults.url, **changes)).select(QUERY)
            assert faults.headers[0].get("authorization") == expected


def test_a_secret_that_can_not_be_sent_is_a_config_error(settings_for: Make, tmp_path: Path) -> None:
    """A missing file, an empty one, and one with a line break are named; the secret is not."""
    empty = tmp_path / "empty"
    empty.write_text("\n")
    lines = tmp_path / "lines"
    lines.write_text("hush\nX-Injected: yes")
    for file in (tmp_path / "none", empty, lines):
        with pytest.raises(ConfigError) as caught:
            SparqlClient(settings_for("http://127.0.0.1:9/", token_file=file))
        assert "hush" not in str(caught.value)


def test_401_says_what_is_missing(settings_for: Make) -> None:
    """Without a secret the error names the variable; with one it does not show it."""
    with serve(Answer(status=401, body=b"who are you?")) as faults:
        with pytest.raises(SourceError, match="KBSYNC_SOURCE__TOKEN"):
            SparqlClient(settings_for(faults.url)).select(QUERY)
        with pytest.raises(SourceError) as caught:
            SparqlClient(settings_for(faults.url, token="s3cret")).select(QUERY)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://query.wikidata.org/sparql", "query.wikidata.org"),
        ("http://Localhost:7878/query?x=1", "localhost:7878"),
        ("http://me:secret@host:1/", "host:1"),
    ],
)
def test_a_place_is_host_and_port(url: str, place: str) -> None:
    """No path, and never a password."""
    assert place_of(url) == place
