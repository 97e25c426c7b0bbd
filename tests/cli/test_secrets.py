"""A secret, wherever the settings hold one, is in nothing that is told or kept; and log lines name their
run."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result
from sqlalchemy import text

from kbsync.cli.log import set_up
from kbsync.cli.main import cli
from kbsync.store import schema
from kbsync.store.engine import open_store
from kbsync.store.schema import SchemaState
from kbsync.sync.repeating import repeated
from tests.cli.conftest import url_of
from tests.cli.test_failures import run as fail
from tests.store.examples import all_rows

SECRET = "hunter2-Sesame/öffne dich"  # as it would be typed
PLAIN = "hunter2-Sesame0123"  # what a header can carry


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("kbsync")
    before = list(root.handlers), root.level, own.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], root.level, own.level = before


class _Echo(http.server.BaseHTTPRequestHandler):
    """An endpoint that refuses every query, and repeats what it was sent."""

    def do_POST(self) -> None:
        body = f"bad query; you sent {self.headers['Authorization']}, {dict(self.headers)}".encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The URL of such an endpoint."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/sparql"
        server.shutdown()
        thread.join()


PLACES = {
    "token": {"KBSYNC_SOURCE__TOKEN": PLAIN},
    "token of a user": {"KBSYNC_SOURCE__TOKEN": PLAIN, "KBSYNC_SOURCE__USER": "me"},
    "token file": {"KBSYNC_SOURCE__TOKEN_FILE": "token"},
    "database": {"KBSYNC_STORE__URL": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/kbsync"},
    "database, as a parameter": {"KBSYNC_STORE__URL": f"postgresql+psycopg://me@127.0.0.1:1/x?password={PLAIN}"},
    "database for questions": {"KBSYNC_STORE__QUERY_URL": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/kbsync"},
    "scores": {"KBSYNC_TRUST__SCORE_URL": f"https://me:{PLAIN}@localhost/score"},
    "scores, as a parameter": {"KBSYNC_TRUST__SCORE_URL": f"https://localhost/score?api_key={PLAIN}"},
    "a setting that is none": {"KBSYNC_SOURCE__TOKEN": PLAIN, "KBSYNC_SOURCE__NOTHING": "1"},
    "an endpoint with a password": {"KBSYNC_SOURCE__ENDPOINT": f"https://me:{PLAIN}@localhost/sparql"},
}


def leaks(text: str) -> list[str]:
    """Whatever of the secrets a text holds, in any spelling."""
    spelt = ("hunter2", "Sesame", "öffne", "aHVudGVyMi", "bWU6aHVudGVy")
    return [one for one in spelt if one in text]


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_never_told(
    place: str, echo: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on stderr of a sync that fails (its log, its tracebacks), nor by what shows settings, runs and
    state, nor in any byte of the store."""
    monkeypatch.setenv("KBSYNC_SOURCE__ENDPOINT", echo)
    monkeypatch.setenv("KBSYNC_SOURCE__ATTEMPTS", "1")
    (tmp_path / "token").write_text(PLAIN + "\n")
    for name, value in PLACES[place].items():
        monkeypatch.setenv(name, value)

    def told(*words: str) -> Result:
        result = CliRunner().invoke(cli, ["-c", str(config), *words])
        assert leaks(result.stdout + result.stderr) == [], words
        return result

    failed = told("-vv", "sync", "--json")
    assert failed.exit_code in (2, 3, 4)
    assert "Traceback" in failed.stderr
    for words in (["config", "show"], ["config", "show", "--json"], ["status", "--json"], ["sql", "SELECT 1"]):
        told(*words)
    for words in (["doctor", "--offline"], ["reconcile", "--json"], ["history", "Q30"], ["db", "status"]):
        told("-v", *words)
    for file in tmp_path.glob("kbsync.db*"):
        assert leaks(file.read_bytes().decode("utf-8", "replace")) == []
    if schema.check(url_of(config)) is not SchemaState.EMPTY:
        with open_store(url_of(config)) as store, store.read() as tx:
            assert leaks(repr(all_rows(tx))) == []
            reason = str(tx.execute(text("SELECT reason FROM runs")).scalar())
        assert "you sent" in reason
        assert ("***" in reason) == place.startswith("token")


def test_a_failure_without_a_name_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line, its traceback and its JSON."""
    monkeypatch.setenv("KBSYNC_SOURCE__TOKEN", PLAIN)
    result = fail(ZeroDivisionError(f"it was {PLAIN}, or Bearer {PLAIN[::-1]}"), "--json", verbose=1)
    assert "Traceback" in result.stderr
    assert "it was ***" in result.stderr
    assert leaks(result.output) == leaks(result.stderr) == []
    assert PLAIN[::-1] not in result.output


def test_log_lines_have_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever kind of value holds it, and whoever logs: paths, errors, lists, library's arguments."""
    set_up(1, lambda text: text.replace(PLAIN, "***"))
    log = structlog.get_logger("kbsync")
    log.info("values", path=Path(PLAIN), error=ValueError(PLAIN), many=[{PLAIN: (PLAIN,)}], number=3)
    logging.getLogger("library").warning("it sent %s", PLAIN)
    try:
        raise ValueError(PLAIN)
    except ValueError:
        log.exception("it broke")
        logging.getLogger("library").exception("so did it")
    told = capsys.readouterr().err
    assert leaks(told) == []
    assert len(told.splitlines()) == 4
    assert json.loads(told.splitlines()[0])["number"] == 3


def lines_of(result: Result) -> list[dict[str, Any]]:
    """The JSON lines of a log."""
    return [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]


def test_every_line_of_a_run_names_it(echo: str, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its begin and its end, the libraries' lines too; and none after it."""
    monkeypatch.setenv("KBSYNC_SOURCE__ENDPOINT", echo)
    from kbsync.sync import pulling, stages

    def pull(*_: object) -> dict[str, int]:
        pulling.log.warning("one of ours")
        logging.getLogger("library").warning("one of a library's")
        with repeated(lambda: logging.getLogger("library").warning("from a thread"), 0.01, "a thread"):
            threading.Event().wait(0.1)
        raise pulling.SourceError("that is all")

    monkeypatch.setattr(stages, "pull", pull)
    result = CliRunner().invoke(cli, ["-c", str(config), "sync"])
    assert result.exit_code == 3
    told = lines_of(result)
    assert {line["event"] for line in told} >= {"one of ours", "one of a library's", "from a thread"}
    assert {(line["run"], line["stage"]) for line in told} == {(1, "pull")}
    assert structlog.contextvars.get_contextvars() == {}
