"""The server itself: a socket, and a thread that answers on it. Whatever happens to it, the daemon goes on."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from kbsync.errors import KbsyncError, StoreError
from kbsync.serve.view import View, view_of
from kbsync.settings import ServeSettings, Settings, is_loopback
from kbsync.store import tokens

if TYPE_CHECKING:
    import uvicorn

    from kbsync.sync.daemon import Daemon

log = structlog.get_logger("kbsync")

AGAIN_S = 30.0  # between two tries to get a port that is taken
CONNECTIONS = 64  # at once; more are told to come back
_END_S = 5.0  # that answers under way are given at the end


def bind(settings: ServeSettings) -> socket.socket:
    """The listening socket. Raises KbsyncError, saying what to do, when the address can't be had."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise KbsyncError(f"serve.host {settings.host!r} is no address of this machine: {error.strerror}") from None
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        taken = error.errno == errno.EADDRINUSE
        why = "is taken by another program" if taken else f"can't be listened on ({error.strerror})"
        raise KbsyncError(f"port {settings.port} of {settings.host} {why}; set serve.port to a free one") from None
    return made


def url_of(listening: socket.socket) -> str:
    """Where the server answers."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(view: View) -> uvicorn.Server:
    """A server for `view`, without lines for each request and without its own name in the answers."""
    import uvicorn

    from kbsync.serve.app import make_app

    return uvicorn.Server(
        uvicorn.Config(
            make_app(view),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=int(_END_S),
        )
    )


class Serving:
    """A server in a thread of a daemon's process. A port that is taken is tried again and again."""

    def __init__(self, view: View, again_s: float = AGAIN_S) -> None:
        self._view, self._again_s = view, again_s
        self._over = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._work, name="http", daemon=True)
        self.url: str | None = None

    def start(self) -> None:
        """Begin, in the background: the daemon does not wait for it."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; answers under way are given a moment."""
        self._over.set()
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(2 * _END_S)
        self._view.door.close()

    def _work(self) -> None:
        told = False
        while not self._over.is_set():
            try:
                listening = bind(self._view.settings.serve)
            except KbsyncError as error:
                if not told:
                    log.warning("no HTTP; it is tried again", error=str(error))
                told = True
                self._over.wait(self._again_s)
                continue
            with listening:
                self._answer(listening)

    def _answer(self, listening: socket.socket) -> None:
        try:
            self._server = make_server(self._view)
            self.url = url_of(listening)
            log.info("listening", url=self.url)
            _warn(self._view)
            if not self._over.is_set():
                self._server.run(sockets=[listening])
        except Exception:  # a fault of ours must not end the daemon
            log.exception("HTTP failed; it is tried again")
        self.url = None
        self._over.wait(self._again_s)


@contextlib.contextmanager
def beside(daemon: Daemon) -> Iterator[Serving | None]:
    """Serve for as long as the daemon is there, if the settings want it."""
    if not daemon.settings.serve.enabled:
        yield None
        return
    serving = Serving(view_of(daemon.settings, lambda: daemon.leads, daemon.pulse))
    serving.start()
    try:
        yield serving
    finally:
        serving.stop()


def serve(settings: Settings) -> None:
    """Serve alone, until SIGTERM, after which it returns, or Ctrl-C. Raises KbsyncError when the port or the store
    can't be had."""
    view = view_of(settings)
    view.door.store()
    server = make_server(view)
    try:
        with bind(settings.serve) as listening, _ending_well(server):
            log.info("listening", url=url_of(listening))
            _warn(view)
            server.run(sockets=[listening])
    finally:
        view.door.close()


@contextlib.contextmanager
def _ending_well(server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM in the block ends the server, and not the process: who tells a service to stop asks for no failure.

    uvicorn catches the signal too, and raises it again once it has ended; then this handler is in its place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        server.should_exit = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _warn(view: View) -> None:
    """Say what an operator should know of an address that others reach."""
    settings = view.settings.serve
    if is_loopback(settings.host):
        return
    try:
        with view.door.read() as tx:
            some = any(one.revoked_at is None for one in tokens.tokens(tx))
    except StoreError:
        return
    if not some and not settings.open_reads:
        log.warning("other machines can't read anything: no token was made yet; `kbsync token add`")
    if settings.open_reads:
        log.warning("other machines may read without a token (serve.open_reads)", host=settings.host)
