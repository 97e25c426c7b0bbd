"""HTTP as far as a source needs it, with every size, host and encoding checked.

Redirects are followed on the same host only, and a POST stays a POST. Bodies come plain or gzipped, and what
they decode to is capped while it is decoded. Credentials go into a header of requests to the endpoint alone.
"""

from __future__ import annotations

import base64
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from typing import IO

from kbsync.errors import BadAnswer, ConfigError, SourceError
from kbsync.settings import SourceSettings, is_loopback, read_secret

BLOCK = 1 << 16  # bytes read at once; the deadline is looked at between blocks
MOST_REDIRECTS = 3
ENCODINGS = "gzip"  # what we ask for; anything else but plain is refused


class CutShort(BadAnswer):
    """A body that is not whole; asking again may help."""


class SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect on the host that was asked, with the same method and body, and no other."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,  # noqa: ARG002 -- the signature is the base class's
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,
    ) -> urllib.request.Request:
        """The request to make instead. Raises SourceError for another host."""
        if not _same_host(req.full_url, newurl):
            host = urllib.parse.urlsplit(newurl).netloc.rpartition("@")[2]
            shown = "".join(c for c in host if c.isprintable())[:100]
            raise SourceError(
                f"{place_of(req.full_url)} redirects to another host, {shown or 'which it does not name'}; "
                f"set source.endpoint to where it lies now, if you trust it"
            )
        followed = getattr(req, "followed", 0) + 1
        if followed > MOST_REDIRECTS:
            raise SourceError(f"{place_of(req.full_url)} redirects without an end; check source.endpoint")
        again = urllib.request.Request(  # noqa: S310 -- the host that was asked
            newurl, data=req.data, headers=dict(req.header_items()), method=req.get_method()
        )
        again.remove_header("Host")
        again.followed = followed  # type: ignore[attr-defined]
        fp.close()  # its body is of no use, and would be read without an end
        return again


def _same_host(old: str, new: str) -> bool:
    """Whether both URLs have one host and port; from http to https on the usual ports is allowed."""
    one, other = urllib.parse.urlsplit(old), urllib.parse.urlsplit(new)
    if other.scheme not in ("http", "https") or one.hostname != other.hostname:
        return False
    if one.scheme == other.scheme:
        return _port(one) == _port(other)
    return (one.scheme, _port(one), other.scheme, _port(other)) == ("http", 80, "https", 443)


def _port(url: urllib.parse.SplitResult) -> int | None:
    try:
        return url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        return None


def place_of(url: str) -> str:
    """Host and port of a URL, which name an endpoint in the store and in messages."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2].lower()


def opener_for(url: str) -> urllib.request.OpenerDirector:
    """An opener that heeds the environment's proxies, except for addresses of this machine."""
    if is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        return urllib.request.build_opener(SameHost, urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(SameHost)


def authorization(settings: SourceSettings) -> str | None:
    """The value of the Authorization header: basic where there is a user, else bearer; None without a secret.

    Raises ConfigError when `token_file` can't be read or holds nothing to send.
    """
    if settings.token is not None:
        secret = settings.token.get_secret_value().strip()
    elif settings.token_file is not None:
        secret = read_secret(settings.token_file, "source.token_file")
    else:
        return None
    if not secret or not secret.isascii() or not secret.isprintable():
        raise ConfigError("the secret for source.endpoint is empty, or has characters that no header takes")
    if settings.user:
        return "Basic " + base64.b64encode(f"{settings.user}:{secret}".encode()).decode()
    return f"Bearer {secret}"


def read_body(
    response: HTTPResponse, cap: int, deadline: float, place: str, clock: Callable[[], float] = time.monotonic
) -> bytes:
    """The whole body, decoded.

    Raises BadAnswer (over `cap` bytes, an encoding that was not asked for), CutShort (a gzip stream that is
    damaged or not at its end) and TimeoutError past the deadline.
    """
    blocks: list[bytes] = []
    size = 0
    for block in _decoded(response, cap, place):
        size += len(block)
        if size > cap:
            raise BadAnswer(
                f"the answer of {place} is over {cap} bytes; lower source.page_size or raise "
                f"source.max_answer_bytes"
            )
        if clock() > deadline:
            raise TimeoutError
        blocks.append(block)
    return b"".join(blocks)


def _decoded(response: HTTPResponse, cap: int, place: str) -> Iterator[bytes]:
    """Blocks of the body; no block is larger than BLOCK, however well it was packed."""
    encoding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding in ("identity", ""):
        while block := response.read1(BLOCK):
            yield block
        return
    if encoding not in ("gzip", "x-gzip"):
        raise BadAnswer(f"{place} answered in the encoding {encoding[:40]!r}, which was not asked for")
    packed = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    taken = 0
    try:
        while block := response.read1(BLOCK):
            taken += len(block)
            if packed.eof or packed.unused_data or taken > cap:
                raise CutShort(f"the answer of {place} goes on after the end of its gzip stream")
            yield packed.decompress(block, BLOCK)
            while packed.unconsumed_tail:
                yield packed.decompress(packed.unconsumed_tail, BLOCK)
    except zlib.error:
        raise CutShort(f"the gzip stream of {place} is damaged") from None
    if not packed.eof or packed.unused_data:
        raise CutShort(f"the answer of {place} is cut short: its gzip stream has no end")


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds to wait from a Retry-After header: a number of seconds or an HTTP date (RFC 9110, 10.2.3).

    None when there is no header or it can't be read.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip())
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # no date, or one whose year or zone no integer holds
        return None
    return seconds_until(when, now)


def seconds_until(when: datetime, now: datetime) -> float:
    """Seconds from `now` until a time, which is UTC where it has no zone; 0 when it is over."""
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return max(0.0, (when - now).total_seconds())


def content_type(response: HTTPResponse) -> str:
    """The media type of an answer, in lower case and without parameters; "" where it names none."""
    return (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
