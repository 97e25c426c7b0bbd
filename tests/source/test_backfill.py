"""The first pull in pages that a kill or a bound cuts off, the tail beside it, and filters of subjects: the rows
are those of a fresh store, whatever happened on the way."""

from __future__ import annotations

import csv
import lzma
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kbsync.errors import BadAnswer, ConfigError, StoreError
from kbsync.facts import Subjects
from kbsync.settings import load_settings
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.subjects import NO_LONGER
from kbsync.store import backfills, known, runs, watches
from kbsync.store.tables import RunStatus
from kbsync.sync.clock import now
from kbsync.sync.progress import Silent
from kbsync.sync.pulling import pull
from kbsync.sync.reconcile import reconcile_once
from kbsync.sync.workbench import Workbench
from tests.source.bench import found_by, tail, workbench
from tests.source.conftest import DATA
from tests.source.triples import PREFIXES, delete, edited, insert, lag, stamp, statement
from tests.stores import chosen

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CITY, STATE, PLACE = "Q515", "Q7275", "Q1"  # a city and a state are places
WHERE = f"?item wdt:P31 wd:{CITY} FILTER EXISTS {{ ?item rdfs:label ?name }}"


def insert_direct(server: EmbeddedWikidata, triples: str) -> None:
    """Add `wdt:` triples."""
    server.update(f"{PREFIXES}PREFIX wdt: <http://www.wikidata.org/prop/direct/>\nINSERT DATA {{ {triples} }}")


def set_class(server: EmbeddedWikidata, item: str, kind: str) -> None:
    """Make an item an instance of one class only."""
    server.update(
        f"{PREFIXES}PREFIX wdt: <http://www.wikidata.org/prop/direct/>\n"
        f"DELETE {{ wd:{item} wdt:P31 ?c }} WHERE {{ wd:{item} wdt:P31 ?c }} ; "
        f"INSERT DATA {{ wd:{item} wdt:P31 wd:{kind} }}"
    )


@pytest.fixture
def places(wikidata: EmbeddedWikidata) -> EmbeddedWikidata:
    """Twenty places Q100 … with a head of government each, by turns a city and a state, as of T0."""
    turtle = ['wd:P6 rdfs:label "head of government"@en .']
    for n in range(20):
        turtle.append(statement(f"Q{100 + n}", "A", "P6", f"wd:Q{200 + n}"))
        turtle.append(
            f'wd:Q{100 + n} rdfs:label "place {n}"@en ; schema:version {n + 1} ; '
            f'schema:dateModified {stamp(T0 - HOUR)} . wd:Q{200 + n} rdfs:label "person {n}"@en .'
        )
    insert(wikidata, " ".join(turtle))
    kinds = " ".join(f"wd:Q{100 + n} wdt:P31 wd:{STATE if n % 2 else CITY} ." for n in range(20))
    above = f"wd:{CITY} wdt:P279 wd:{PLACE} . wd:{STATE} wdt:P279 wd:{PLACE} ."
    insert_direct(wikidata, f"{kinds} {above}")
    lag(wikidata, T0)
    return wikidata


def made(folder: Path, server: EmbeddedWikidata, watch: dict[str, Any] | None = None, **source: Any) -> Workbench:
    """A workbench of its own in `folder`, with other keys of [watch]."""
    folder.mkdir(exist_ok=True)
    sections = {
        "source": {
            "endpoint": server.endpoint, "contact": "tests", "timeout_s": 20.0, "attempts": 1, "page_size": 3,
            "overlap_s": 0, **source,
        },
        "watch": {"relations": ["P6"], **(watch or {})},
        "store": {"url": chosen().make(folder / "kbsync.db")},
    }  # fmt: skip
    return Workbench(load_settings(None, sections))


def again(bench: Workbench, **watch: Any) -> Workbench:
    """The same store with another config file, as the next process sees it."""
    settings = bench.settings
    changed = {**settings.watch.model_dump(), **watch}
    return Workbench(settings.model_copy(update={"watch": type(settings.watch).model_validate(changed)}))


def counted(bench: Workbench) -> Counter[str]:
    """One pull as a run, and its counts."""
    with bench.store.begin() as tx:
        run_id = runs.start_run(tx, "tests", now(), {})
    try:
        with Silent().stage("pull") as task:
            return pull(bench, run_id, task)
    finally:
        with bench.store.begin() as tx:
            runs.finish_run(tx, run_id, RunStatus.UNCHANGED, now())


def live(bench: Workbench) -> dict[str, set[tuple[Any, ...]]]:
    """All that a store holds live, but for what tells when it came."""
    queries = {
        "facts": "SELECT subject, relation, value_kind, value FROM facts WHERE retired_at IS NULL",
        "statements": "SELECT id, subject, relation, value, rank, best FROM statements WHERE retired_at IS NULL",
    }
    with bench.store.read() as tx:
        return {name: {tuple(row) for row in tx.execute(text(sql))} for name, sql in queries.items()}


def fresh_rows(folder: Path, bench: Workbench) -> dict[str, set[tuple[Any, ...]]]:
    """What a fresh store with the same settings holds after one pull of all at once."""
    folder.mkdir()
    source = bench.settings.source.model_copy(update={"backfill_pages": 0})
    store = bench.settings.store.model_copy(update={"url": chosen().make(folder / "kbsync.db")})
    with Workbench(bench.settings.model_copy(update={"source": source, "store": store})) as fresh:
        with bench.store.read() as tx:
            added = watches.added(tx)
        with fresh.store.begin() as tx:
            for one in added.values():
                watches.add(tx, one.relation, one.subjects, "tests", now(), one.priority)
        counted(fresh)
        return live(fresh)


def subjects(bench: Workbench) -> set[str]:
    """The subjects of live facts, less the Q."""
    return {row[0] for row in live(bench)["facts"]}


def complete(bench: Workbench) -> bool:
    """Whether the first pull of P6 has read all."""
    with bench.store.read() as tx:
        return known.first_pull_complete(tx, "P6") is not None


def test_killed_after_each_page_it_goes_on(
    places: EmbeddedWikidata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error behind each page: no page is read twice, and the rows are those of an undisturbed pull."""
    with made(tmp_path / "undisturbed", places) as bench:
        counted(bench)
        whole = live(bench)
        with bench.store.read() as tx:
            done = backfills.backfill(tx, "P6")
    assert (done.subjects, done.pages, done.done) == (20, 7, True)  # type: ignore[union-attr]
    real, calls = backfills.advance, Counter[str]()

    def dying(*args: Any) -> None:
        """The page commits, and the next one dies before its rows do."""
        calls["pages"] += 1
        if calls["pages"] % 2 == 0:
            raise StoreError("killed")
        real(*args)

    with made(tmp_path / "killed", places) as bench:
        with monkeypatch.context() as patch:
            patch.setattr("kbsync.sync.backfilling.backfills.advance", dying)
            for page in range(1, 7):
                with pytest.raises(StoreError, match="killed"):
                    counted(bench)
                assert len(subjects(bench)) == 3 * page, "the rows of a page that died are not there"
            assert counted(bench)["first pull: subjects"] == 2
        assert live(bench) == whole
        with bench.store.read() as tx:
            assert tx.execute(text("SELECT COUNT(*), SUM(CASE WHEN baseline THEN 1 END) FROM facts")).one() == (
                20,
                20,
            )
        assert counted(bench)["first pull: subjects"] == 0


def test_a_bound_spreads_it_over_syncs(places: EmbeddedWikidata, tmp_path: Path) -> None:
    """Two pages a sync; what was read has a tail already, what was not is read as it is then: baseline."""
    with made(tmp_path / "one", places, backfill_pages=2) as bench:
        counts = counted(bench)
        assert (counts["first pull: subjects"], counts["first pull: under way"]) == (6, 1)
        assert not complete(bench)
        drop_and_insert(places, "Q101", "Q219", 50, T0 + HOUR)  # behind
        drop_and_insert(places, "Q115", "Q219", 51, T0 + HOUR)  # ahead
        delete(places, "wd:Q102 p:P6 ?st . ?st ?p ?o")
        edited(places, "Q102", 52, T0 + HOUR)
        lag(places, T0 + 2 * HOUR)
        found = tail(bench)
        assert sorted((str(c.kind), c.subject) for c in found) == [("replaced", "Q101"), ("retired", "Q102")]
        while not complete(bench):
            assert tail(bench) == []
        assert live(bench) == fresh_rows(tmp_path / "fresh", bench)
        with bench.store.read() as tx:
            rows = tx.execute(text("SELECT subject, baseline FROM facts WHERE retired_at IS NULL"))
            lively = {subject: baseline for subject, baseline in rows}  # noqa: C416  (a Row is not a tuple)
        assert [one for one, baseline in lively.items() if not baseline] == ["Q101"]
        assert lively["Q115"], "it was edited before it was read: that is how it was"


def drop_and_insert(server: EmbeddedWikidata, item: str, value: str, revision: int, when: datetime) -> None:
    """Another value in place of the one that an item has for P6."""
    delete(server, f"wd:{item} p:P6 ?st . ?st ?p ?o")
    insert(server, statement(item, f"R{revision}", "P6", f"wd:{value}"))
    edited(server, item, revision, when)


def test_other_relations_go_on(places: EmbeddedWikidata, tmp_path: Path) -> None:
    """While one relation is under way, the tail of another finds its changes."""
    insert(places, 'wd:P35 rdfs:label "head of state"@en . ' + statement("Q100", "S", "P35", "wd:Q200"))
    with made(tmp_path / "one", places, {"relations": ["P35", "P6"]}, backfill_pages=1) as bench:
        counted(bench)
        delete(places, "s:Q100-S ps:P35 ?v")
        insert(places, "s:Q100-S ps:P35 wd:Q201")
        edited(places, "Q100", 60, T0 + HOUR)
        lag(places, T0 + 2 * HOUR)
        assert [(c.relation, c.subject) for c in tail(bench)] == [("P35", "Q100")]
        assert not complete(bench)
        (p35, p6) = sorted(reconcile_once(bench, relations=["P6", "P35"]).relations, key=lambda one: one.relation)
        assert (p35.relation, p35.outcome) == ("P35", "complete")
        assert p6.outcome == "not pulled yet"
        assert p6.reason == "its first pull is under way; the next sync goes on with it"


def test_a_server_that_is_behind_reads_nothing(places: EmbeddedWikidata, tmp_path: Path) -> None:
    """A first pull does not go on at a server whose state is older than the tail's cursor."""
    with made(tmp_path / "one", places, backfill_pages=1) as bench:
        counted(bench)
        lag(places, T0 - HOUR)
        assert counted(bench) == {"endpoint behind": 1, "requests": 1}
        assert len(subjects(bench)) == 3


def test_the_slice_pulled_in_pieces_between_its_changes(slice_server: EmbeddedWikidata, tmp_path: Path) -> None:
    """Four windows of real changes hit a first pull under way: behind its cursor they are the oracle's, and the end
    is what a fresh store holds."""
    relations = ["P1308", "P488"]
    oracle: dict[str, set[tuple[str, str, str, str]]] = {}
    with (DATA / "net-diffs.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            said = (row["item"], row["property"], row["object"], row["sign"])
            oracle.setdefault(row["change_file"], set()).add(said)
    hits = 0
    options = {"page_size": 60, "overlap_s": 1200, "backfill_pages": 1}
    with workbench(tmp_path, slice_server.endpoint, relations, **options) as bench:
        counted(bench)
        for number in ("1", "2", "3", "4"):
            with bench.store.read() as tx:
                tracked = {(one, relation) for relation in relations for one in known.versions(tx, relation)}
            slice_server.update(lzma.decompress((DATA / f"change-{number}.ru.xz").read_bytes()).decode())
            found = {
                (c.subject, c.relation, value.text, sign)
                for c in tail(bench)
                for value, sign in ((c.old, "-"), (c.new, "+"))
                if value is not None
            }
            assert found <= oracle[number]
            behind = {one for one in oracle[number] if (one[0], one[1]) in tracked}
            assert behind <= found
            hits += len(behind)
        while counted(bench)["first pull: under way"]:
            pass
        assert hits > 20
        assert live(bench) == fresh_rows(tmp_path / "fresh", bench)
        assert sum(reconcile_once(bench).divergences.values()) == 0


FILTERS: dict[str, dict[str, Any]] = {
    "class": {"classes": {"P6": [CITY]}},
    "class above": {"classes": {"P6": [PLACE]}},
    "list": {"subjects": {"P6": ["Q101", "Q104", "Q118", "Q999"]}},
    "where": {"where": {"P6": WHERE}},
    "all": {},
}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_rows_are_a_fresh_store_s(places: EmbeddedWikidata, tmp_path: Path, seed: int) -> None:
    """Random edits, classes, deletions and changes of the filter between bounded syncs end as a fresh store."""
    chance = random.Random(seed)
    names = list(FILTERS)
    bench = made(tmp_path / "one", places, FILTERS[chance.choice(names)], backfill_pages=1)
    revision, when = 100, T0
    empty: dict[str, Any] = {"classes": {}, "subjects": {}, "where": {}}
    try:
        for _ in range(8):
            counted(bench)
            for _ in range(chance.randint(0, 3)):
                revision, when = revision + 1, when + HOUR
                item = f"Q{chance.randint(100, 121)}"
                what = chance.choice(["value", "class", "delete", "class"])
                if what == "delete":
                    delete(places, f"wd:{item} p:P6 ?st . ?st ?p ?o")
                elif what == "class":
                    set_class(places, item, chance.choice([CITY, STATE]))
                else:
                    insert(places, statement(item, f"R{revision}", "P6", f"wd:Q{chance.randint(200, 219)}"))
                delete(places, f"wd:{item} schema:version ?v ; schema:dateModified ?d")
                insert(places, f"wd:{item} schema:version {revision} ; schema:dateModified {stamp(when)}")
            lag(places, when + HOUR)
            if chance.random() < 0.25:
                bench.close()
                bench = again(bench, **{**empty, **FILTERS[chance.choice(names)]})
        while counted(bench)["first pull: under way"]:
            pass
        counted(bench)
        assert live(bench) == fresh_rows(tmp_path / "fresh", bench)
    finally:
        bench.close()


@pytest.mark.parametrize(("name", "expected"), [
    ("class", set(range(100, 120, 2))),
    ("class above", set(range(100, 120))),
    ("list", {101, 104, 118}),
    ("where", set(range(100, 120, 2))),
])  # fmt: skip
def test_a_filter_chooses_in_every_pull(
    places: EmbeddedWikidata, tmp_path: Path, name: str, expected: set[int]
) -> None:
    """The first pull, the tail and the reconcile hold just the subjects that the filter lets through."""
    with made(tmp_path / "one", places, FILTERS[name]) as bench:
        counted(bench)
        assert subjects(bench) == {f"Q{n}" for n in expected}
        for n in range(20):
            drop_and_insert(places, f"Q{100 + n}", "Q201", 100 + n, T0 + HOUR)
        lag(places, T0 + 2 * HOUR)
        assert {c.subject for c in tail(bench)} == {f"Q{n}" for n in expected} - {"Q101"}
        assert live(bench) == fresh_rows(tmp_path / "fresh", bench)
        assert sum(reconcile_once(bench).divergences.values()) == 0
        assert live(bench) == fresh_rows(tmp_path / "fresh 2", bench)


@pytest.mark.parametrize("seen", ["tail", "reconcile"])
def test_who_leaves_and_who_joins(places: EmbeddedWikidata, tmp_path: Path, seen: str) -> None:
    """A class changes: with an edit the tail sees it, without one the reconcile; both retire it by name."""
    with made(tmp_path / "one", places, FILTERS["class"]) as bench:
        counted(bench)
        set_class(places, "Q100", STATE)
        set_class(places, "Q101", CITY)
        if seen == "tail":
            edited(places, "Q100", 70, T0 + HOUR)
            edited(places, "Q101", 71, T0 + HOUR)
        lag(places, T0 + 2 * HOUR)
        if seen == "tail":
            found = tail(bench)
        else:
            assert tail(bench) == []
            done = reconcile_once(bench)
            assert done.counts[NO_LONGER] == 1
            assert done.kept == []
            found = found_by(bench, done.run_id)
        said = sorted((str(c.kind), c.subject, c.reason) for c in found)
        assert said == [("added", "Q101", "new statement"), ("retired", "Q100", NO_LONGER)]
        assert live(bench) == fresh_rows(tmp_path / "fresh", bench)
        set_class(places, "Q100", CITY)  # and back, without an edit
        reconcile_once(bench)
        assert live(bench) == fresh_rows(tmp_path / "fresh 2", bench)


def test_a_changed_filter_retires_and_begins_anew(places: EmbeddedWikidata, tmp_path: Path) -> None:
    """What it no longer lets through is retired by name, what is new is baseline; one that finds nothing is not
    believed."""
    with made(tmp_path / "one", places, FILTERS["class"]) as bench:
        counted(bench)
    with again(bench, classes={}, subjects=FILTERS["list"]["subjects"]) as bench:
        found = tail(bench)
        assert {c.reason for c in found} == {NO_LONGER}
        assert {c.subject for c in found} == {f"Q{n}" for n in range(100, 120, 2)} - {"Q104", "Q118"}
        assert live(bench) == fresh_rows(tmp_path / "fresh", bench)
        with bench.store.read() as tx:
            assert tx.execute(text("SELECT COUNT(*) FROM facts WHERE NOT baseline")).scalar() == 0
        assert reconcile_once(bench, alone=True).kept == []
    with again(bench, classes={}, subjects={}, where={"P6": "?item wdt:P31 wd:Q424242"}) as bench:
        kept = live(bench)
        (one,) = reconcile_once(bench, alone=True).kept
        assert one.outcome == "not pulled yet"
        with pytest.raises(BadAnswer, match=r"finds no subject at .*; nothing was retired"):
            counted(bench)
        assert live(bench) == kept


@pytest.fixture
def commanded(places: EmbeddedWikidata, tmp_path: Path) -> Iterator[Workbench]:
    """A store whose file watches P6, to which a command adds P35."""
    insert(places, 'wd:P35 rdfs:label "head of state"@en . ' + statement("Q100", "S", "P35", "wd:Q200"))
    with made(tmp_path / "one", places) as bench:
        yield bench


def test_a_watch_by_command_is_seen_by_the_next_sync(commanded: Workbench) -> None:
    """Added, given another filter, removed and added again: each counts at the next pull of the same process."""
    counted(commanded)
    assert commanded.relations == ("P6",)
    with commanded.store.begin() as tx:
        before, after = watches.add(tx, "P35", Subjects(), "tests", now())
        assert (before, after.subjects) == (None, Subjects())
    counted(commanded)
    assert ("Q100", "P35", "item", "Q200") in live(commanded)["facts"]
    with commanded.store.begin() as tx:
        before, after = watches.add(tx, "P35", Subjects(ids=frozenset({"Q7"})), "tests", now())
        assert before is not None
        assert (before.subjects, after.subjects) == (Subjects(), Subjects(ids=frozenset({"Q7"})))
    counted(commanded)
    assert ("Q100", "P35", "item", "Q200") not in live(commanded)["facts"]
    with commanded.store.begin() as tx:
        assert watches.remove(tx, "P35")
        assert not watches.remove(tx, "P35")
    assert commanded.relations == ("P6",)
    with commanded.store.begin() as tx:
        watches.add(tx, "P35", Subjects(), "tests", now())
    counted(commanded)
    assert ("Q100", "P35", "item", "Q200") in live(commanded)["facts"]


def test_a_bad_pattern_of_the_file_stops_before_anything_is_asked(places: EmbeddedWikidata, tmp_path: Path) -> None:
    """The error names the key and the place."""
    with (
        made(tmp_path / "one", places, {"where": {"P6": "?item a ?c SERVICE <http://x/> { ?a ?b ?c }"}}) as bench,
        pytest.raises(
            ConfigError, match=r"^watch\.where\.P6: SERVICE asks another endpoint.*\(line 1, column 12\)"
        ),
    ):
        reconcile_once(bench)
