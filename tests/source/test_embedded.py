"""The embedded server: it answers, and whatever happens it leaves neither a process nor a file."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from kbsync.errors import ConfigError, EndpointDown, SourceError
from kbsync.settings import SourceSettings
from kbsync.source import embedded
from kbsync.source.client import SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from tests.source.faults import Answer, serve

Make = Callable[..., SourceSettings]
TRIPLE = '<http://www.wikidata.org/entity/Q1> <http://schema.org/version> "1" .\n'
COUNT = "SELECT (COUNT(*) AS ?n) WHERE { ?s ?p ?o }"


def count(server: EmbeddedWikidata, make: Make) -> int:
    return int(SparqlClient(make(server.endpoint)).select(COUNT)[0]["n"].value)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def gone_within(pid: int, seconds: float) -> bool:
    """Wait until a process is gone."""
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders of this test lie in one that can be looked into."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob("kbsync-wikidata-*"))


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_it_loads_serves_updates_and_goes(tmp_path: Path, settings_for: Make, on_disk: bool) -> None:
    """Plain and gzipped files are served together; updates apply; then process and folder are gone."""
    plain, packed = tmp_path / "a.nt", tmp_path / "b.nt.gz"
    plain.write_text(TRIPLE)
    packed.write_bytes(gzip.compress(TRIPLE.replace("Q1", "Q2").encode()))
    with EmbeddedWikidata([plain, packed], on_disk=on_disk) as server:
        pid = server.pid
        assert pid is not None
        assert count(server, settings_for) == 2
        server.update("INSERT DATA { <urn:a> <urn:b> <urn:c> }")
        assert count(server, settings_for) == 3
        assert server.endpoint.startswith("http://127.0.0.1:")
        assert leftovers(tmp_path)
    assert not alive(pid)
    assert server.pid is None
    assert not leftovers(tmp_path)


def test_update_files_are_applied(tmp_path: Path, settings_for: Make) -> None:
    """A window of changes is applied from a plain or a gzipped file."""
    (tmp_path / "w.ru").write_text("INSERT DATA { <urn:a> <urn:b> <urn:c> }")
    (tmp_path / "w.ru.gz").write_bytes(gzip.compress(b"INSERT DATA { <urn:a> <urn:b> <urn:d> }"))
    with EmbeddedWikidata([]) as server:
        server.apply(tmp_path / "w.ru")
        server.apply(tmp_path / "w.ru.gz")
        assert count(server, settings_for) == 2
        (tmp_path / "bad.ru.gz").write_bytes(b"not gzip")
        for missing in ("none.ru", "bad.ru.gz"):
            with pytest.raises(ConfigError, match=missing):
                server.apply(tmp_path / missing)


def test_two_run_side_by_side(settings_for: Make) -> None:
    """Each has its own port and its own data."""
    with EmbeddedWikidata([]) as one, EmbeddedWikidata([]) as two:
        one.update("INSERT DATA { <urn:a> <urn:b> <urn:c> }")
        assert one.endpoint != two.endpoint
        assert (count(one, settings_for), count(two, settings_for)) == (1, 0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_inside_stops_it(tmp_path: Path, error: type[BaseException]) -> None:
    """Whatever ends the block, Ctrl-C too, the server ends with it and the error passes on."""
    server = EmbeddedWikidata([])
    pid = None
    try:
        with server:
            pid = server.pid
            raise error
    except error:
        pass
    assert pid is not None
    assert not alive(pid)
    assert not leftovers(tmp_path)


def test_closing_again_is_harmless() -> None:
    """A second close does nothing."""
    with EmbeddedWikidata([]) as server:
        server.close()
        server.close()
        with pytest.raises(EndpointDown, match="does not answer"):
            server.update("INSERT DATA { <urn:a> <urn:b> <urn:c> }")


def test_a_bad_update_is_one_line(settings_for: Make) -> None:
    """A rejected update says why and changes nothing."""
    with EmbeddedWikidata([]) as server:
        with pytest.raises(SourceError, match="rejects the update") as caught:
            server.update("INSERT DATA { <urn:a> <urn:b> }")
        assert "\n" not in str(caught.value)
        assert count(server, settings_for) == 0


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_missing_and_broken_files_are_named(tmp_path: Path, on_disk: bool) -> None:
    """A file that is not there, not N-Triples or cut short is named, and nothing is left running or lying about."""
    with pytest.raises(ConfigError, match=r"absent\.nt"):
        EmbeddedWikidata([tmp_path / "absent.nt"], on_disk=on_disk).__enter__()
    broken, cut = tmp_path / "broken.nt", tmp_path / "cut.nt.gz"
    broken.write_text("this is not a triple\n")
    cut.write_bytes(gzip.compress(TRIPLE.encode())[:-12])
    for file, told in ((broken, r"broken\.nt: .*1"), (cut, r"cut\.nt\.gz: .")):
        with pytest.raises(SourceError, match=told) as caught:
            EmbeddedWikidata([file], on_disk=on_disk).__enter__()
        assert "\n" not in str(caught.value)
    assert not leftovers(tmp_path)


def test_a_taken_port_is_not_the_end(monkeypatch: pytest.MonkeyPatch, settings_for: Make) -> None:
    """When another server takes the free port first, even one that answers, the next port is tried."""
    with serve(Answer()) as stranger:
        ports = [urllib.parse.urlsplit(stranger.url).port]
        real = embedded._free_port
        monkeypatch.setattr(embedded, "_free_port", lambda: ports.pop() if ports else real())
        with EmbeddedWikidata([]) as server:
            assert not ports
            assert count(server, settings_for) == 0


def test_without_the_program_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """No oxigraph beside the interpreter or on the path: one line that names the package."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="oxigraph"):
        EmbeddedWikidata([]).__enter__()


def test_a_server_that_never_starts_is_endpoint_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that exits at once is given up after a few tries, and leaves nothing."""
    monkeypatch.setattr(embedded, "server_program", lambda: "/bin/false")
    with pytest.raises(EndpointDown, match="did not start"):
        EmbeddedWikidata([]).__enter__()
    assert not leftovers(tmp_path)


CHILD = """
import sys, time
from kbsync.source.embedded import EmbeddedWikidata
with EmbeddedWikidata([]) as server:
    print(server.pid, flush=True)
    if sys.argv[1] == "exit":
        sys.exit(0)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, "exit"])
def test_the_server_dies_with_its_parent(how: signal.Signals | str, tmp_path: Path) -> None:
    """However the parent ends, killed without a word too, the server and its folder are gone soon after."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, "exit" if how == "exit" else "sleep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    if isinstance(how, signal.Signals):
        assert alive(pid)
        child.send_signal(how)
    child.wait(20)
    child.stdout.close()
    assert gone_within(pid, 10)
    deadline = time.monotonic() + 5
    while leftovers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not leftovers(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_the_terminals_ctrl_c_does_not_reach_the_server() -> None:
    """The server is in a session of its own: only the parent decides when it stops."""
    with EmbeddedWikidata([]) as server:
        assert server.pid is not None
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) != os.getsid(0)
