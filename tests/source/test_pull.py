"""The two pulls against a real server: pages, cursors, deletions, lag, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from kbsync.errors import BadAnswer, EndpointDown
from kbsync.facts import Change, ChangeKind, Cursor, Item, Reading
from kbsync.settings import SourceSettings
from kbsync.source import pull
from kbsync.source.client import CutShort, Row, SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.page import assemble
from kbsync.source.reader import fetch_labels
from tests.source.mirror import Mirror
from tests.source.triples import PREFIXES, delete, edited, insert, lag, stamp, statement

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
Make = Callable[..., SourceSettings]


@pytest.fixture(autouse=True, params=["few subjects", "many subjects"])
def number(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whatever the tail finds by asking for each subject, it finds by asking for the sums first."""
    if request.param == "many subjects":
        monkeypatch.setattr(pull, "ASK_EACH", 0)
    return str(request.param)


@pytest.fixture
def settings(wikidata: EmbeddedWikidata, settings_for: Make) -> SourceSettings:
    """Pages of two and no overlap: every boundary is met."""
    return settings_for(wikidata.endpoint, page_size=2)


@pytest.fixture
def filled(wikidata: EmbeddedWikidata) -> EmbeddedWikidata:
    """Five countries Q11 … Q15 with a head of government each, Q21 … Q25, as of T0."""
    for n in range(1, 6):
        insert(
            wikidata,
            statement(f"Q1{n}", "A", "P6", f"wd:Q2{n}")
            + f'wd:Q1{n} rdfs:label "country {n}"@en . wd:Q2{n} rdfs:label "person {n}"@en . '
            f"wd:Q1{n} schema:version {n} ; schema:dateModified {stamp(T0 - HOUR)} .",
        )
    lag(wikidata, T0)
    return wikidata


def brief(changes: list[Change]) -> list[tuple[str, str, str | None, str | None]]:
    """Changes as (kind, subject, old, new)."""
    return [
        (c.kind.value, c.subject, c.old.text if c.old else None, c.new.text if c.new else None) for c in changes
    ]


@pytest.fixture
def mirror(filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings) -> Mirror:
    """A store that has made its first pull of `filled`."""
    one = Mirror("P6")
    one.pull(client, settings)
    return one


def test_a_first_pull_is_all_statements_and_no_change(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """Pages of subjects in the order of their ids, the cursor only on the last, nothing called a change."""
    pages = list(pull.first_pull(client, "P6", pull.window_end(client, "P6"), settings))
    assert [page.subjects for page in pages] == [("Q11", "Q12"), ("Q13", "Q14"), ("Q15",), ()]
    assert [page.cursor for page in pages] == [None, None, None, Cursor(T0, "")]
    pulled = assemble(pages[0], {}, T0)
    assert pulled.changes == ()
    assert [s.id for s in pulled.statements] == ["Q11-A", "Q12-A"]
    assert pulled.items[0] == Item("Q11", "country 1", "en", 1, T0 - HOUR)
    assert pulled.labels[0] == Item("Q21", "person 1", "en", None, None)
    assert pulled.counts == {"stored": 2}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 100])
def test_any_page_size_reads_the_same(
    filled: EmbeddedWikidata, client: SparqlClient, settings_for: Make, size: int
) -> None:
    """No subject is lost or read twice at a page's edge, also when the last page is exactly full."""
    insert(filled, statement("Q12", "B", "P6", "wd:Q29") + statement("Q12", "C", "P6", "wd:Q28"))
    pages = list(
        pull.first_pull(client, "P6", pull.window_end(client, "P6"), settings_for(filled.endpoint, page_size=size))
    )
    found = [s.id for page in pages for s in page.statements]
    assert found == ["Q11-A", "Q12-A", "Q12-B", "Q12-C", "Q13-A", "Q14-A", "Q15-A"]


def test_an_endpoint_that_gives_fewer_rows_than_asked_for(
    filled: EmbeddedWikidata, settings: SourceSettings
) -> None:
    """Some servers cap every answer: a short one is not taken for the last."""

    class Capped(SparqlClient):
        def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
            return super().select(query, can_shrink=can_shrink)[:2]

    pages = list(pull.first_pull(Capped(settings), "P6", T0, settings))
    assert [s.id for page in pages for s in page.statements] == ["Q11-A", "Q12-A", "Q13-A", "Q14-A", "Q15-A"]


def test_one_question_picks_the_subjects_of_many_pages(filled: EmbeddedWikidata, settings: SourceSettings) -> None:
    """Three pages, and two picks: the subjects, and that there are no more. One that is no item is counted."""
    client = Listening(settings)
    client.queries = []
    insert(filled, statement("P99", "A", "P6", "wd:Q29"))
    pages = list(pull.first_pull(client, "P6", T0, settings))
    assert len([one for one in client.queries if "ORDER BY ?key" in one]) == 2
    assert [len(page.statements) for page in pages] == [1, 2, 2, 0]
    assert sum((Counter(page.counts) for page in pages), Counter()) == {"filtered: subject is not an item": 1}


def test_no_item_is_split_over_pages(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """An item with more statements than a page has rows comes whole, and pulled again shows no deletion."""
    for key in range(20):
        insert(filled, statement("Q13", f"N{key}", "P6", f"wd:Q3{key}"))
    mirror = Mirror("P6")
    mirror.pull(client, settings)
    assert len(mirror.statements["Q13"]) == 21
    edited(filled, "Q13", 99, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    assert mirror.pull(client, settings) == []
    assert mirror.counts["retired"] == 0
    assert len(mirror.statements["Q13"]) == 21


def test_rows_doubled_by_qualifiers_are_one_statement(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """Two starts, two ends and two labels of an item give one statement and one item."""
    for year in (2001, 2002):
        insert(
            filled,
            f'wd:Q11 rdfs:label "also {year}"@en . s:Q11-A pq:P580 "{year}-01-01T00:00:00Z"^^xsd:dateTime ; '
            f'pq:P582 "{year + 10}-01-01T00:00:00Z"^^xsd:dateTime .',
        )
    page = next(pull.first_pull(client, "P6", pull.window_end(client, "P6"), settings))
    (one,) = (s for s in page.statements if s.subject == "Q11")
    assert (one.start, one.end) == (datetime(2001, 1, 1, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC))
    assert [item.id for item in page.items] == ["Q11", "Q12"]
    assert page.items[0].label == "also 2001"


def test_labels_come_in_the_asked_language_then_mul(
    wikidata: EmbeddedWikidata, client: SparqlClient, settings_for: Make
) -> None:
    """`mul` where the language is missing, None where both are; an object is asked for once only."""
    insert(wikidata, statement("Q1", "A", "P6", "wd:Q7") + statement("Q2", "A", "P6", "wd:Q7"))
    insert(wikidata, 'wd:Q1 rdfs:label "Eins"@de, "One"@en, "1"@mul . wd:Q7 rdfs:label "Seven"@mul, "Sept"@fr .')
    german = settings_for(wikidata.endpoint, language="de", page_size=1)
    pages = list(pull.first_pull(client, "P6", pull.window_end(client, "P6"), german))
    assert [(i.id, i.label, i.language) for page in pages for i in page.items] == [
        ("Q1", "Eins", "de"),
        ("Q2", None, None),
    ]
    assert [(i.id, i.label, i.language) for page in pages for i in page.labels] == [("Q7", "Seven", "mul")]


def test_known_labels_are_not_asked_for(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """Objects whose label the caller has are left out; subjects are always named."""
    pages = list(
        pull.first_pull(client, "P6", pull.window_end(client, "P6"), settings, known_labels={"Q21", "Q11"})
    )
    assert [item.id for item in pages[0].labels] == ["Q22"]
    assert pages[0].items[0].label == "country 1"


def test_unknown_values_are_kept_apart(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """A blank node in place of a value retires the fact but not the statement; the count says why."""
    delete(filled, "s:Q11-A ps:P6 ?v")
    insert(filled, "s:Q11-A ps:P6 _:somebody .")
    delete(filled, "s:Q12-A ps:P6 ?v")
    insert(filled, "s:Q12-A a wdno:P6 .")
    for item in ("Q11", "Q12"):
        edited(filled, item, 50, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    changes = mirror.pull(client, settings)
    assert brief(changes) == [("retired", "Q11", "Q21", None), ("retired", "Q12", "Q22", None)]
    assert {change.reason for change in changes} == {"replaced in place"}
    assert mirror.counts["filtered: unknown value"] == 1
    assert mirror.counts["filtered: no value"] == 1
    assert mirror.counts["retired"] == 0
    assert set(mirror.statements["Q11"]) == {"Q11-A"}


def test_a_statement_id_in_lower_case_belongs_to_its_item(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """The id is kept as it is, under the item that has it."""
    insert(filled, "wd:Q11 p:P6 s:q11-B . s:q11-B ps:P6 wd:Q26 ; wikibase:rank wikibase:NormalRank .")
    mirror = Mirror("P6")
    mirror.pull(client, settings)
    assert set(mirror.statements["Q11"]) == {"Q11-A", "q11-B"}


def test_a_tail_without_edits_is_one_empty_page(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """Nothing happened: two cheap requests, no statement read, the cursor at the lag time."""
    lag(filled, T0 + HOUR)
    before = client.counters.requests
    pages = list(pull.tail(client, "P6", Cursor(T0, ""), T0 + HOUR, mirror.tracked, settings))
    assert client.counters.requests - before == 2
    assert [(page.subjects, page.cursor, page.counts) for page in pages] == [
        ((), Cursor(T0 + HOUR, ""), {"unchanged": 5})
    ]


def test_ties_across_pages_lose_nothing(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """Five items edited in the same second come over three pages of two, each once."""
    for n in range(1, 6):
        delete(filled, f"s:Q1{n}-A ps:P6 ?v")
        insert(filled, f"s:Q1{n}-A ps:P6 wd:Q3{n} .")
        edited(filled, f"Q1{n}", 100 + n, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    changes = mirror.pull(client, settings)
    assert brief(changes) == [("replaced", f"Q1{n}", f"Q2{n}", f"Q3{n}") for n in range(1, 6)]
    assert mirror.cursor == Cursor(T0 + 2 * HOUR, "")


def test_a_tail_killed_between_pages_goes_on_from_its_cursor(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """After the first page of a tie the cursor has its item; the next run reads the rest and nothing twice."""
    for n in range(1, 6):
        delete(filled, f"s:Q1{n}-A ps:P6 ?v")
        insert(filled, f"s:Q1{n}-A ps:P6 wd:Q3{n} .")
        edited(filled, f"Q1{n}", 100 + n, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    first = mirror.pull(client, settings, stop_after=1)
    assert mirror.cursor == Cursor(T0 + HOUR, "Q12")
    rest = mirror.pull(client, settings)
    assert [c.subject for c in first + rest] == ["Q11", "Q12", "Q13", "Q14", "Q15"]
    assert mirror.counts["duplicate"] == 0


def test_a_first_pull_killed_between_pages_begins_again(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """Without a cursor the next run reads all again; what it has already is counted as duplicate."""
    mirror = Mirror("P6")
    mirror.pull(client, settings, stop_after=2)
    assert mirror.cursor is None
    assert mirror.pull(client, settings) == []
    assert mirror.counts["duplicate"] == 4
    assert len(mirror.facts()) == 5


def test_edits_during_the_first_pull_are_in_the_first_tail(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """The first cursor is the lag time from before the first page, so a later edit is not behind it."""
    mirror = Mirror("P6")
    pages = pull.first_pull(client, "P6", pull.window_end(client, "P6"), settings)
    mirror.commit(assemble(next(pages), {}, T0))
    delete(filled, "s:Q11-A ps:P6 ?v")
    insert(filled, "s:Q11-A ps:P6 wd:Q39 .")
    edited(filled, "Q11", 100, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    for page in pages:
        mirror.commit(assemble(page, {}, T0))
    assert mirror.cursor == Cursor(T0, "")
    assert brief(mirror.pull(client, settings)) == [("replaced", "Q11", "Q21", "Q39")]


def test_new_subjects_are_found_in_the_window(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """An item that gets its first value of the relation is added, with its labels."""
    insert(
        filled, statement("Q19", "A", "P6", "wd:Q29") + 'wd:Q19 rdfs:label "new"@en . wd:Q29 rdfs:label "n"@en .'
    )
    insert(filled, f"wd:Q19 schema:version 1 ; schema:dateModified {stamp(T0 + HOUR)} .")
    lag(filled, T0 + 2 * HOUR)
    assert brief(mirror.pull(client, settings)) == [("added", "Q19", None, "Q29")]
    assert mirror.labels["Q29"].label == "n"


def test_a_touched_item_is_no_change(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """An edit elsewhere on the item moves its revision and nothing else."""
    edited(filled, "Q12", 77, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    before = mirror.counts.copy()
    assert mirror.pull(client, settings) == []
    assert mirror.counts - before == {"unchanged": 5, "duplicate": 1}
    assert mirror.versions["Q12"] == 77


class Listening(SparqlClient):
    """A client that remembers what it asked, and may let the sums run out of time."""

    queries: list[str]
    slow = False

    def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
        """Answer, if there is time."""
        self.queries.append(query)
        if self.slow and "COUNT(*)" in query:
            assert can_shrink
            raise CutShort("no time")
        return super().select(query, can_shrink=can_shrink)

    def kinds(self) -> list[str]:
        """Which of the two questions about what may have moved were asked."""
        return [
            "sums" if "COUNT(*)" in one else "each"
            for one in self.queries
            if "COUNT(*)" in one or "SELECT DISTINCT ?item ?version" in one
        ]


@pytest.mark.parametrize("slow", [False, True])
def test_while_nothing_moves_one_question_is_enough(
    filled: EmbeddedWikidata, settings: SourceSettings, mirror: Mirror, number: str, slow: bool
) -> None:
    """Many subjects are asked for by their number and the sum of their revisions; item by item only when these
    differ from what was read, or the endpoint has no time to add them up."""
    client = Listening(settings)
    client.queries, client.slow = [], slow
    edited(filled, "Q12", 77, T0 + HOUR)
    insert(filled, statement("Q19", "A", "P6", "wd:Q29"))
    insert(filled, f"wd:Q19 schema:version 1 ; schema:dateModified {stamp(T0 + HOUR)} .")
    lag(filled, T0 + 2 * HOUR)
    assert brief(mirror.pull(client, settings)) == [("added", "Q19", None, "Q29")]
    few = number == "few subjects"
    each = ["each"] if few else ["sums", "each"] if slow else ["sums"]
    assert client.kinds() == each
    client.queries = []
    edited(filled, "Q13", 78, T0)  # a time that no window shows
    lag(filled, T0 + 3 * HOUR)
    before = mirror.counts.copy()
    assert mirror.pull(client, settings) == []
    assert (mirror.counts - before)["unchanged"] == 6
    assert mirror.versions["Q13"] == 78
    assert client.kinds() == (["each"] if few else ["sums", "each"])


def test_a_deleted_last_value_is_found(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """The item no longer has the relation, so no window shows it; the tracked items do."""
    delete(filled, "wd:Q12 p:P6 ?s . ?s ?p ?o")
    edited(filled, "Q12", 90, T0 + HOUR)
    lag(filled, T0 + 2 * HOUR)
    changes = mirror.pull(client, settings)
    assert brief(changes) == [("retired", "Q12", "Q22", None)]
    assert changes[0].reason == "deleted"
    assert "Q12" not in mirror.tracked
    assert mirror.versions["Q12"] == 90
    assert mirror.pull(client, settings) == []


def test_deleted_and_merged_items_are_found_and_named(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """An item without triples is `item deleted`, one that redirects names its target; labels are kept."""
    for item in ("Q12", "Q13"):
        delete(filled, f"wd:{item} p:P6 ?s . ?s ?p ?o")
        delete(filled, f"wd:{item} ?p ?o")
    insert(filled, "wd:Q13 owl:sameAs wd:Q14 .")
    lag(filled, T0 + 2 * HOUR)
    pages = list(pull.tail(client, "P6", Cursor(T0, ""), T0 + 2 * HOUR, mirror.tracked, settings))
    assert pages[0].fates == {"Q12": "item deleted", "Q13": "redirected to Q14"}
    assert pages[0].items == ()
    known = {item: tuple(rows.values()) for item, rows in mirror.statements.items()}
    pulled = assemble(pages[0], known, T0)
    assert pulled.gone == (("Q12-A", "item deleted"), ("Q13-A", "redirected to Q14"))
    assert pulled.counts == {"redirected": 1, "retired": 2}
    assert [c.kind for c in pulled.changes] == [ChangeKind.RETIRED] * 2


def test_a_late_arrival_behind_the_cursor_is_found_by_its_revision(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """An edit that reaches the endpoint long after its time is not in the window, but its revision moved."""
    delete(filled, "s:Q14-A ps:P6 ?v")
    insert(filled, "s:Q14-A ps:P6 wd:Q34 .")
    edited(filled, "Q14", 90, T0 - timedelta(days=2))
    lag(filled, T0 + HOUR)
    assert brief(mirror.pull(client, settings)) == [("replaced", "Q14", "Q24", "Q34")]


def test_the_overlap_finds_new_subjects_that_came_late(
    filled: EmbeddedWikidata, client: SparqlClient, settings_for: Make, mirror: Mirror
) -> None:
    """Only the overlap shows an untracked item whose edit is older than the cursor."""
    insert(filled, statement("Q19", "A", "P6", "wd:Q29"))
    insert(filled, f"wd:Q19 schema:version 1 ; schema:dateModified {stamp(T0 - timedelta(minutes=10))} .")
    lag(filled, T0 + HOUR)
    without = settings_for(filled.endpoint, overlap_s=0)
    cursor = mirror.cursor
    assert mirror.pull(client, without) == []
    mirror.cursor = cursor
    assert brief(mirror.pull(client, settings_for(filled.endpoint, overlap_s=1200))) == [
        ("added", "Q19", None, "Q29")
    ]


def test_the_window_ends_at_the_lag_time(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """A new subject edited at or after the lag time waits for the next window, and is not lost in it."""
    insert(filled, statement("Q19", "A", "P6", "wd:Q29"))
    insert(filled, f"wd:Q19 schema:version 1 ; schema:dateModified {stamp(T0 + HOUR)} .")
    lag(filled, T0 + HOUR)
    assert mirror.pull(client, settings) == []
    assert mirror.cursor == Cursor(T0 + HOUR, "")
    lag(filled, T0 + HOUR + timedelta(seconds=1))
    assert brief(mirror.pull(client, settings)) == [("added", "Q19", None, "Q29")]


def test_a_server_that_is_behind_is_left_alone(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """When the answering server has not yet got as far as the cursor, nothing is read or retired."""
    delete(filled, "wd:Q12 p:P6 ?s . ?s ?p ?o")
    lag(filled, T0 - HOUR)
    assert mirror.pull(client, settings) == []
    assert mirror.cursor == Cursor(T0, "")
    assert "Q12" in mirror.tracked


def test_an_older_revision_is_not_taken(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """An item whose revision went back comes from a server that is behind: counted, not stored."""
    mirror.versions["Q11"] = 500
    mirror.readings["Q11"] = Reading(500, T0)
    delete(filled, "s:Q11-A ps:P6 ?v")
    insert(filled, "s:Q11-A ps:P6 wd:Q39 .")
    lag(filled, T0 + HOUR)
    assert mirror.pull(client, settings) == []
    assert mirror.counts["older"] == 1
    assert {value.text for one, value in mirror.facts() if one == "Q11"} == {"Q21"}
    assert mirror.versions["Q11"] == 500


@pytest.mark.parametrize("size", [5, 40])
def test_an_endpoint_that_lost_its_data_retires_nothing(
    wikidata: EmbeddedWikidata, client: SparqlClient, settings_for: Make, size: int
) -> None:
    """Most tracked items gone at once is the endpoint's fault: one clear error, the cursor stays."""
    settings = settings_for(wikidata.endpoint)
    wikidata.update(
        PREFIXES
        + "INSERT DATA { "
        + "".join(statement(f"Q{n}", "A", "P6", "wd:Q2") for n in range(100, 100 + size))
        + " }"
    )
    lag(wikidata, T0)
    mirror = Mirror("P6")
    mirror.pull(client, settings)
    delete(wikidata, "?i p:P6 ?s . ?s ?p ?o")
    lag(wikidata, T0 + HOUR)
    with pytest.raises(BadAnswer, match=f"{size} of {size}"):
        mirror.pull(client, settings)
    assert mirror.cursor == Cursor(T0, "")
    assert len(mirror.facts()) == size


def test_without_a_lag_triple_the_newest_edit_bounds_the_window(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """The bound is a second past the newest edit of the relation's items, so that edit itself is read."""
    delete(filled, "<http://www.wikidata.org> schema:dateModified ?d")
    assert pull.window_end(client, "P6") == T0 - HOUR + timedelta(seconds=1)
    mirror = Mirror("P6")
    mirror.pull(client, settings)
    insert(filled, statement("Q19", "A", "P6", "wd:Q29"))
    insert(filled, f"wd:Q19 schema:version 1 ; schema:dateModified {stamp(T0 + HOUR)} .")
    assert brief(mirror.pull(client, settings)) == [("added", "Q19", None, "Q29")]
    assert mirror.cursor == Cursor(T0 + HOUR + timedelta(seconds=1), "")


def test_without_a_lag_triple_the_newest_item_can_be_deleted(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """With the newest item the newest edit goes too; the window then ends at the cursor, and the item is found."""
    delete(filled, "<http://www.wikidata.org> schema:dateModified ?d")
    edited(filled, "Q15", 9, T0)
    mirror = Mirror("P6")
    mirror.pull(client, settings)
    delete(filled, "wd:Q15 p:P6 ?s . ?s ?p ?o")
    delete(filled, "wd:Q15 ?p ?o")
    assert brief(mirror.pull(client, settings)) == [("retired", "Q15", "Q25", None)]
    assert mirror.cursor == Cursor(T0 + timedelta(seconds=1), "")


def test_the_earliest_of_several_lag_triples_counts(filled: EmbeddedWikidata, client: SparqlClient) -> None:
    """Of two lag times the safe one is taken."""
    insert(filled, f"<http://www.wikidata.org> schema:dateModified {stamp(T0 - HOUR)} .")
    assert pull.window_end(client, "P6") == T0 - HOUR


def test_an_empty_relation_without_a_lag_triple_has_no_cursor(
    wikidata: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """Nothing to read and no time to go by: the next run begins again."""
    assert pull.window_end(client, "P6") is None
    mirror = Mirror("P6")
    mirror.pull(client, settings)
    assert mirror.cursor is None
    assert mirror.facts() == set()


class Breaking(SparqlClient):
    """A client whose endpoint fails at the n-th request."""

    fail_at = 0

    def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
        """Answer, or fail when the count is reached."""
        self.fail_at -= 1
        if self.fail_at == 0:
            raise EndpointDown("gone")
        return super().select(query, can_shrink=can_shrink)


def test_an_endpoint_that_fails_anywhere_leaves_a_state_to_go_on_from(
    filled: EmbeddedWikidata, settings: SourceSettings
) -> None:
    """Whichever request fails, the run after it ends with the same facts, versions and cursor."""
    for n in range(1, 6):
        delete(filled, f"s:Q1{n}-A ps:P6 ?v")
        insert(filled, f"s:Q1{n}-A ps:P6 wd:Q3{n} .")
        edited(filled, f"Q1{n}", 100 + n, T0 + n * HOUR)
    lag(filled, T0 + 9 * HOUR)
    ends = set()
    for fail_at in range(1, 100):
        client = Breaking(settings)
        mirror = Mirror("P6")
        client.fail_at = fail_at
        failed = False
        try:
            mirror.pull(client, settings)
        except EndpointDown:
            failed = True
            mirror.pull(client, settings)
        ends.add((frozenset(mirror.facts()), frozenset(mirror.versions.items()), mirror.cursor))
        if not failed:
            break
    assert fail_at > 5
    assert len(ends) == 1


def test_labels_of_properties_and_unknown_ids(filled: EmbeddedWikidata, client: SparqlClient) -> None:
    """Properties have labels too; an id that the source lacks comes back empty, not missing."""
    insert(filled, 'wd:P6 rdfs:label "head of government"@en .')
    found = fetch_labels(client, ["P6", "Q404"], "en")
    assert found["P6"].label == "head of government"
    assert found["Q404"] == Item("Q404", None, None, None, None)


def test_other_relations_of_a_subject_are_left_alone(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings
) -> None:
    """Statements of another relation among the known ones are never called gone."""
    insert(filled, statement("Q11", "H", "P35", "wd:Q26"))
    heads = Mirror("P35")
    heads.pull(client, settings)
    page = next(pull.first_pull(client, "P6", pull.window_end(client, "P6"), settings))
    known = {"Q11": tuple(heads.statements["Q11"].values())}
    assert assemble(page, known, T0).gone == ()


def test_times_with_fractions_are_read_page_by_page(
    filled: EmbeddedWikidata, client: SparqlClient, settings: SourceSettings, mirror: Mirror
) -> None:
    """More subjects than a page holds, all edited within one second."""
    for n in range(1, 6):
        edited(filled, f"Q1{n}", 100 + n, T0 + HOUR + timedelta(milliseconds=100 * n))
    lag(filled, T0 + 2 * HOUR)
    mirror.pull(client, settings)
    assert mirror.versions == {f"Q1{n}": 100 + n for n in range(1, 6)}


def test_an_endpoint_that_gives_the_same_page_again_is_told(
    filled: EmbeddedWikidata, settings: SourceSettings, mirror: Mirror
) -> None:
    """As a cache in between does: the window would never end."""

    class Cached(SparqlClient):
        def select(self, query: str, *, can_shrink: bool = False) -> list[Row]:
            if "?modified >" in query:
                query = self.first = getattr(self, "first", query)
            return super().select(query, can_shrink=can_shrink)

    for n in range(1, 6):
        edited(filled, f"Q1{n}", 100 + n, T0 + n * HOUR)
    lag(filled, T0 + 9 * HOUR)
    with pytest.raises(BadAnswer, match="does not go on"):
        mirror.pull(Cached(settings), settings)
