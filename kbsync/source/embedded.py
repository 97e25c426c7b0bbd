"""A Wikidata endpoint on this machine: Oxigraph's server over N-Triples files, on a free loopback port.

It speaks the same SPARQL 1.1 as the public service, holds whatever slice it is given, takes updates, and is
gone without a trace when the context ends. It keeps its triples in memory (about 400 bytes each), where it answers
several times as fast as from its database on disk.
"""

from __future__ import annotations

import atexit
import contextlib
import gzip
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from kbsync.errors import ConfigError, EndpointDown, SourceError
from kbsync.source.transport import opener_for

START_S = 30.0  # seconds until a started server must answer
STOP_S = 5.0  # seconds that a terminated server gets before it is killed
LOAD_S = 600.0  # seconds without a sign of life that a server gets to take a file in
PORT_TRIES = 5  # a free port can be taken by another process before the server binds it

# Ends the server and its files when this process dies without a chance to: the guard's stdin is a pipe that
# only this process holds open, so `cat` returns then and not before.
_GUARD = 'cat >/dev/null; kill -9 "$0" 2>/dev/null; rm -rf -- "$1"'


class EmbeddedWikidata:
    """Context manager: loads RDF files (`.nt`, `.ttl`, also with `.gz`) and serves them at `endpoint`.

    `lenient`: also what strict RDF has no place for, such as Wikidata's own language tags. `on_disk`: for more
    triples than memory has room for.

    Raises ConfigError for a missing file or server program, SourceError for a file that can't be loaded, and
    EndpointDown when the server does not come up. State lives in a temporary folder; updates do not outlive
    the context.
    """

    def __init__(self, files: Sequence[Path], *, lenient: bool = False, on_disk: bool = False) -> None:
        self.files = tuple(files)
        self.lenient = lenient
        self.on_disk = on_disk
        self._url = ""
        self._folder: Path | None = None
        self._data = self._log = Path()
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """URL of the query endpoint."""
        return f"{self._url}/query"

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._server.pid if self._server is not None else None

    def __enter__(self) -> Self:
        for file in self.files:
            if not file.is_file():
                raise ConfigError(f"no RDF file at {file}")
        program = server_program()
        atexit.register(self.close)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="kbsync-wikidata-"))
            self._data, self._log = self._folder / "data", self._folder / "server.log"
            if self.on_disk and self.files:
                self._load(program)
            self._start(program)
            if not self.on_disk:
                for file in self.files:
                    self._send(file)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and remove its files. Safe to call again."""
        atexit.unregister(self.close)
        self._stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def update(self, text: str) -> None:
        """Apply a SPARQL 1.1 update. Raises SourceError (rejected) or EndpointDown (the server is gone)."""
        request = urllib.request.Request(  # noqa: S310 -- our own loopback URL
            f"{self._url}/update",
            data=text.encode(),
            headers={"Content-Type": "application/sparql-update"},
            method="POST",
        )
        try:
            with opener_for(self._url).open(request, timeout=120):
                pass
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(300).decode("utf-8", "replace").split())
            raise SourceError(f"the embedded Wikidata rejects the update: {said}") from None
        except OSError as error:
            raise EndpointDown(f"the embedded Wikidata at {self._url} does not answer: {error}") from None

    def apply(self, file: Path) -> None:
        """Apply a file of SPARQL updates (`.ru`, `.ru.gz`). Raises ConfigError when it can't be read."""
        try:
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            text = data.decode("utf-8")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ConfigError(f"can't read the update file {file}: {error}") from None
        self.update(text)

    def _send(self, file: Path) -> None:
        """Load a file into the server's memory. Raises SourceError."""
        packed = file.suffix == ".gz"
        name = file.stem if packed else file.name
        headers = {"Content-Type": "text/turtle" if name.endswith(".ttl") else "application/n-triples"}
        if not packed:
            headers["Content-Length"] = str(file.stat().st_size)
        url = f"{self._url}/store?default&no_transaction{'&lenient' if self.lenient else ''}"
        try:
            with gzip.open(file) if packed else file.open("rb") as data:
                request = urllib.request.Request(url, data=data, headers=headers, method="POST")  # noqa: S310 -- ours
                with opener_for(url).open(request, timeout=LOAD_S):
                    pass
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(300).decode("utf-8", "replace").split())
            raise SourceError(f"can't load {file}: {said}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"can't load {file}: {error}") from None

    def _load(self, program: str) -> None:
        command = [program, "load", "--location", str(self._data)]
        for file in self.files:
            command += ["--file", str(file)]
        command += ["--lenient"] if self.lenient else []
        done = subprocess.run(  # noqa: S603 -- a fixed program, arguments as a list
            command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False
        )
        if done.returncode != 0:
            names = ", ".join(str(file) for file in self.files)
            raise SourceError(f"can't load {names}: {_error_line(done.stderr)}")

    def _start(self, program: str) -> None:
        said = ""
        place = ["--location", str(self._data)] if self.on_disk else []
        for _ in range(PORT_TRIES):
            port = _free_port()
            self._url = f"http://127.0.0.1:{port}"
            with self._log.open("wb") as log:
                self._server = subprocess.Popen(  # noqa: S603 -- as above
                    [program, "serve", *place, "--bind", f"127.0.0.1:{port}"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # the terminal's Ctrl-C is for kbsync, which stops the server itself
                )
            self._watch()
            if self._answers(f":{port}"):
                return
            self._stop()
            said = _error_line(self._log.read_bytes())
        raise EndpointDown(f"the embedded Wikidata server did not start: {said}")

    def _watch(self) -> None:
        """Start the guard that outlives this process just long enough to end the server."""
        assert self._server is not None
        if os.name == "posix":
            self._guard = subprocess.Popen(  # noqa: S603 -- a fixed script
                ["/bin/sh", "-c", _GUARD, str(self._server.pid), str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _answers(self, address: str) -> bool:
        """Wait until the server says that it has `address` and answers there. False when it exits or hangs.

        An answer alone is not enough: another program may have taken the port first.
        """
        assert self._server is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._server.poll() is None:
            if address in self._log.read_text(errors="replace"):
                with contextlib.suppress(OSError):
                    url = f"{self.endpoint}?query=ASK%20%7B%7D"
                    with opener_for(url).open(url, timeout=5):
                        return True
            time.sleep(0.02)
        return False

    def _stop(self) -> None:
        """End the guard first: it must never act on a process id that is ours no more."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()
        server, self._server = self._server, None
        if server is not None:
            server.terminate()
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def server_program() -> str:
    """Path of Oxigraph's server, which its package installs beside the interpreter. Raises ConfigError."""
    beside = Path(sys.executable).parent / ("oxigraph.exe" if os.name == "nt" else "oxigraph")
    found = str(beside) if beside.is_file() else shutil.which("oxigraph")
    if found is None:
        raise ConfigError("the oxigraph program is missing; install the package `oxigraph`")
    return found


def _error_line(output: bytes) -> str:
    """The error of a failed program, without the hints before it and the backtrace after it."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("Error")] or lines
    return errors[0].removeprefix("Error: ") if errors else "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
