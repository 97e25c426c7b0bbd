"""The endpoint's clock, told by servers that tell nonsense."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kbsync.settings import SourceSettings
from kbsync.source.clock import ahead_s


@pytest.mark.parametrize("date", ["", "noon", "Mon, 01 Jan 99999999999999 00:00:00 GMT"])
def test_a_date_that_is_none_tells_nothing(settings_for: Callable[..., SourceSettings], date: str) -> None:
    """Nothing is raised, whatever the header holds."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", date)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        settings = settings_for(f"http://127.0.0.1:{server.server_port}/sparql")
        assert ahead_s(settings, 5.0, lambda: datetime.now(UTC)) is None
        thread.join()
