"""`kbsync token`: shown once, listed without its text, revoked by name; and what `kbsync status` must not load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kbsync.store import tokens
from kbsync.store.engine import open_store
from tests.cli.conftest import Call, data, error, url_of


def test_made_listed_and_revoked(told: Call, config: Path) -> None:
    """The text is alone on stdout, so that it can be piped into a file."""
    made = told("token", "add", "deploy")
    assert made.exit_code == 0
    text = made.stdout.strip()
    assert "can't be shown again" in made.stderr
    with open_store(url_of(config)) as store, store.read() as tx:
        found = tokens.find(tx, text)
    assert found is not None
    assert found.may_write
    assert data(told("token", "add", "reads", "--read-only", "--json"))["may_write"] is False
    listed = told("token", "list")
    assert "read and write" in listed.stdout
    assert text not in listed.stdout
    assert [one["name"] for one in data(told("token", "list", "--json"))["tokens"]] == ["deploy", "reads"]
    assert told("token", "revoke", "deploy").stdout == "token deploy is void\n"
    assert data(told("token", "revoke", "reads", "--json"))["revoked_at"].endswith("Z")
    assert error(told("token", "revoke", "deploy", "--json"))["kind"] == "ConfigError"


def test_looking_loads_no_server(told: Call, config: Path) -> None:
    """`kbsync status` is quick: no web framework is imported for it."""
    code = (
        "import sys, json\n"
        "from kbsync.cli.main import cli\n"
        f"code = cli.main(['-c', {str(config)!r}, 'status', '--json'], standalone_mode=False)\n"
        "names = ('fastapi', 'starlette', 'uvicorn', 'prometheus_client')\n"
        "print(json.dumps([code, [name for name in names if name in sys.modules]]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == [0, []]
