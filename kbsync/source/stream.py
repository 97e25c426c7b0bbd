"""The public RDF mutation stream, read over HTTP from a position on, and again after each cut.

A connection is a request like others: a guard admits it and is told how it ended, so a stream that refuses us is
left alone as an endpoint is. Cuts are usual: the service ends each connection after a quarter of an hour.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from kbsync.errors import BadAnswer, EndpointDown, KbsyncError, SourceError, Throttled
from kbsync.settings import SourceSettings, user_agent
from kbsync.source.guard import Guard
from kbsync.source.sse import Message, messages
from kbsync.source.transport import BLOCK, content_type, opener_for, place_of, retry_after_s

SILENCE_S = 30.0  # without a byte for so long the connection is taken for dead; the stream is never so quiet
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # between connections that brought nothing


class Gap(BadAnswer):
    """The stream no longer has the position that was asked for: what lies in between comes by the tail."""


class MutationStream:
    """Messages from a position on. `sleep` waits between connections; `clock` gives monotonic seconds."""

    def __init__(
        self,
        settings: SourceSettings,
        guard: Guard,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.guard = settings, guard
        self.connections = 0
        self._sleep, self._clock = sleep, clock
        self._opener = opener_for(settings.stream_url)

    def read(
        self, position: str | None, since: datetime, until: float, wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[Message | None]:
        """Messages after `position`, or from the time `since` on where there is none, until the clock says `until`.

        Connects again after a cut, from the last message's id; None is yielded at each cut and silence, so that
        the caller can look around. Ends when `wanted` says no. Raises Gap, EndpointDown after `attempts`
        connections in a row that brought nothing, Throttled and CircuitOpen.
        """
        failures = 0
        while wanted() and self._clock() < until:
            try:
                for message in self._connection(position, since, until):
                    failures = 0
                    position = message.id or position
                    yield message
                    if not wanted() or self._clock() >= until:
                        return
                failures += 1  # a connection that ended by itself; one that brought something starts at 0
            except EndpointDown:
                failures += 1
                if failures >= self.settings.attempts:
                    raise
            yield None
            if wanted() and self._clock() < until:
                self._sleep(min(PAUSES_S[min(failures, len(PAUSES_S)) - 1], max(0.0, until - self._clock())))

    def _connection(self, position: str | None, since: datetime, until: float) -> Iterator[Message]:
        self.guard.admit()
        self.connections += 1
        url, place = self.settings.stream_url, place_of(self.settings.stream_url)
        begun = self._clock()
        try:
            response = self._opener.open(self._request(position, since), timeout=self._patience(until))
        except KbsyncError:
            self.guard.failed(self._clock() - begun)
            raise
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error, begun, position is not None) from None
        except (OSError, http.client.HTTPException) as error:
            self.guard.failed(self._clock() - begun)
            raise EndpointDown(f"can't reach the stream {url}: {error or type(error).__name__}") from None
        with response:
            kind = content_type(response)
            if kind != "text/event-stream":
                self.guard.failed(self._clock() - begun)
                raise BadAnswer(
                    f"{place} answered with content of type {kind or 'unknown'}, not a stream of events"
                )
            self.guard.answered(0.0)  # what a connection costs is its opening
            yield from messages(self._blocks(response, until))

    def _blocks(self, response: http.client.HTTPResponse, until: float) -> Iterator[bytes]:
        """The body until it is cut, silent for too long, or the time is over."""
        try:
            while self._clock() < until and (block := response.read1(BLOCK)):
                yield block
        except (TimeoutError, ConnectionError, http.client.HTTPException, OSError):
            return

    def _patience(self, until: float) -> float:
        return max(0.05, min(SILENCE_S, self.settings.timeout_s, until - self._clock()))

    def _request(self, position: str | None, since: datetime) -> urllib.request.Request:
        headers = {"Accept": "text/event-stream", "User-Agent": user_agent(self.settings)}
        url = self.settings.stream_url
        if position is not None:
            headers["Last-Event-ID"] = position.encode().decode("latin-1")  # UTF-8, as the HTML standard has it
        else:
            stamp = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode({"since": stamp})
        return urllib.request.Request(url, headers=headers)  # noqa: S310 -- a checked http(s) URL

    def _refused(self, error: urllib.error.HTTPError, begun: float, resumed: bool) -> SourceError:
        place, seconds = place_of(self.settings.stream_url), self._clock() - begun
        wait = retry_after_s(error.headers["Retry-After"], datetime.now(UTC))
        if error.code in (403, 429) or (error.code == 503 and wait is not None):
            reason = f"the stream {place} refuses connections for now (HTTP {error.code})"
            self.guard.refused(seconds, reason, wait, banned=error.code == 403)
            return Throttled(reason, wait)
        self.guard.failed(seconds)
        if resumed and error.code in (400, 404, 410):
            return Gap(f"the stream {place} no longer has the position where we left it (HTTP {error.code})")
        if error.code >= 500 or error.code == 408:
            return EndpointDown(f"the stream {place} answered with HTTP {error.code}; try again later")
        return SourceError(f"the stream {place} answered with HTTP {error.code}; check source.stream_url")
