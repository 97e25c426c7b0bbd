"""A SPARQL client that a public endpoint can live with: one request at a time, named, patient and bounded.

SPARQLWrapper builds the request. It knows no Retry-After and would read a body of any size and trust it, so the
answer is read and judged here: content type, size, and that the JSON is whole, since a server that runs out of
time cuts the body after it has already sent status 200. A guard is asked before each request and told how it
ended: it keeps the request budget and the circuit breaker.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Literal

import msgspec
import stamina
from SPARQLWrapper import JSON, POST, SPARQLWrapper

from kbsync import failpoints
from kbsync.errors import BadAnswer, EndpointDown, KbsyncError, SourceError, Throttled
from kbsync.redact import Secrets
from kbsync.settings import SourceSettings, user_agent
from kbsync.source.guard import Guard
from kbsync.source.transport import (
    ENCODINGS,
    CutShort,
    authorization,
    content_type,
    opener_for,
    read_body,
    retry_after_s,
    seconds_until,
)

ACCEPT = "application/sparql-results+json"
JSON_TYPES = frozenset({ACCEPT, "application/json"})
DEFAULT_RETRY_AFTER_S = 60.0  # the public service counts a client's query time per minute
EXCERPT = 512  # bytes of an error body that are looked at


TermKind = Literal["uri", "literal", "bnode"]


class Term(msgspec.Struct, frozen=True, gc=False):  # millions are made, straight from the JSON
    """One RDF term of an answer. `datatype` and `language` are set for literals that have them."""

    kind: TermKind = msgspec.field(name="type")
    value: str
    datatype: str | None = None
    language: str | None = msgspec.field(name="xml:lang", default=None)


Row = dict[str, Term]


class _Results(msgspec.Struct):
    bindings: list[Row]


class _Answer(msgspec.Struct):
    """SPARQL 1.1 JSON results (W3C recommendation of 2013, section 3), as far as they are read."""

    head: dict[str, msgspec.Raw]
    results: _Results


_ANSWER = msgspec.json.Decoder(_Answer)
_TYPED = re.compile(
    rb'("type"\s*:\s*)"typed-literal"'
)  # the word of the draft of 2007, which some servers still say


@dataclass(slots=True)
class Counters:
    """What a client has cost so far: requests sent, seconds spent in them and between retries, bytes read."""

    requests: int = 0
    seconds: float = 0.0
    bytes: int = 0


class _Refused(Throttled):
    """429, or 503 with Retry-After: the endpoint says when to come back."""


class _Banned(Throttled):
    """403 with a ban."""


class _TimedOut(EndpointDown):
    """The endpoint had not enough time; asking for less may help."""


TOO_LARGE = (_TimedOut, CutShort)  # what a smaller page may cure


class SparqlClient:
    """SELECT queries against one endpoint, always by POST, retried with jittered backoff.

    `sleep` is called for the seconds that the endpoint asks for in Retry-After and that the budget makes a
    request wait; a daemon passes one that can be interrupted. One request is under way at a time, also when
    several threads share a client.
    """

    def __init__(
        self,
        settings: SourceSettings,
        sleep: Callable[[float], None] = time.sleep,
        guard: Guard | None = None,
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self.guard = guard or Guard(settings, sleep=sleep)
        self._sleep = sleep
        self._opener = opener_for(settings.endpoint)
        self._authorization = authorization(settings)
        sent = self._authorization.partition(" ")[2] if self._authorization else ""
        self._hide = Secrets([sent] if sent else ()).mask  # an endpoint may repeat what it was sent
        self._one_at_a_time = threading.Lock()

    def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
        """Run a SELECT query and return its rows; an unbound variable is missing from its row.

        With `can_shrink` an answer that took too long or came cut is raised at once (one of `TOO_LARGE`)
        instead of asked for again: the caller asks for less.

        Raises CircuitOpen (the endpoint is left alone for now; nothing was asked), EndpointDown (no connection,
        timeout or 5xx after all attempts), Throttled (a ban, a Retry-After over `max_wait_s`, or still refused
        after all attempts), BadAnswer (not SPARQL JSON, cut short, over the size cap) and SourceError (the
        endpoint rejects the query, or redirects to another host).
        """
        begun = time.monotonic()
        attempt_number = 1

        def again(error: Exception) -> bool | float:
            if isinstance(error, _Refused):
                wait = DEFAULT_RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
                if self.guard.is_open or attempt_number >= self.settings.attempts:
                    return False
                self._sleep(wait)
                return 0.0
            if can_shrink and isinstance(error, TOO_LARGE):
                return False
            return isinstance(error, (EndpointDown, CutShort))

        try:
            with self._one_at_a_time:
                for attempt in stamina.retry_context(
                    on=again, attempts=self.settings.attempts, timeout=None, wait_initial=0.5, wait_max=20.0
                ):
                    attempt_number = attempt.num
                    with attempt:
                        return self._guarded(query)
        finally:
            self.counters.seconds += time.monotonic() - begun
        raise AssertionError("the retry loop ends by returning or raising")

    def _guarded(self, query: str) -> list[Row]:
        """One request, if the guard admits it; the guard is told how it ended."""
        self.guard.admit()
        begun = time.monotonic()
        try:
            rows = self._ask(query)
        except (_Refused, _Banned) as error:
            wait, banned = error.retry_after_s, isinstance(error, _Banned)
            self.guard.refused(time.monotonic() - begun, str(error), wait, banned)
            raise
        except KbsyncError:
            self.guard.failed(time.monotonic() - begun)
            raise
        self.guard.answered(time.monotonic() - begun)
        return rows

    def _ask(self, query: str) -> list[Row]:
        """One request, one answer."""
        url = self.settings.endpoint
        request = self._request(query)
        self.counters.requests += 1
        deadline = time.monotonic() + self.settings.timeout_s
        try:
            failpoints.hit("http.before")
            with self._opener.open(request, timeout=self.settings.timeout_s) as response:
                self._check_type(response)
                body = read_body(response, self.settings.max_answer_bytes, deadline, url)
            failpoints.hit("http.after")
        except KbsyncError:
            raise
        except urllib.error.HTTPError as error:
            with error:
                excerpt = _excerpt(error)
            raise self._refusal(error.code, error.headers, excerpt) from None
        except TimeoutError:
            raise _TimedOut(
                f"no whole answer from {url} within {self.settings.timeout_s:g} s; "
                f"lower source.page_size or raise source.timeout_s"
            ) from None
        except http.client.IncompleteRead:
            raise self._cut() from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _TimedOut(f"{url} did not answer within {self.settings.timeout_s:g} s") from None
            raise EndpointDown(f"can't reach {url}: {error.reason}; is the endpoint up?") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EndpointDown(f"can't reach {url}: {error or type(error).__name__}") from None
        self.counters.bytes += len(body)
        return self._rows(body)

    def _request(self, query: str) -> urllib.request.Request:
        wrapper = SPARQLWrapper(self.settings.endpoint, returnFormat=JSON, agent=user_agent(self.settings))
        wrapper.setMethod(POST)
        wrapper.setOnlyConneg(True)
        wrapper.addCustomHttpHeader("Accept", ACCEPT)
        wrapper.addCustomHttpHeader("Accept-Encoding", ENCODINGS)
        if self._authorization is not None:
            wrapper.addCustomHttpHeader("Authorization", self._authorization)
        wrapper.setQuery(query)
        # its query() hides the headers of a refusal and reads error bodies of any size
        return wrapper._createRequest()

    def _check_type(self, response: http.client.HTTPResponse) -> None:
        kind = content_type(response)
        if kind not in JSON_TYPES:
            named = "an HTML page" if "html" in kind else f"content of type {kind or 'unknown'}"
            raise BadAnswer(
                f"{self.settings.endpoint} answered with {named} instead of SPARQL JSON; "
                f"is it the query endpoint's own URL?"
            )

    def _rows(self, body: bytes) -> list[Row]:
        """Parse SPARQL 1.1 JSON results."""
        if b'"typed-literal"' in body:
            body = _TYPED.sub(rb'\1"literal"', body)
        try:
            return _ANSWER.decode(body).results.bindings
        except msgspec.ValidationError:
            raise BadAnswer(
                f"{self.settings.endpoint} answered with JSON that is not a SPARQL result "
                f"(head and results are missing or misshapen)"
            ) from None
        except (ValueError, RecursionError):  # not UTF-8, or not JSON
            raise self._cut() from None

    def _cut(self) -> BadAnswer:
        return CutShort(
            f"the answer of {self.settings.endpoint} is cut short; its deadline may have passed: "
            f"lower source.page_size"
        )

    def _refusal(self, status: int, headers: Message, excerpt: str) -> SourceError:
        """The error that names an HTTP status. `excerpt` is the start of the body."""
        url = self.settings.endpoint
        wait = retry_after_s(headers["Retry-After"], datetime.now(UTC))
        if status == 403 and "banned" in excerpt.lower():
            until = re.search(r"banned until ([\w:.+-]+)", excerpt)
            when = f" until {until[1]}" if until else ""
            longest = max((s for s in (wait, _seconds_until(until[1]) if until else None) if s), default=None)
            return _Banned(f"{url} has banned this client{when}; pull less often and set source.contact", longest)
        if status == 429 or (status == 503 and wait is not None):
            hint = f"; it says to wait {wait:.0f} s" if wait is not None else ""
            return _Refused(f"{url} refuses requests for now (HTTP {status}){hint}", wait)
        if status in (408, 504) or (status >= 500 and "timeout" in excerpt.lower()):
            return _TimedOut(f"{url} ran out of time (HTTP {status}); lower source.page_size")
        if status >= 500:
            return EndpointDown(f"{url} answered with HTTP {status}; try again later")
        if status == 400:
            return SourceError(f"{url} rejects the query (HTTP 400): {_one_line(self._hide(excerpt))}")
        if status == 401 and self._authorization is None:
            return SourceError(f"{url} answered with HTTP 401; it wants credentials: set KBSYNC_SOURCE__TOKEN")
        return SourceError(f"{url} answered with HTTP {status}; check source.endpoint and source.contact")


def _seconds_until(text: str) -> float | None:
    """Seconds until a time in ISO 8601, or None where it is not one."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return seconds_until(when, datetime.now(UTC))


def _excerpt(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(EXCERPT).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""


def _one_line(text: str) -> str:
    """The first 200 characters of a foreign text, printable and on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
