"""`kbsync db` tells how a store's schema stands, and brings it up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from kbsync.store import schema
from tests.cli.conftest import Call, data, error, url_of
from tests.stores import execute


def test_upgrade_lays_an_empty_store_out(call: Call) -> None:
    """From nothing to a store that the check is content with; a second time there is nothing to do."""
    assert "no tables yet" in error(call("db", "check", "--json"))["message"]
    assert data(call("db", "upgrade", "--json")) == {"before": "empty", "now": "current"}
    assert data(call("db", "check", "--json")) == {"state": "current"}
    assert "nothing to do" in call("db", "upgrade").stdout
    assert "is up to date" in call("db", "check").stdout


def test_an_older_store(told: Call, config: Path) -> None:
    """The check names the command that helps, and it helps."""
    url = url_of(config)
    schema.downgrade(url)
    with pytest.raises(DBAPIError, match="runs"):
        execute(url, "SELECT * FROM runs")
    assert told("db", "check").exit_code == 4
    assert "is up to date now" in told("db", "upgrade").stdout
    assert told("db", "check").exit_code == 0


@pytest.mark.parametrize(("version", "words"), [("ffff", "newer schema"), (None, "another program")])
def test_what_cannot_be_upgraded(call: Call, config: Path, version: str | None, words: str) -> None:
    """A newer store, and another program's, are left alone."""
    execute(url_of(config), "CREATE TABLE theirs (x INTEGER)")
    if version:
        execute(url_of(config), f"CREATE TABLE {schema.VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)")
        execute(url_of(config), f"INSERT INTO {schema.VERSION_TABLE} VALUES (:version)", version=version)
    for command in ("check", "upgrade"):
        result = call("db", command, "--json")
        assert error(result)["kind"] == "SchemaMismatch"
        assert result.exit_code == 4
        assert words in result.stderr
