"""In front of every route: the host that was asked for, the size of a body, and tokens.

It sees a request before the framework does, so a route that is added later can't forget to ask.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import anyio.to_thread
import structlog

from kbsync.errors import StoreError
from kbsync.serve.rules import Tries, bearer, host_allowed
from kbsync.serve.view import View
from kbsync.settings import is_loopback
from kbsync.store import tokens
from kbsync.store.tokens import Token

log = structlog.get_logger("kbsync")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 64 * 1024  # of a body; the longest that makes sense is a list of ids
BODY_S = 10.0  # that a body may take to come
OPEN = ("/healthz", "/readyz")  # what a load balancer or a container asks, without a token
_READS = ("GET", "HEAD")

_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: Application, view: View, tries: Tries | None = None) -> None:
        self._app, self._view = app, view
        self._tries = tries or Tries()
        settings = view.settings.serve
        self._names = (settings.host, *settings.allowed_hosts)
        self.free_reads = is_loopback(settings.host) or settings.open_reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._view.count(message["status"])
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        refusal = await self._refusal(scope)
        body = b""
        if refusal is None:
            try:
                with anyio.fail_after(BODY_S):
                    body = await _body(receive)
            except TimeoutError:
                refusal = 408, "TooSlow", f"the body did not come within {BODY_S:g} s", 0.0
            except ValueError:
                refusal = _too_large()
        if refusal is not None:
            await answer(counted, *refusal)
            return
        await self._app(scope, _again(body, receive), counted)

    async def _refusal(self, scope: Scope) -> tuple[int, str, str, float] | None:
        """Status, kind, message and seconds to wait; None for a request that may go on."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not host_allowed(headers.get("host", ""), self._names):
            return 400, "BadRequest", "that is not a name of this server; serve.allowed_hosts has its names", 0
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or int(length) > MOST_BYTES:
            return _too_large()
        scope.setdefault("state", {}).update(token=None, may_read=self.free_reads)
        return await self._without_right(scope, headers.get("authorization", ""))

    async def _without_right(self, scope: Scope, header: str) -> tuple[int, str, str, float] | None:
        reads = scope["method"] in _READS
        text = bearer(header)
        address = scope["client"][0] if scope.get("client") else "?"
        if text is None:
            if reads and (self.free_reads or scope["path"] in OPEN):
                return None
            self._note(scope, address, "no token")
            return _UNAUTHORIZED
        wait_s = self._tries.wait_s(address)
        if wait_s:
            return 429, "TooManyRequests", "too many wrong tokens from this address; try again later", wait_s
        try:
            token = await anyio.to_thread.run_sync(self._find, text)
        except StoreError as error:
            log.warning("no token can be looked up", error=str(error))
            return 503, "StoreError", "the store can't be read now", 5
        if token is None:
            self._tries.failed(address)
        if token is None or not (reads or token.may_write):
            self._note(scope, address, "unknown or void token" if token is None else f"{token.name} may only read")
            return _UNAUTHORIZED
        scope["state"].update(token=token.name, may_read=True)
        return None

    def _find(self, text: str) -> Token | None:
        with self._view.door.read() as tx:
            return tokens.find(tx, text)

    @staticmethod
    def _note(scope: Scope, address: str, why: str) -> None:
        """A refusal in the log, without the token. The path is as it was sent: what doesn't print is spelt out."""
        path = scope.get("raw_path", b"").decode("latin-1")[:100]
        log.warning("refused over HTTP", why=why, address=address, method=scope["method"], path=path)


_UNAUTHORIZED = (401, "Unauthorized", "a token is needed", 0.0)


def _too_large() -> tuple[int, str, str, float]:
    return 413, "TooLarge", f"a request may have {MOST_BYTES} bytes", 0


async def _body(receive: Receive) -> bytes:
    """The whole body, also of a request that does not say how long it is. Raises ValueError over MOST_BYTES."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MOST_BYTES:
            raise ValueError
        if message["type"] != "http.request" or not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def answer(send: Send, status: int, kind: str, message: str, wait_s: float = 0) -> None:
    """An error in the one shape that errors have."""
    body = json.dumps({"error": {"kind": kind, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if wait_s:
        headers.append((b"retry-after", str(int(wait_s) + 1).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
