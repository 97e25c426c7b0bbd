"""The full pass against a real server: what it finds, heals, counts, and what it leaves alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from kbsync.errors import ConfigError, EndpointDown, Stopped
from kbsync.facts import ChangeKind, DivergenceKind, Fact, Value, ValueKind
from kbsync.source import reconcile as full
from kbsync.source.client import Row, SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.store import known, reconciles
from kbsync.store.tables import RunStatus
from kbsync.sync import asking
from kbsync.sync.reconcile import ReconcileReport, reconcile_once
from kbsync.sync.workbench import Workbench
from tests.source.bench import found_by, tail, workbench
from tests.source.triples import delete, edited, insert, lag, stamp, statement

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def filled(wikidata: EmbeddedWikidata) -> EmbeddedWikidata:
    """Thirty countries Q100 … with a head of government each, Q200 …, and ten with a head of state, as of T0."""
    turtle = ['wd:P6 rdfs:label "head of government"@en . wd:P35 rdfs:label "head of state"@en .']
    for n in range(30):
        turtle.append(statement(f"Q{100 + n}", "A", "P6", f"wd:Q{200 + n}"))
        if n < 10:
            turtle.append(statement(f"Q{100 + n}", "S", "P35", f"wd:Q{200 + n}"))
        turtle.append(
            f'wd:Q{100 + n} rdfs:label "country {n}"@en ; schema:version {n + 1} ; '
            f'schema:dateModified {stamp(T0 - HOUR)} . wd:Q{200 + n} rdfs:label "person {n}"@en .'
        )
    insert(wikidata, " ".join(turtle))
    lag(wikidata, T0)
    return wikidata


@pytest.fixture
def bench(filled: EmbeddedWikidata, tmp_path: Path) -> Iterator[Workbench]:
    """A store after its first pull."""
    with workbench(tmp_path, filled.endpoint, ["P6", "P35"], page_size=7, overlap_s=0) as one:
        tail(one)
        yield one


def found(report: ReconcileReport) -> dict[str, int]:
    """The kinds that there were."""
    return {str(kind): count for kind, count in report.divergences.items() if count}


def facts(bench: Workbench) -> set[tuple[str, str]]:
    """(subject, object) of P6."""
    with bench.store.read() as tx:
        return {(one.fact.subject, one.fact.value.text) for one in known.known_facts(tx, ["P6"])}


def rows(bench: Workbench, sql: str) -> list[tuple[object, ...]]:
    with bench.store.read() as tx:
        return [tuple(row) for row in tx.execute(text(sql))]


def drop(server: EmbeddedWikidata, item: str, *keys: str) -> None:
    """Statements of an item go, in silence."""
    for key in keys:
        delete(server, f"?i ?p s:{item}-{key}")
        delete(server, f"s:{item}-{key} ?p ?o")


def test_nothing_differs_after_a_healthy_tail(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """After a tail that saw an edit, a deletion, a merge and a newcomer: zero of every kind, in SQL too."""
    drop(filled, "Q101", "A")
    insert(filled, statement("Q101", "B", "P6", "wd:Q229"))
    edited(filled, "Q101", 90, T0 + HOUR)
    drop(filled, "Q102", "A", "S")
    delete(filled, "wd:Q102 ?p ?o")
    drop(filled, "Q103", "A", "S")
    delete(filled, "wd:Q103 ?p ?o")
    insert(filled, "wd:Q103 owl:sameAs wd:Q104 .")
    insert(filled, statement("Q150", "A", "P6", "wd:Q229"))
    insert(filled, f"wd:Q150 schema:version 1 ; schema:dateModified {stamp(T0 + HOUR)} .")
    lag(filled, T0 + 2 * HOUR)
    tail(bench)
    done = reconcile_once(bench, alone=True)
    assert done.status is RunStatus.RECONCILED
    assert [(one.relation, one.outcome, one.subjects, one.statements) for one in done.relations] == [
        ("P6", "complete", 29, 29),
        ("P35", "complete", 8, 8),
    ]
    assert found(done) == {}
    counted = rows(bench, f"SELECT kind, count FROM divergences WHERE run_id = {done.run_id} AND relation = 'P6'")
    assert sorted(counted) == sorted((str(kind), 0) for kind in DivergenceKind)
    assert found_by(bench, done.run_id) == []


def test_each_kind_is_found_and_healed(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """What no tail could see, in a world whose dates never moved: named, counted, healed, gone the next time."""
    drop(filled, "Q101", "A")  # the last statement of P6, in silence
    drop(filled, "Q102", "A", "S")
    delete(filled, "wd:Q102 ?p ?o")  # deleted item
    drop(filled, "Q103", "A", "S")
    delete(filled, "wd:Q103 ?p ?o")
    insert(filled, "wd:Q103 owl:sameAs wd:Q104 .")  # merged, its statement moved
    insert(filled, statement("Q104", "M", "P6", "wd:Q203"))
    delete(filled, "wd:Q205 rdfs:label ?l")
    insert(filled, "wd:Q205 owl:sameAs wd:Q206 .")  # merged object of Q105 A and S
    delete(filled, 'wd:Q107 rdfs:label "country 7"@en')
    insert(filled, 'wd:Q107 rdfs:label "Country Seven"@en .')
    delete(filled, "wd:Q208 rdfs:label ?l")
    insert(filled, 'wd:Q208 rdfs:label "Person Eight"@en .')
    delete(filled, "wd:P6 rdfs:label ?l")
    insert(filled, 'wd:P6 rdfs:label "prime minister"@en .')
    delete(filled, "s:Q109-A wikibase:rank ?r . s:Q109-A a wikibase:BestRank")
    insert(filled, "s:Q109-A wikibase:rank wikibase:DeprecatedRank .")
    delete(filled, "s:Q110-A ps:P6 ?v")
    insert(filled, "s:Q110-A ps:P6 wd:Q229 .")
    insert(filled, f"s:Q111-A pq:P580 {stamp(T0)} .")
    insert(filled, statement("Q112", "B", "P6", "wd:Q229"))
    insert(filled, statement("Q160", "A", "P6", "wd:Q228") + 'wd:Q160 rdfs:label "late"@en ; schema:version 1 .')
    done = reconcile_once(bench, alone=True)
    assert done.reason is None
    assert found(done) == {
        "deleted statement": 1,
        "deleted item": 2,  # once in each relation
        "merged subject": 2,
        "merged object": 2,
        "late item": 1,
        "late statement": 2,
        "replaced value": 1,
        "rank": 1,
        "qualifiers": 1,
        "label": 3,
    }
    assert {("Q104", "Q203"), ("Q104", "Q204"), ("Q105", "Q206"), ("Q110", "Q229"), ("Q112", "Q229")} <= facts(
        bench
    )
    assert not {one for one, _ in facts(bench)} & {"Q101", "Q102", "Q103", "Q109"}
    details = rows(
        bench, "SELECT kind, subject, was, found, subject_label FROM divergent_facts WHERE relation = 'P6'"
    )
    assert ("merged subject", "Q103", "1 statements", "Q104", "country 3") in details
    assert ("merged object", "Q105", "Q205", "Q206", "country 5") in details
    assert ("label", "Q208", "person 8", "Person Eight", "Person Eight") in details
    reasons = {c.subject: c.reason for c in found_by(bench, done.run_id) if c.kind is ChangeKind.RETIRED}
    assert reasons == {
        "Q101": "deleted", "Q102": "item deleted", "Q103": "redirected to Q104", "Q109": "deprecated",
    }  # fmt: skip
    again = reconcile_once(bench, alone=True)
    assert found(again) == {}
    assert found_by(bench, again.run_id) == []


def test_an_item_that_is_back(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """A deleted item is undeleted with its old revision and date: its facts live again, and so does a statement."""
    drop(filled, "Q120", "A")
    delete(filled, "wd:Q120 ?p ?o")
    drop(filled, "Q121", "A")
    lag(filled, T0 + HOUR)
    tail(bench)
    assert not {one for one, _ in facts(bench)} & {"Q120", "Q121"}
    insert(filled, statement("Q120", "A", "P6", "wd:Q220"))
    insert(
        filled, f'wd:Q120 rdfs:label "country 20"@en ; schema:version 21 ; schema:dateModified {stamp(T0 - HOUR)} .'
    )
    insert(filled, statement("Q121", "A", "P6", "wd:Q221"))
    lag(filled, T0 + 2 * HOUR)
    assert tail(bench) == []
    done = reconcile_once(bench)
    assert found(done) == {"undeleted item": 1, "returned statement": 1}
    assert {("Q120", "Q220"), ("Q121", "Q221")} <= facts(bench)


def test_edits_while_it_reads_are_no_divergences(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """What is edited after the endpoint's time was read is stored and counted apart."""
    insert(filled, statement("Q125", "B", "P6", "wd:Q229"))
    edited(filled, "Q125", 99, T0 + HOUR)
    done = reconcile_once(bench, alone=True)
    assert found(done) == {}
    assert done.counts["edited meanwhile"] == 1
    assert ("Q125", "Q229") in facts(bench)


def test_it_pulls_the_tail_first(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """Without `alone`, what changed since the last pull is the tail's, and no divergence; the cursor goes on."""
    drop(filled, "Q126", "A")
    edited(filled, "Q126", 99, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    done = reconcile_once(bench, relations=["P6"])
    assert found(done) == {}
    assert [c.subject for c in found_by(bench, done.run_id)] == ["Q126"]
    with bench.store.read() as tx:
        assert known.cursor(tx, "P6").modified == T0 + 2 * HOUR  # type: ignore[union-attr]
        assert known.cursor(tx, "P35").modified == T0  # type: ignore[union-attr]


def test_a_relation_that_shrank_retires_nothing(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """Most of P6 is gone at once: it is kept and named, with what came stored all the same; P35 is compared."""
    for n in range(25):
        drop(filled, f"Q{100 + n}", "A")
    insert(filled, statement("Q129", "B", "P6", "wd:Q200"))
    drop(filled, "Q100", "S")
    before = facts(bench)
    done = reconcile_once(bench, alone=True)
    (kept,) = done.kept
    assert (kept.relation, kept.outcome) == ("P6", "shrank")
    assert kept.reason == "25 of 30 known statements are gone, more than source.max_shrink (0.2) allows"
    assert facts(bench) == before | {("Q129", "Q200")}
    assert found(done) == {"late statement": 1, "deleted statement": 1}
    assert done.reason is not None
    assert "nothing was retired in P6: shrank" in done.reason
    told = rows(bench, f"SELECT outcome, reason FROM reconciles WHERE run_id = {done.run_id} ORDER BY relation")
    assert told == [("complete", None), ("shrank", kept.reason)]
    bench.settings = bench.settings.model_copy(
        update={"source": bench.settings.source.model_copy(update={"max_shrink": 1.0})}
    )
    believed = reconcile_once(bench, alone=True)
    assert found(believed) == {"deleted statement": 25}
    assert len(facts(bench)) == 6


class Capped(SparqlClient):
    """A client of an endpoint that shows only the first subjects of P6, whatever comes after them."""

    pages = 0

    def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
        """Answer, but leave out what the cap cuts."""
        answer = super().select(query, can_shrink=can_shrink)
        if "SELECT DISTINCT ?item WHERE { ?item p:P6 ?any" in query:
            self.pages += 1
            return answer[:7] if self.pages == 1 else []
        return answer


class Failing(Capped):
    """One that fails there."""

    def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
        """Answer once."""
        if "SELECT DISTINCT ?item WHERE { ?item p:P6 ?any" in query and self.pages:
            raise EndpointDown("the endpoint took longer than 20 s")
        return super().select(query, can_shrink=can_shrink)


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (Capped, "the snapshot lacks 22 known subjects that still have it, such as Q108"),
        (Failing, "the endpoint took longer than 20 s"),
    ],
)
def test_an_incomplete_snapshot_retires_nothing(
    bench: Workbench, filled: EmbeddedWikidata, monkeypatch: pytest.MonkeyPatch, client: type, reason: str
) -> None:
    """A snapshot that ends early, or breaks off: named, nothing retired, and the others are compared."""
    monkeypatch.setattr(asking, "SparqlClient", client)
    drop(filled, "Q101", "A", "S")
    before = facts(bench)
    done = reconcile_once(bench, alone=True)
    assert [(one.relation, one.outcome, one.reason) for one in done.kept] == [("P6", "incomplete", reason)]
    assert facts(bench) == before
    assert found(done) == {"deleted statement": 1}


def test_a_statement_that_is_still_known_is_not_retired(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """A statement that its item lost while it is there by its id: the endpoint contradicts itself, so it stays."""
    delete(filled, "wd:Q101 p:P6 s:Q101-A")
    done = reconcile_once(bench, alone=True)
    assert found(done) == {}
    assert done.counts["kept: its statement is still there"] == 1
    assert ("Q101", "Q201") in facts(bench)


def test_a_pass_that_is_cut_off_goes_on(
    filled: EmbeddedWikidata, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relations that were complete are not read again; what was healed before the cut is counted in the end."""
    insert(filled, statement("Q101", "B", "P6", "wd:Q229") + statement("Q100", "T", "P35", "wd:Q229"))

    def cut(*args: object) -> set[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            full, "with_statements", lambda client, relation, items, subjects: cut() if relation == "P35" else set()
        )
        with pytest.raises(Stopped):
            reconcile_once(bench, alone=True)
    assert rows(bench, "SELECT status FROM runs ORDER BY id DESC LIMIT 1") == [("interrupted",)]
    done = reconcile_once(bench, alone=True)
    assert [one.relation for one in done.relations] == ["P35"]
    assert list(done.skipped) == ["P6"]
    assert found(done) == {"late statement": 1}
    total = Counter(dict(rows(bench, "SELECT relation, SUM(count) FROM divergences GROUP BY relation")))  # type: ignore[arg-type]
    assert total == {"P6": 1, "P35": 1}
    anew = reconcile_once(bench, alone=True)
    assert [one.relation for one in anew.relations] == ["P6", "P35"]


def test_an_endpoint_that_is_away_ends_the_pass(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers: the run fails by name, and no relation is called complete."""

    class Away(SparqlClient):
        def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
            raise EndpointDown("gone")

    monkeypatch.setattr(asking, "SparqlClient", Away)
    with pytest.raises(EndpointDown):
        reconcile_once(bench)
    assert rows(bench, "SELECT status, reason FROM runs ORDER BY id DESC LIMIT 1") == [("failed", "gone")]
    assert rows(bench, "SELECT COUNT(*) FROM reconciles") == [(0,)]


def test_relations_that_are_not_there_to_compare(filled: EmbeddedWikidata, tmp_path: Path) -> None:
    """One that is not watched is an error; one without a first pull is named, or pulled first."""
    (tmp_path / "fresh").mkdir()
    with workbench(tmp_path / "fresh", filled.endpoint, ["P6"]) as fresh:
        with pytest.raises(ConfigError, match="P35 is not one of"):
            reconcile_once(fresh, relations=["P35"])
        (one,) = reconcile_once(fresh, alone=True).kept
        assert one.outcome == "not pulled yet"
        (one,) = reconcile_once(fresh).relations
        assert (one.outcome, one.reason) == ("complete", "first pull")
        assert len(facts(fresh)) == 30


def test_a_server_that_is_behind_is_not_compared(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """An endpoint that has not got as far as the cursor says nothing about what is gone."""
    lag(filled, T0 - HOUR)
    drop(filled, "Q101", "A")
    done = reconcile_once(bench)
    assert {one.outcome for one in done.kept} == {"behind"}
    assert ("Q101", "Q201") in facts(bench)


def test_the_last_one_is_known(bench: Workbench) -> None:
    """The store tells the last reconcile that reached its end, with its counts."""
    with bench.store.read() as tx:
        assert reconciles.latest(tx) is None
    done = reconcile_once(bench, alone=True)
    with bench.store.read() as tx:
        last = reconciles.latest(tx)
    assert last is not None
    assert last.run_id == done.run_id
    assert last.counts == dict.fromkeys(DivergenceKind, 0)


def test_merged_objects_move_in_the_tail_too(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """A subject that the tail reads says what its merged object is now, through a redirect of a redirect."""
    delete(filled, "wd:Q205 rdfs:label ?l")
    insert(filled, "wd:Q205 owl:sameAs wd:Q305 . wd:Q305 owl:sameAs wd:Q206 .")
    edited(filled, "Q105", 90, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    moved = {(c.subject, c.relation): (c.old, c.new) for c in tail(bench)}
    value = Value(ValueKind.ITEM, "Q205"), Value(ValueKind.ITEM, "Q206")
    assert moved == {("Q105", "P6"): value, ("Q105", "P35"): value}
    with bench.store.read() as tx:
        assert Fact("Q105", "P6", value[1]) in {one.fact for one in known.known_facts(tx, ["P6"])}


def test_a_merged_subject_s_target_is_read_in_the_tail(filled: EmbeddedWikidata, bench: Workbench) -> None:
    """The target of a merge got the fact with an old date: the tail reads it because of the redirect."""
    drop(filled, "Q103", "A", "S")
    delete(filled, "wd:Q103 ?p ?o")
    insert(filled, "wd:Q103 owl:sameAs wd:Q170 ." + statement("Q170", "M", "P6", "wd:Q203"))
    insert(filled, f"wd:Q170 schema:version 5 ; schema:dateModified {stamp(T0 - HOUR)} .")
    lag(filled, T0 + HOUR)
    told = sorted((c.subject, c.relation, str(c.kind), c.reason) for c in tail(bench))
    assert told == [
        ("Q103", "P35", "retired", "redirected to Q170"),
        ("Q103", "P6", "retired", "redirected to Q170"),
        ("Q170", "P6", "added", "new statement"),
    ]
