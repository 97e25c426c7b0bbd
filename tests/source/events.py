"""A mutation stream on loopback: recorded-style events, replayed with whatever goes wrong on the way."""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_UPDATE = re.compile(r"(DELETE|INSERT) DATA \{\n(.*?)\n\}", re.DOTALL)
_SUBJECT = re.compile(r"^<http://www\.wikidata\.org/entity/(?:statement/)?([Qq]\d+)[->]")
_VERSION = re.compile(r'/entity/(Q\d+)> <http://schema\.org/version> "(\d+)"')


def event(
    item: str, revision: int, operation: str = "diff", dt: str = "2024-01-01T00:00:00Z", *, added: str = "",
    deleted: str = "", sequence: int = 0, length: int = 1, domain: str = "www.wikidata.org",
) -> str:  # fmt: skip
    """One event as the public stream has it."""
    body: dict[str, object] = {
        "$schema": "/mediawiki/wikibase/entity/rdf_change/2.0.0",
        "dt": dt,
        "entity_id": item,
        "rev_id": revision,
        "operation": operation,
        "sequence": sequence,
        "sequence_length": length,
        "meta": {
            "domain": domain,
            "dt": dt,
            "id": f"{item}-{revision}-{sequence}",
            "request_id": "r",
            "stream": "s",
        },
    }
    for name, text in (("rdf_added_data", added), ("rdf_deleted_data", deleted)):
        if text:
            body[name] = {"data": text, "mime_type": "text/turtle"}
    return json.dumps(body)


def events_of(update: str, dt: str) -> list[str]:
    """The events behind a file of SPARQL updates: a diff for each item, large ones in chunks."""
    lines: dict[str, dict[str, list[str]]] = {}
    revisions: dict[str, int] = {}
    for kind, body in _UPDATE.findall(update):
        for line in body.splitlines():
            found = _SUBJECT.match(line)
            if found is None:
                continue
            lines.setdefault(found[1].upper(), {"DELETE": [], "INSERT": []})[kind].append(line)
            version = _VERSION.search(line)
            if version is not None and kind == "INSERT":
                revisions[version[1]] = int(version[2])
    made = []
    for item, sides in lines.items():
        pairs = [("deleted", line) for line in sides["DELETE"]] + [("added", line) for line in sides["INSERT"]]
        chunks = [pairs[i : i + 8] for i in range(0, len(pairs), 8)]
        for number, chunk in enumerate(chunks):
            text = {side: "\n".join(line for s, line in chunk if s == side) for side in ("added", "deleted")}
            made.append(event(item, revisions[item], "diff", dt, sequence=number, length=len(chunks), **text))
    return made


def disordered(events: Iterable[str], seed: int) -> list[str]:
    """The same events late, early and twice, with canaries and noise in between."""
    rng = random.Random(seed)
    mixed = list(events)
    mixed += rng.sample(mixed, len(mixed) // 5)
    rng.shuffle(mixed)
    noise = [
        event("Q1", 1, domain="canary"),
        event("P6", 5),
        event("L7", 5),
        "{",
        event("Q999999999", 3, added="x"),
    ]
    for one in noise * 3:
        mixed.insert(rng.randrange(len(mixed) + 1), one)
    return mixed


@dataclass
class Stream:
    """A running server. `events` may grow. The first connections end as `script` says: after so many events, or
    with a status; later ones stay open until there is nothing more to send, for `linger_s`."""

    url: str
    events: list[str]
    script: list[int] = field(default_factory=list)
    linger_s: float = 0.0
    asked: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def _handler(stream: Stream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            last = self.headers.get("Last-Event-ID")
            stream.asked.append(last)
            stream.paths.append(self.path)
            step = stream.script.pop(0) if stream.script else None
            with contextlib.suppress(OSError):
                if step is not None and step >= 300:
                    self.send_response(step)
                    self.send_header("Content-Length", "0")
                    if step == 429:
                        self.send_header("Retry-After", "1")
                    self.end_headers()
                    return
                self._stream(int(json.loads(last)[0]["offset"]) + 1 if last else 0, step)

        def _stream(self, number: int, most: int | None) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.end_headers()
            self.wfile.write(b":ok\n\n")
            end = None if most is None else number + most
            until = time.monotonic() + stream.linger_s
            while True:
                while number < len(stream.events) and (end is None or number < end):
                    mark = json.dumps([{"topic": "t", "partition": 0, "offset": number}])
                    text = f"event: message\nid: {mark}\ndata: {stream.events[number]}\n\n".encode()
                    self.wfile.write(text)
                    number += 1
                if end is not None:  # cut in the middle of the next event
                    self.wfile.write(b'event: message\nid: [{"offset": 99999}]\ndata: {"half')
                    return
                self.wfile.flush()
                if time.monotonic() >= until:
                    return
                time.sleep(0.01)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def replay(events: Iterable[str], script: Iterable[int] = (), linger_s: float = 0.0) -> Iterator[Stream]:
    """Run a stream for the length of the context."""
    stream = Stream("", list(events), list(script), linger_s)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stream))
    server.daemon_threads = True
    stream.url = f"http://127.0.0.1:{server.server_address[1]}/v2/stream/mutation"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def since_of(path: str) -> str | None:
    """The `since` of a request's path."""
    return next(iter(urllib.parse.parse_qs(urllib.parse.urlsplit(path).query).get("since", [])), None)
