"""Everything that is answered over HTTP, asked of a real server."""

from __future__ import annotations

import http.client
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text

from kbsync.errors import StoreError
from kbsync.serve.guard import MOST_BYTES
from kbsync.serve.rules import TRIES
from kbsync.serve.view import view_of
from kbsync.settings import Settings
from kbsync.store import daemons, tokens
from kbsync.store.engine import Store
from kbsync.sync import overview
from kbsync.sync.clock import now
from tests.serve.conftest import Client, MakeToken, serving, settings_of
from tests.stores import Stores

READS = ("/status", "/runs", "/runs/1", "/held", "/metrics", "/openapi.json")
WRITES = ("/trigger", "/reconcile", "/approve", "/reject")


def up(store: Store) -> None:
    """A daemon leads, as far as the store knows."""
    with store.begin() as tx:
        daemons.start(tx, "elsewhere", 1, now())


def test_status(ask: Client) -> None:
    """What `kbsync status` shows: the live model, the last runs, what the store holds."""
    found = ask("/status?runs=2").data
    assert found["role"] == "server"
    assert found["live"]["checkpoint"] == "model-1"
    assert [run["run"] for run in found["runs"]] == [3, 2]
    assert found["runs"][0]["started_at"] == "2024-03-01T14:00:00Z"
    assert found["held"] == {"no label": 1}
    assert "store" not in found
    # as `kbsync status --json` has it
    assert found["room"] == {
        "facts": 0, "capacity": None, "low": 0.0, "high": None, "rule": None, "headroom": None,
        "keeps": None, "warnings": [],
    }  # fmt: skip


def test_runs(ask: Client) -> None:
    """The list, and one run with its stages, metrics and verdicts; one that is not there is a 404."""
    assert [run["run"] for run in ask("/runs?limit=2").data["runs"]] == [3, 2]
    one = ask("/runs/1").data
    assert one["status"] == "published"
    assert [stage["stage"] for stage in one["stages"]][:2] == ["pull", "plan"]
    assert {"name": "efficacy_success", "phase": "after", "value": 1.0, "count": 1} in one["metrics"]
    assert one["verdicts"][0]["passed"] is True
    for missing in ("/runs/99", "/runs/0", f"/runs/{2**70}"):
        answer = ask(missing)
        assert answer.status == 404
        assert answer.data["error"]["kind"] == "NotFound"


def test_held(ask: Client) -> None:
    """What waits, with the ids that decisions take, and only for one reason where one is named."""
    assert ask("/held").data["changes"][0]["id"] == "h1"
    assert ask("/held?reason=no%20label").data == {
        **ask("/held?reason=no%20label").data, "changes": [], "runs": [],
    }  # fmt: skip
    assert len(ask("/held?reason=no%20label").data["facts"]) == 1


@pytest.mark.parametrize("path", ["/nothing", "/runs/one", "/runs?limit=0", "/status?runs=x"])
def test_wrong_questions(ask: Client, path: str) -> None:
    """A path or a number that is none is told in the shape of all errors, without a word of the inside."""
    answer = ask(path)
    assert answer.status in (404, 422)
    assert set(answer.data) == {"error"}
    assert set(answer.data["error"]) == {"kind", "message"}


def test_a_trigger(ask: Client, told: Store, token: MakeToken) -> None:
    """It is a row that says which token asked, and can be followed; without a daemon nothing is left behind."""
    secret = token("deploy")
    refused = ask("/trigger", "POST", secret)
    assert refused.status == 503
    assert refused.data["error"]["kind"] == "NotRunning"
    up(told)
    asked = ask("/trigger", "POST", secret)
    assert asked.status == 202
    assert asked.data == {"trigger": 1}
    assert ask("/reconcile", "POST", secret).data == {"trigger": 2}
    followed = ask("/triggers/2").data
    assert followed == {"trigger": 2, "wants": "reconcile", "run": None, "done_at": None}
    assert ask("/triggers/3").status == 404
    with told.read() as tx:
        assert overview.rows(tx, "SELECT requested_by FROM triggers")[0]["requested_by"] == "token deploy"


def test_decisions(ask: Client, told: Store, token: MakeToken) -> None:
    """Approve and reject do what the commands do, in the token's name; a wrong id decides nothing."""
    secret = token()
    wrong = ask("/approve", "POST", secret, {"ids": ["h1", "h99"]})
    assert wrong.status == 400
    assert "h99" in wrong.data["error"]["message"]
    done = ask("/reject", "POST", secret, {"ids": ["h1"], "why": "a hoax"})
    assert done.status == 200
    assert done.data["rejected"][0]["id"] == "h1"
    assert ask("/approve", "POST", secret, {"ids": ["h1"]}).data["approved"][0]["way"] == "enter"
    with told.read() as tx:
        rows = overview.rows(tx, "SELECT by, why, approved FROM trust_decisions ORDER BY id")
    assert [(one["by"], one["why"], bool(one["approved"])) for one in rows] == [
        ("token deploy", "a hoax", False), ("token deploy", None, True),
    ]  # fmt: skip
    for body in ({"ids": []}, {"ids": ["h1"], "whom": 1}, {"ids": "h1"}, b"{", b""):
        assert ask("/approve", "POST", secret, body).status == 422


@pytest.mark.parametrize("path", WRITES)
def test_writing_needs_a_token(ask: Client, told: Store, token: MakeToken, path: str) -> None:
    """No token, a wrong one, one that may only read and one that was revoked are all refused alike."""
    up(told)
    reads, gone = token("reads", may_write=False), token("gone")
    with told.begin() as tx:
        tokens.revoke(tx, "gone", now())
    answers = [ask(path, "POST", one, {"ids": ["h1"]}) for one in (None, "kbsync_wrong", reads, gone)]
    assert {(one.status, one.body) for one in answers} == {
        (401, b'{"error": {"kind": "Unauthorized", "message": "a token is needed"}}')
    }
    assert answers[0].headers["www-authenticate"] == "Bearer"
    with told.read() as tx:
        assert overview.rows(tx, "SELECT * FROM triggers") == []
        assert overview.rows(tx, "SELECT * FROM trust_decisions") == []


def test_methods_that_nobody_has_thought_of_need_one_too(ask: Client) -> None:
    """Whatever is not a plain read is a write."""
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
        assert ask("/status", method).status == 401


def test_a_failed_try_is_logged_without_the_token(ask: Client) -> None:
    """Who, where and why; never what was sent."""
    with structlog.testing.capture_logs() as logs:
        ask("/trigger", "POST", "kbsync_hush")
        ask("/%1b%5b2J", "POST")
    assert [one["why"] for one in logs] == ["unknown or void token", "no token"]
    assert logs[0]["address"] == "127.0.0.1"
    assert logs[0]["path"] == "/trigger"
    assert logs[1]["path"] == "/%1b%5b2J"
    assert "hush" not in repr(logs)


def test_wrong_tokens_are_slowed(ask: Client, token: MakeToken) -> None:
    """After some in a row none of that address is looked at for a while, not even a right one."""
    secret = token()
    codes = [ask("/trigger", "POST", f"wrong {number}").status for number in range(TRIES)]
    assert set(codes) == {401}
    answer = ask("/trigger", "POST", secret)
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 7
    assert ask("/status").status == 200, "reading without a token goes on"


def test_on_loopback_reading_needs_none(ask: Client) -> None:
    """Everything that only looks is open there."""
    assert {ask(path).status for path in READS} == {200}


def test_elsewhere_reading_needs_one(settings: Settings, tmp_path: Path, token: MakeToken) -> None:
    """On an address that others reach reading takes a token, but for whether it is alive and ready."""
    secret = token("prometheus", may_write=False)
    settings = settings_of(settings.store.url, tmp_path, host="0.0.0.0")
    with serving(view_of(settings)) as ask:
        assert {ask(path).status for path in READS} == {401}
        assert {ask(path, token=secret).status for path in READS} == {200}
        assert ask("/healthz").data == {"status": "alive"}
        assert ask("/readyz").data == {"status": "not ready"}, "why is for those who may read"
        assert "not there" in ask("/readyz", token=secret).data["reasons"][0]
        assert ask("/status", headers={"Host": "kbsync"}).status == 400


def test_elsewhere_reading_may_be_opened(settings: Settings, tmp_path: Path) -> None:
    """The clear opt-out opens reading; writing stays shut."""
    url = settings.store.url
    settings = settings_of(url, tmp_path, host="0.0.0.0", open_reads=True, allowed_hosts=["kbsync"])
    with serving(view_of(settings)) as ask:
        assert ask("/status", headers={"Host": "kbsync:8420"}).status == 200
        assert ask("/trigger", "POST").status == 401


def test_a_page_of_a_stranger(ask: Client) -> None:
    """A name that is not ours is refused (DNS rebinding), before any token; no answer allows other origins."""
    answer = ask("/status", headers={"Host": "evil.example"})
    assert answer.status == 400
    answer = ask("/status", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


def test_large_bodies(ask: Client, token: MakeToken) -> None:
    """One that says that it is too large is not read; one that doesn't say is cut off."""
    secret = token()
    assert ask("/approve", "POST", secret, b" " * (MOST_BYTES + 1)).status == 413
    assert ask("/approve", "POST", secret, headers={"Content-Length": "x"}).status == 400
    connection = http.client.HTTPConnection("127.0.0.1", ask.port, timeout=30)
    connection.request(
        "POST", "/approve", body=iter([b" " * 8192] * 9), encode_chunked=True,
        headers={"Transfer-Encoding": "chunked", "Authorization": f"Bearer {secret}"},
    )  # fmt: skip
    assert connection.getresponse().status == 413
    connection.close()


def test_nonsense_leaves_the_server_alive(ask: Client) -> None:
    """Bytes that are no request end their own connection only."""
    for raw in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST /trigger HTTP/1.1\r\n",
    ):
        with socket.create_connection(("127.0.0.1", ask.port), timeout=5) as wire:
            wire.sendall(raw)
            wire.shutdown(socket.SHUT_WR)
            assert b"Traceback" not in wire.recv(65536)
    assert ask("/healthz").status == 200


def test_a_failure_without_a_name(ask: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has named is a 500 that tells nothing, and a line in the log that does."""

    def fail(*args: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(overview, "held", fail)
    with structlog.testing.capture_logs() as logs:
        answer = ask("/held")
    assert answer.status == 500
    assert answer.data["error"]["kind"] == "InternalError"
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert "secret inside" in logs[0]["error"]


def test_a_failure_with_a_name_tells_no_secret(
    told: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stores: Stores
) -> None:
    """Its words are told, without what is known to be a secret and what has the form of one."""
    monkeypatch.setenv("KBSYNC_SOURCE__TOKEN", "hunter2-known")

    def fail(*args: object) -> None:
        raise StoreError("it is hunter2-known at postgresql://me:hunter2@host/db")

    monkeypatch.setattr(overview, "held", fail)
    with serving(view_of(settings_of(stores.url(tmp_path / "kbsync.db"), tmp_path))) as client:
        answer = client("/held")
    assert answer.data["error"]["message"] == "it is *** at postgresql://me:***@host/db"


def test_the_store_goes_and_comes_back(ask: Client, token: MakeToken, stores: Stores, tmp_path: Path) -> None:
    """While it can't be read, reads are a 503 with the reason, and so is a token; then all is as before."""
    secret = token()
    ask.view.door.close()
    with stores.away(tmp_path / "kbsync.db"):
        assert ask("/status").status == 503
        assert ask("/status").data["error"]["kind"] == "StoreError"
        assert ask("/trigger", "POST", secret).status == 503
    assert ask("/status").status == 200


def test_healthy_and_ready(ask: Client, told: Store, tmp_path: Path) -> None:
    """Alive always; ready once the live model's folder is there."""
    assert (ask("/healthz").status, ask("/healthz").data) == (200, {"status": "alive", "reasons": []})
    assert ask("/readyz").status == 503
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    with told.begin() as tx:
        tx.execute(text("UPDATE checkpoints SET path = :path"), {"path": str(folder)})
    assert (ask("/readyz").status, ask("/readyz").data) == (200, {"status": "ready", "reasons": []})


def test_trust_waits_until(ask: Client, told: Store) -> None:
    """Times in answers are ISO 8601 in UTC."""
    at = datetime.now(UTC) - timedelta(hours=1)
    with told.begin() as tx:
        daemons.start(tx, "elsewhere", 1, at)
    assert ask("/status").data["daemon"]["beat_at"].endswith("Z")
