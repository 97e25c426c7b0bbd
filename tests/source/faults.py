"""An HTTP server on loopback that answers each request with the next fault of a script, or of a function."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = b'{"head":{"vars":["x"]},"results":{"bindings":[{"x":{"type":"literal","value":"1"}}]}}'
JSON_TYPE = "application/sparql-results+json;charset=utf-8"


@dataclass
class Answer:
    """One answer. `pause_s` is waited before the body, `drip_s` after each of its bytes."""

    status: int = 200
    body: bytes = GOOD
    content_type: str | None = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    drip_s: float = 0.0
    claim_length: int | None = None
    hang_up: bool = False


@dataclass
class Faults:
    """A running server. Answers are taken from `script` in order; the last one is repeated.

    An entry may be a function from the query to its answer: a proxy that passes some through.
    """

    url: str
    script: list[Answer | Callable[[str], Answer]]
    queries: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    fields: list[list[str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def _handler(faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            form = urllib.parse.parse_qs(self.rfile.read(length).decode())
            faults.queries.append(form.get("query", [""])[0])
            faults.fields.append(sorted(form))
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            faults.methods.append(self.command)
            faults.paths.append(self.path)
            faults.headers.append({k.lower(): v for k, v in self.headers.items()})
            found = faults.script.pop(0) if len(faults.script) > 1 else faults.script[0]
            answer = found if isinstance(found, Answer) else found(faults.queries[-1])
            with contextlib.suppress(OSError):
                self._send(answer)

        def _send(self, answer: Answer) -> None:
            if answer.hang_up:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(answer.status)
            if answer.content_type is not None:
                self.send_header("Content-Type", answer.content_type)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            length = len(answer.body) if answer.claim_length is None else answer.claim_length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            time.sleep(answer.pause_s)
            if not answer.drip_s:
                self.wfile.write(answer.body)
                return
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(answer.drip_s)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serve(*script: Answer | Callable[[str], Answer]) -> Iterator[Faults]:
    """Run a server of faults for the length of the context."""
    faults = Faults("", list(script))
    make: Callable[..., BaseHTTPRequestHandler] = _handler(faults)
    server = ThreadingHTTPServer(("127.0.0.1", 0), make)
    server.daemon_threads = True
    faults.url = f"http://127.0.0.1:{server.server_address[1]}/sparql"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
