"""The server beside a daemon: on its own thread, its own port, and never in the daemon's way."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import structlog

from kbsync.errors import KbsyncError
from kbsync.serve.server import Serving, beside, bind, serve, url_of
from kbsync.serve.view import view_of
from kbsync.settings import ServeSettings, Settings
from kbsync.sync.daemon import Daemon
from kbsync.sync.pulse import Pulse
from tests.serve.conftest import Client


def on(settings: Settings, **keys: object) -> Settings:
    return settings.model_copy(update={"serve": settings.serve.model_copy(update=keys)})


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_port_that_is_taken_is_told(settings: Settings) -> None:
    """With the port, and what to set."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            KbsyncError, match=f"port {port} of 127.0.0.1 is taken by another program; set serve.port"
        ):
            bind(ServeSettings(port=port))
        with pytest.raises(KbsyncError, match="is taken"):
            serve(on(settings, port=port))


def test_a_host_that_is_none() -> None:
    """An address of another machine, and a name that is nobody's."""
    with pytest.raises(KbsyncError, match="can't be listened on"):
        bind(ServeSettings(host="192.0.2.1", port=0))
    with pytest.raises(KbsyncError, match="is no address of this machine"):
        bind(ServeSettings(host="no such host", port=0))


def test_the_url_of_an_ipv6_address() -> None:
    """Written as a browser takes it."""
    try:
        listening = bind(ServeSettings(host="::1", port=0))
    except KbsyncError:  # a machine without IPv6
        assert not socket.has_ipv6 or not _has_loopback6()
        return
    with listening:
        assert url_of(listening).startswith("http://[::1]:")


def _has_loopback6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_a_daemon_s_server_waits_for_its_port(settings: Settings) -> None:
    """A taken port is one warning, and it is tried again until it is free; then it answers, and ends when told."""
    with structlog.testing.capture_logs() as logs:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            view = view_of(on(settings, port=port), lambda: True, Pulse())
            serving = Serving(view, again_s=0.02)
            serving.start()
            until(lambda: logs)
            time.sleep(0.1)
            assert serving.url is None
        until(lambda: serving.url)
        until(lambda: _answers(port, view))
        serving.stop()
    assert [one["event"] for one in logs] == ["no HTTP; it is tried again", "listening"]
    assert serving.url is None
    socket.create_server(("127.0.0.1", port)).close()


def _answers(port: int, view: object) -> bool:
    try:
        return Client(port, view)("/healthz").status == 200  # type: ignore[arg-type]
    except OSError:
        return False


def test_beside_a_daemon(settings: Settings) -> None:
    """It serves what the daemon is, for as long as it is; told not to, it doesn't."""
    daemon = cast(Daemon, SimpleNamespace(settings=settings, leads=True, pulse=Pulse()))
    with beside(daemon) as serving:
        assert serving is not None
        until(lambda: serving.url)
        port = int(str(serving.url).rpartition(":")[2])
        until(lambda: _answers(port, None))
        assert Client(port, None)("/status").data["role"] == "leader"  # type: ignore[arg-type]
    assert not _answers(port, None)
    quiet = cast(Daemon, SimpleNamespace(settings=on(settings, enabled=False), leads=True, pulse=Pulse()))
    with beside(quiet) as nothing:
        assert nothing is None


def test_a_fault_of_the_server_does_not_end_the_daemon(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails in it is logged, and tried again."""
    calls: list[int] = []

    def fail(*args: object) -> None:
        calls.append(1)
        raise RuntimeError("no")

    monkeypatch.setattr("kbsync.serve.server.make_server", fail)
    with structlog.testing.capture_logs() as logs:
        serving = Serving(view_of(settings), again_s=0.01)
        serving.start()
        until(lambda: len(calls) > 2)
        serving.stop()
    assert logs[0]["event"] == "HTTP failed; it is tried again"


def test_others_can_reach_it_and_no_token_was_made(settings: Settings) -> None:
    """The log says that nobody can read; and says so where reading is open."""
    for keys, words in (({}, "no token was made yet"), ({"open_reads": True}, "may read without a token")):
        with structlog.testing.capture_logs() as logs:
            serving = Serving(view_of(on(settings, host="0.0.0.0", **keys)))
            serving.start()
            until(lambda: len(logs) > 1)
            serving.stop()
        assert words in logs[1]["event"]


def test_told_to_stop_it_ends_well(settings: Settings, tmp_path: Path) -> None:
    """`kbsync serve`, a process of its own: SIGTERM is what it was waiting for, not a failure."""
    file = tmp_path / "kbsync.toml"
    file.write_text(f'[store]\nurl = "{settings.store.url}"\n[watch]\nrelations = ["P6"]\n', encoding="utf-8")
    line = [sys.executable, "-m", "kbsync.cli.main", "-c", str(file), "serve", "--port", "0"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            first = json.loads(process.stderr.readline())
            assert first["event"] == "listening"
            port = int(first["url"].rpartition(":")[2])
            until(lambda: _answers(port, None))
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
