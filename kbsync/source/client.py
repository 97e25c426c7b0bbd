"""A SPARQL client that a public endpoint can live with: one request at a time, named, patient and bounded.

SPARQLWrapper builds and sends the request. It knows no Retry-After and would read a body of any size and
trust it, so the answer is read and judged here: content type, size, and that the JSON is whole, since a
server that runs out of time cuts the body after it has already sent status 200.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, Literal, get_args

import stamina
from SPARQLWrapper import JSON, POST, SPARQLWrapper

from kbsync.errors import BadAnswer, EndpointDown, KbsyncError, SourceError, Throttled
from kbsync.settings import SourceSettings, user_agent

ACCEPT = "application/sparql-results+json"
JSON_TYPES = frozenset({ACCEPT, "application/json"})
DEFAULT_RETRY_AFTER_S = 60.0  # the public service counts a client's query time per minute
BLOCK = 1 << 16  # bytes read at once; the deadline is looked at between blocks
EXCERPT = 512  # bytes of an error body that are looked at


TermKind = Literal["uri", "literal", "bnode"]


@dataclass(frozen=True, slots=True)
class Term:
    """One RDF term of an answer. `datatype` and `language` are set for literals that have them."""

    kind: TermKind
    value: str
    datatype: str | None = None
    language: str | None = None


Row = dict[str, Term]


@dataclass(slots=True)
class Counters:
    """What a client has cost so far: requests sent, seconds spent in them and between retries, bytes read."""

    requests: int = 0
    seconds: float = 0.0
    bytes: int = 0


class _CutShort(BadAnswer):
    """A body that is not whole; asking again may help."""


class _Refused(Throttled):
    """429, or 503 with Retry-After: the endpoint says when to come back."""


class SparqlClient:
    """SELECT queries against one endpoint, always by POST, retried with jittered backoff.

    `sleep` is called for the seconds that the endpoint asks for in Retry-After; a daemon passes one that can
    be interrupted. Not safe to share between threads: the endpoint wants one request at a time anyway.
    """

    def __init__(self, settings: SourceSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        self.settings = settings
        self.counters = Counters()
        self._sleep = sleep
        self._opener = opener_for(settings.endpoint)

    def select(self, query: str) -> list[Row]:
        """Run a SELECT query and return its rows; an unbound variable is missing from its row.

        Raises EndpointDown (no connection, timeout or 5xx after all attempts), Throttled (a ban, a
        Retry-After over `max_wait_s`, or still refused after all attempts), BadAnswer (not SPARQL JSON, cut
        short, over the size cap) and SourceError (the endpoint rejects the query).
        """
        begun = time.monotonic()
        attempt_number = 1

        def again(error: Exception) -> bool | float:
            if isinstance(error, _Refused):
                wait = DEFAULT_RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
                if wait > self.settings.max_wait_s or attempt_number >= self.settings.attempts:
                    return False
                self._sleep(wait)
                return 0.0
            return isinstance(error, (EndpointDown, _CutShort))

        try:
            for attempt in stamina.retry_context(
                on=again, attempts=self.settings.attempts, timeout=None, wait_initial=0.5, wait_max=20.0
            ):
                attempt_number = attempt.num
                with attempt:
                    return self._ask(query)
        finally:
            self.counters.seconds += time.monotonic() - begun
        raise AssertionError("the retry loop ends by returning or raising")

    def _ask(self, query: str) -> list[Row]:
        """One request, one answer."""
        url = self.settings.endpoint
        request = self._request(query)
        self.counters.requests += 1
        deadline = time.monotonic() + self.settings.timeout_s
        try:
            with self._opener.open(request, timeout=self.settings.timeout_s) as response:
                self._check_type(response)
                body = self._read(response, deadline)
        except KbsyncError:
            raise
        except urllib.error.HTTPError as error:
            with error:
                excerpt = _excerpt(error)
            raise self._refusal(error.code, error.headers, excerpt) from None
        except TimeoutError:
            raise EndpointDown(
                f"no whole answer from {url} within {self.settings.timeout_s:g} s; "
                f"lower source.page_size or raise source.timeout_s"
            ) from None
        except http.client.IncompleteRead:
            raise self._cut() from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise EndpointDown(f"{url} did not answer within {self.settings.timeout_s:g} s") from None
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
        wrapper.setQuery(query)
        # its query() hides the headers of a refusal and reads error bodies of any size
        return wrapper._createRequest()

    def _check_type(self, response: http.client.HTTPResponse) -> None:
        kind = (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if kind not in JSON_TYPES:
            named = "an HTML page" if "html" in kind else f"content of type {kind or 'unknown'}"
            raise BadAnswer(
                f"{self.settings.endpoint} answered with {named} instead of SPARQL JSON; "
                f"is it the query endpoint's own URL?"
            )

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        """The body, read in blocks. Raises BadAnswer over the size cap and TimeoutError past the deadline."""
        cap = self.settings.max_answer_bytes
        blocks: list[bytes] = []
        size = 0
        while block := response.read1(BLOCK):
            blocks.append(block)
            size += len(block)
            if size > cap:
                raise BadAnswer(
                    f"the answer of {self.settings.endpoint} is over {cap} bytes; "
                    f"lower source.page_size or raise source.max_answer_bytes"
                )
            if time.monotonic() > deadline:
                raise TimeoutError
        return b"".join(blocks)

    def _rows(self, body: bytes) -> list[Row]:
        """Parse SPARQL 1.1 JSON results (W3C recommendation of 2013, section 3)."""
        try:
            answer = json.loads(body)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            raise self._cut() from None
        try:
            if not isinstance(answer["head"], dict):
                raise TypeError
            return [
                {name: _term(term) for name, term in binding.items()} for binding in answer["results"]["bindings"]
            ]
        except (KeyError, TypeError, AttributeError):
            raise BadAnswer(
                f"{self.settings.endpoint} answered with JSON that is not a SPARQL result "
                f"(head and results are missing or misshapen)"
            ) from None

    def _cut(self) -> BadAnswer:
        return _CutShort(
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
            return Throttled(f"{url} has banned this client{when}; pull less often and set source.contact", wait)
        if status == 429 or (status == 503 and wait is not None):
            hint = f"; it says to wait {wait:.0f} s" if wait is not None else ""
            return _Refused(f"{url} refuses requests for now (HTTP {status}){hint}", wait)
        if status >= 500 or status == 408:
            return EndpointDown(f"{url} answered with HTTP {status}; try again later")
        if status == 400:
            return SourceError(f"{url} rejects the query (HTTP 400): {_one_line(excerpt)}")
        return SourceError(f"{url} answered with HTTP {status}; check source.endpoint and source.contact")


def opener_for(url: str) -> urllib.request.OpenerDirector:
    """An opener that heeds the environment's proxies, except for addresses of this machine."""
    host = urllib.parse.urlsplit(url).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds to wait from a Retry-After header: a number of seconds or an HTTP date (RFC 9110, 10.2.3).

    None when there is no header or it can't be read.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return max(0.0, (when - now).total_seconds())


def _term(binding: dict[str, Any]) -> Term:
    kind: TermKind = "literal" if binding["type"] == "typed-literal" else binding["type"]
    value = binding["value"]
    if kind not in get_args(TermKind) or not isinstance(value, str):
        raise TypeError
    return Term(kind, value, binding.get("datatype"), binding.get("xml:lang"))


def _excerpt(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(EXCERPT).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""


def _one_line(text: str) -> str:
    """The first 200 characters of a foreign text, printable and on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
