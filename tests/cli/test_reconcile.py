"""`kbsync reconcile` says what differed, names what it kept, and shows in `kbsync status`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kbsync.cli.main import cli
from kbsync.source.embedded import EmbeddedWikidata
from tests.cli.conftest import Call, data, url_of
from tests.source.bench import tail, workbench
from tests.source.triples import delete, insert, lag, statement


@pytest.fixture(scope="module")
def wikidata() -> Iterator[EmbeddedWikidata]:
    """Six countries with a head of government each."""
    with EmbeddedWikidata([]) as server:
        for n in range(6):
            insert(server, statement(f"Q{10 + n}", "A", "P6", f"wd:Q{20 + n}"))
        insert(server, 'wd:P6 rdfs:label "head of government"@en . wd:Q12 schema:version 3 .')
        lag(server, datetime(2024, 1, 1, tzinfo=UTC))
        yield server


def call(folder: Path, server: EmbeddedWikidata, *words: str) -> Result:
    """Run a command on the store in `folder`."""
    config = folder / "kbsync.toml"
    config.write_text(
        f'[source]\nendpoint = "{server.endpoint}"\ncontact = "tests"\nattempts = 1\n'
        f'[watch]\nrelations = ["P6"]\n[store]\nurl = "{url_of(config)}"\n'
    )
    return CliRunner().invoke(cli, ["-c", str(config), *words])


def test_what_differed_and_what_was_kept(tmp_path: Path, wikidata: EmbeddedWikidata) -> None:
    """A deleted statement is counted and shown; a relation that is gone is kept by name, with code 3."""
    with workbench(tmp_path, wikidata.endpoint, ["P6"]) as bench:
        tail(bench)
    delete(wikidata, "wd:Q12 p:P6 ?s . ?s ?p ?o")
    shown = call(tmp_path, wikidata, "reconcile", "--alone")
    assert shown.exit_code == 0, shown.output
    assert "deleted statement" in shown.stdout
    assert "nothing retired" not in shown.stdout
    found = data(call(tmp_path, wikidata, "status", "--json"))["reconcile"]
    assert (found["relations"], found["kept"]) == (1, {})
    assert found["divergences"]["deleted statement"] == 1
    assert found["divergences"]["late item"] == 0
    assert "1 deleted statement" in call(tmp_path, wikidata, "status").stdout

    delete(wikidata, "?i p:P6 ?s . ?s ?p ?o")
    kept = call(tmp_path, wikidata, "reconcile", "--alone", "--json")
    assert kept.exit_code == 3
    told = json.loads(kept.stdout)
    assert told["error"]["kind"] == "SourceError"
    assert [(one["relation"], one["outcome"]) for one in told["relations"]] == [("P6", "shrank")]
    assert "nothing was retired in P6: shrank" in kept.stderr
    assert "nothing retired in P6" in call(tmp_path, wikidata, "status").stdout


def test_a_relation_that_is_not_watched(told: Call) -> None:
    """An error of the arguments, before anything is asked."""
    result = told("reconcile", "P35")
    assert result.exit_code == 2
    assert "P35 is not one of the watched relations" in result.stderr


def test_status_before_the_first(told: Call) -> None:
    """Nothing was compared yet, and how to."""
    assert data(told("status", "--json"))["reconcile"] is None
    assert "never; `kbsync reconcile` makes one" in told("status").stdout
