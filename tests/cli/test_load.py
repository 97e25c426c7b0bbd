"""`kbsync load`: from a dump into the store, cut off anywhere, and the tail that follows."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.staging import Staging
from kbsync.store import mirror
from kbsync.sync import loading
from tests.cli.conftest import Call, data, error
from tests.stores import chosen, execute

ENTITY = "http://www.wikidata.org/entity/"
DIRECT = "http://www.wikidata.org/prop/direct/"
PREFIXES = """\
@prefix wd: <http://www.wikidata.org/entity/> . @prefix s: <http://www.wikidata.org/entity/statement/> .
@prefix p: <http://www.wikidata.org/prop/> . @prefix ps: <http://www.wikidata.org/prop/statement/> .
@prefix psv: <http://www.wikidata.org/prop/statement/value/> . @prefix wdt: <http://www.wikidata.org/prop/direct/> .
@prefix wikibase: <http://wikiba.se/ontology#> . @prefix schema: <http://schema.org/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
"""
FULL = (
    PREFIXES
    + """
<http://www.wikidata.org> schema:dateModified "2026-03-01T10:00:00Z"^^xsd:dateTime .
wd:P6 rdfs:label "head of government"@en .
wd:Q1 rdfs:label "Donald Tusk"@mul . wd:Q2 rdfs:label "Mateusz Morawiecki"@en . wd:Q11573 rdfs:label "metre"@en .
wd:Q36 rdfs:label "Poland"@en ; schema:version 7 ; schema:dateModified "2026-02-01T00:00:00Z"^^xsd:dateTime ;
  p:P6 s:q36-AAAA, s:Q36-BBBB ; wdt:P6 wd:Q1 ;
  p:P2048 s:Q36-CCCC ; wdt:P2048 "+12"^^xsd:decimal ;
  p:P571 s:Q36-DDDD ; wdt:P571 "0966-01-01T00:00:00Z"^^xsd:dateTime .
s:q36-AAAA ps:P6 wd:Q1 ; wikibase:rank wikibase:PreferredRank ; a wikibase:BestRank .
s:Q36-BBBB ps:P6 wd:Q2 ; wikibase:rank wikibase:NormalRank .
s:Q36-CCCC ps:P2048 "+12"^^xsd:decimal ; psv:P2048 <http://www.wikidata.org/value/h> ;
  wikibase:rank wikibase:NormalRank ; a wikibase:BestRank .
<http://www.wikidata.org/value/h> wikibase:quantityUnit wd:Q11573 .
s:Q36-DDDD ps:P571 "0966-01-01T00:00:00Z"^^xsd:dateTime ; psv:P571 <http://www.wikidata.org/value/t> ;
  wikibase:rank wikibase:NormalRank ; a wikibase:BestRank .
<http://www.wikidata.org/value/t> wikibase:timePrecision 9 .
wd:Q183 rdfs:label "Germany"@en ; schema:version 8 ; schema:dateModified "2026-02-02T00:00:00Z"^^xsd:dateTime ;
  p:P6 s:Q183-AAAA ; wdt:P6 wd:Q2 .
s:Q183-AAAA ps:P6 wd:Q2 ; wikibase:rank wikibase:NormalRank ; a wikibase:BestRank .
"""
)
BARE = "\n".join(
    [
        f'<{ENTITY}Q36> <http://www.w3.org/2000/01/rdf-schema#label> "Poland"@en .',
        f'<{ENTITY}Q183> <http://www.w3.org/2000/01/rdf-schema#label> "Germany"@en .',
        f'<{ENTITY}Q1> <http://www.w3.org/2000/01/rdf-schema#label> "Donald Tusk"@mul .',
        f'<{ENTITY}Q2> <http://www.w3.org/2000/01/rdf-schema#label> "Mateusz Morawiecki"@en .',
        f'<{ENTITY}P6> <http://www.w3.org/2000/01/rdf-schema#label> "head of government"@en .',
        f"<{ENTITY}Q36> <{DIRECT}P6> <{ENTITY}Q1> .",
        f"<{ENTITY}Q183> <{DIRECT}P6> <{ENTITY}Q2> .",
        f'<{ENTITY}Q36> <{DIRECT}P2048> "+12"^^<http://www.w3.org/2001/XMLSchema#decimal> .',
        f'<{ENTITY}Q36> <{DIRECT}P571> "0966-01-01T00:00:00Z"^^<http://www.w3.org/2001/XMLSchema#dateTime> .',
        "",
    ]
)
RELATIONS = '["P6", "P2048", "P571"]'
ROWS = {
    "statements": "SELECT id, subject, relation, value_kind, value, rank, best, start_time, end_time, detail "
    "FROM statements WHERE retired_at IS NULL ORDER BY id",
    "facts": "SELECT subject, relation, value_kind, value, baseline, detail FROM facts WHERE retired_at IS NULL "
    "ORDER BY subject, relation, value",
    "entities": "SELECT id, label, language, revision FROM entities ORDER BY id",
    "readings": "SELECT relation, item, revision FROM readings ORDER BY 1, 2",
    "cursors": "SELECT relation, modified, complete_at IS NOT NULL FROM cursors ORDER BY 1",
    "changes": "SELECT kind, subject, relation, old_value, new_value, outcome FROM changes ORDER BY 2, 3",
}


@pytest.fixture(autouse=True)
def _watched(config: Path) -> None:
    config.write_text(config.read_text().replace('["P6"]', RELATIONS))


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedWikidata]:
    with EmbeddedWikidata([]) as one:
        yield one


@pytest.fixture
def wikidata(server: EmbeddedWikidata, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> EmbeddedWikidata:
    """The full graph, served; the config's endpoint."""
    server.update("CLEAR ALL")
    head, _, body = FULL.partition("\n<http://www.wikidata.org>")
    prefixes = head.replace("@prefix", "PREFIX").replace(" .", "")
    server.update(f"{prefixes} INSERT DATA {{ <http://www.wikidata.org>{body} }}")
    monkeypatch.setenv("KBSYNC_SOURCE__ENDPOINT", server.endpoint)
    return server


def dump(tmp_path: Path, text: str, name: str = "dump.ttl") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def rows(tmp_path: Path, *names: str) -> dict[str, list[Any]]:
    """Rows of the store by what they are."""
    return {name: execute(chosen().url(tmp_path / "kbsync.db"), ROWS[name]) for name in names or ROWS}


def pull(config: Path) -> dict[str, int]:
    """The pull stage of a sync."""
    from kbsync.settings import load_settings
    from kbsync.store import runs
    from kbsync.store.tables import RunStatus
    from kbsync.sync.clock import now
    from kbsync.sync.progress import Silent
    from kbsync.sync.pulling import pull
    from kbsync.sync.workbench import Workbench

    with Workbench(load_settings(config)) as bench, Silent().stage("pull") as task:
        with bench.store.begin() as tx:
            run_id = runs.start_run(tx, "test", now(), {})
        counts = pull(bench, run_id, task)
        with bench.store.begin() as tx:
            runs.finish_run(tx, run_id, RunStatus.UNCHANGED, now())
    return dict(counts)


def test_a_full_dump_is_the_first_pull(
    call: Call, config: Path, tmp_path: Path, wikidata: EmbeddedWikidata
) -> None:
    """The same rows come from the dump as from the endpoint that serves it, and a tail then finds nothing."""
    done = data(call("load", "--json", dump(tmp_path, FULL)))
    assert done["time"] == "2026-03-01T10:00:00Z"
    assert done["relations"]["P6"]["subjects"] == 2
    loaded = rows(tmp_path)
    assert loaded["facts"], "there is something to compare"
    assert ("Q36", "P2048", "quantity", "12", 1, "Q11573") in loaded["facts"]
    counts = pull(config)
    assert counts.get("changes", 0) == 0
    assert rows(tmp_path) == loaded
    chosen().clear(tmp_path / "kbsync.db")
    pull(config)
    assert rows(tmp_path) == loaded
    assert not list((tmp_path / "cache").glob("load-*")), "the scratch file is gone"


def test_a_truthy_dump_gives_way_to_statements_without_a_change(
    call: Call, config: Path, tmp_path: Path, wikidata: EmbeddedWikidata
) -> None:
    """Bare triples get made-up statements; the tail puts the true ones in their place, and no fact changes."""
    done = data(call("load", "--json", "--as-of", "2026-01-15", dump(tmp_path, BARE, "latest-truthy.nt")))
    assert done["relations"]["P6"]["without a statement's record"] == 2
    before = rows(tmp_path)
    assert {row[0].startswith("dump-") for row in before["statements"]} == {True}
    assert ("Q36", "P2048", "quantity", "12", 1, "?") in before["facts"]
    counts = pull(config)
    assert counts.get("changes", 0) == 0
    after = rows(tmp_path)
    assert after["changes"] == before["changes"]
    assert [row[:-1] for row in after["facts"]] == [row[:-1] for row in before["facts"]]
    assert ("Q36", "P2048", "quantity", "12", 1, "Q11573") in after["facts"], "the unit is known now"
    assert ("Q36", "P571", "time", "0966-01-01T00:00:00Z", 1, "9") in after["facts"]
    assert not any(row[0].startswith("dump-") for row in after["statements"])
    reasons = "SELECT DISTINCT retired_reason FROM statements WHERE id LIKE 'dump-%'"
    assert execute(chosen().url(tmp_path / "kbsync.db"), reasons) == [("known by its own record now",)]


def test_what_changed_since_a_truthy_dump_is_one_change(
    call: Call, config: Path, tmp_path: Path, wikidata: EmbeddedWikidata
) -> None:
    """The dump still has the office's former holder: the tail finds one replacement, with how it came about."""
    old = BARE.replace(f"<{ENTITY}Q36> <{DIRECT}P6> <{ENTITY}Q1>", f"<{ENTITY}Q36> <{DIRECT}P6> <{ENTITY}Q2>")
    assert call("load", "--as-of", "2026-01-15", dump(tmp_path, old, "latest-truthy.nt")).exit_code == 0
    assert pull(config)["changes"] == 1
    changes = [row for row in rows(tmp_path, "changes")["changes"] if row[-1] != "baseline"]
    assert changes == [("replaced", "Q36", "P6", "Q2", "Q1", "pending")]


@pytest.mark.parametrize("where", ["reading", "storing", "the last page"])
def test_a_load_that_was_cut_off_goes_on(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Interrupted while reading or storing, the same command ends in the rows of a load that never was."""
    path = dump(tmp_path, BARE, "dump.nt")
    arguments = ("load", "--as-of", "2026-01-15", path)
    assert call(*arguments).exit_code == 0
    whole = rows(tmp_path)
    chosen().clear(tmp_path / "kbsync.db")
    with monkeypatch.context() as patch:
        calls = 0

        def cut(real: Any, at: int) -> Any:
            def act(*args: Any, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == at:
                    raise KeyboardInterrupt
                return real(*args, **more)

            return act

        if where == "reading":
            patch.setattr("kbsync.source.dump.BLOCK", 200)
            patch.setattr(Staging, "add", cut(Staging.add, 3))
        elif where == "storing":
            patch.setattr(mirror, "apply", cut(mirror.apply, 2))
        else:
            patch.setattr(loading.known, "complete_first_pull", cut(loading.known.complete_first_pull, 2))
        assert call(*arguments).exit_code == 130
    assert call(*arguments).exit_code == 0
    assert rows(tmp_path) == whole
    assert execute(chosen().url(tmp_path / "kbsync.db"), "SELECT trigger, status FROM runs ORDER BY id") == [
        ("load", "interrupted"),
        ("load", "unchanged"),
    ]


def test_a_cut_dump_leaves_nothing_behind(call: Call, tmp_path: Path) -> None:
    """Exit code 3, no row of the mirror and no cursor; the run says why."""
    (tmp_path / "cut.nt.gz").write_bytes(gzip.compress(BARE.encode())[:-30])
    failed = call("load", "--json", "--as-of", "2026-01-15", str(tmp_path / "cut.nt.gz"))
    assert error(failed)["kind"] == "BadDump"
    assert failed.exit_code == 3
    assert rows(tmp_path) == {name: [] for name in ROWS}
    assert execute(chosen().url(tmp_path / "kbsync.db"), "SELECT status FROM runs") == [("failed",)]


def test_a_dump_without_a_time_asks_for_one(call: Call, tmp_path: Path) -> None:
    """Where the tail should begin must be known; what was read is not read again."""
    path = dump(tmp_path, BARE, "dump.nt")
    failed = call("load", "--json", path)
    assert failed.exit_code == 2
    assert "--as-of" in error(failed)["message"]
    assert data(call("load", "--json", "--as-of", "2026-01-15T12:00+02:00", path))["time"] == "2026-01-15T10:00:00Z"
    for wrong in ("yesterday", "9999-12-31T23:59-12:00"):
        assert call("load", "--as-of", wrong, path).exit_code == 2


def test_a_relation_that_is_complete_is_left_alone(call: Call, tmp_path: Path) -> None:
    """A second load changes nothing and says so."""
    path = dump(tmp_path, BARE, "dump.nt")
    assert call("load", "--as-of", "2026-01-15", path).exit_code == 0
    before = rows(tmp_path)
    again = data(call("load", "--json", path))
    assert again["complete"] == ["P6", "P2048", "P571"]
    assert again["run"] is None
    assert rows(tmp_path) == before


KINDS = f"""
<{ENTITY}Q36> <{DIRECT}P31> <{ENTITY}Q6256> .
<{ENTITY}Q183> <{DIRECT}P31> <{ENTITY}Q515> .
<{ENTITY}Q6256> <{DIRECT}P279> <{ENTITY}Q7275> .
<{ENTITY}Q7275> <{DIRECT}P279> <{ENTITY}Q56061> .
"""


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('[watch.classes]\nP6 = ["Q56061"]\n', {"Q36"}),
        ('[watch.classes]\nP6 = ["Q515", "Q56061"]\n', {"Q36", "Q183"}),
        ('[watch.classes]\nP6 = ["Q5"]\n', set()),
        ('[watch.subjects]\nP6 = ["Q183", "Q7"]\n', {"Q183"}),
        ("", {"Q36", "Q183"}),
    ],
)
def test_a_filter_chooses_while_it_loads(
    call: Call, config: Path, tmp_path: Path, table: str, expected: set[str]
) -> None:
    """Classes, with those below them wherever they stand in the dump, and lists choose subjects."""
    config.write_text(config.read_text() + table)
    done = data(call("load", "--json", "--as-of", "2026-01-15", dump(tmp_path, KINDS + BARE, "dump.nt")))
    assert done["relations"]["P6"].get("subjects", 0) == len(expected)
    loaded = rows(tmp_path, "facts")["facts"]
    assert {row[0] for row in loaded if row[1] == "P6"} == expected
    assert {row[0] for row in loaded if row[1] == "P2048"} == {"Q36"}, "another relation has no filter"
    listed = data(call("watch", "list", "--json"))["watched"]
    assert [(one["backfill"], one["subjects_read"]) for one in listed if one["relation"] == "P6"] == [
        ("done", len(expected))
    ]


def test_a_pattern_is_left_to_the_endpoint(call: Call, config: Path, tmp_path: Path) -> None:
    """No dump can be asked a pattern: the relation is named, the others are loaded."""
    config.write_text(config.read_text() + '[watch.where]\nP6 = "?item a ?c"\n')
    path = dump(tmp_path, BARE, "dump.nt")
    done = data(call("load", "--json", "--as-of", "2026-01-15", path))
    assert (done["left"], list(done["relations"])) == (["P6"], ["P2048", "P571"])
    assert "left to the endpoint, since a pattern can't be evaluated over a dump: P6" in call("load", path).stdout
