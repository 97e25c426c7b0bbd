"""Rows → items and statements: every row ends in one of these or in a count with a name."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.facts import Rank, Value, ValueKind
from kbsync.settings import SourceSettings
from kbsync.source import parse, queries
from kbsync.source.client import Row, SparqlClient, Term
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.queries import ENTITY, STATEMENT, WIKIBASE, XSD
from tests.source.conftest import DATA

YEAR = datetime(2020, 1, 1, tzinfo=UTC)


def uri(text: str) -> Term:
    return Term("uri", text)


def time(text: str) -> Term:
    return Term("literal", text, XSD + "dateTime")


def row(**changes: Term | None) -> Row:
    """A row of a plain statement, Q42 P19 Q350, with some terms changed or (None) left out."""
    plain: dict[str, Term | None] = {
        "item": uri(ENTITY + "Q42"),
        "st": uri(STATEMENT + "Q42-AAAA"),
        "value": uri(ENTITY + "Q350"),
        "rank": uri(WIKIBASE + "NormalRank"),
        "best": uri(WIKIBASE + "BestRank"),
        "version": Term("literal", "77", XSD + "integer"),
        "modified": time("2020-01-01T00:00:00Z"),
    }
    return {name: term for name, term in {**plain, **changes}.items() if term is not None}


def test_a_plain_statement() -> None:
    """All fields of a statement and the subject's revision come from its row."""
    parsed = parse.statements("P19", [row(start=time("2019-05-01T00:00:00Z"))])
    (statement,) = parsed.statements
    assert (statement.id, statement.subject, statement.relation) == ("Q42-AAAA", "Q42", "P19")
    assert statement.value == Value(ValueKind.ITEM, "Q350")
    assert (statement.rank, statement.best) == (Rank.NORMAL, True)
    assert (statement.start, statement.end) == (datetime(2019, 5, 1, tzinfo=UTC), None)
    assert parsed.versions == {"Q42": (77, YEAR)}
    assert not parsed.counts


def test_the_item_is_never_read_from_the_statement_id() -> None:
    """A lower-case id, and even one of another item, belongs to the item that has the statement."""
    for key in ("q42-AAAA", "Q99-AAAA"):
        (statement,) = parse.statements("P19", [row(st=uri(STATEMENT + key))]).statements
        assert (statement.id, statement.subject) == (key, "Q42")


@pytest.mark.parametrize(
    ("term", "kind", "text"),
    [
        (uri(ENTITY + "Q5"), ValueKind.ITEM, "Q5"),
        (uri(ENTITY + "P31"), ValueKind.ITEM, "P31"),
        (time("1952-03-11T00:00:00Z"), ValueKind.TIME, "1952-03-11T00:00:00Z"),
        (time("-0044-03-15T00:00:00Z"), ValueKind.TIME, "-0044-03-15T00:00:00Z"),
        (Term("literal", "Q5"), ValueKind.STRING, "Q5"),
        (Term("literal", "{}", XSD + "string"), ValueKind.STRING, "{}"),
        (Term("literal", "Leben", None, "de"), ValueKind.MONOLINGUAL, "Leben"),
        (Term("literal", "+1.5", XSD + "decimal"), ValueKind.QUANTITY, "1.5"),
        (Term("literal", "-3", XSD + "integer"), ValueKind.QUANTITY, "-3"),
        (uri("https://example.org/entity/Q5"), ValueKind.STRING, None),
    ],
)
def test_every_kind_of_value(term: Term, kind: ValueKind, text: str | None) -> None:
    """Each kind of object is told apart by its term, never by how its text looks."""
    parsed = parse.statements("P1", [row(value=term)])
    assert parsed.statements[0].value == Value(kind, term.value if text is None else text)
    assert not parsed.counts


@pytest.mark.parametrize(
    ("term", "name"),
    [
        (Term("bnode", "t1"), "filtered: unknown value"),
        (uri("http://www.wikidata.org/.well-known/genid/abc"), "filtered: unknown value"),
        (None, "filtered: no value"),
        (uri(ENTITY + "L1-F1"), "filtered: object is not an item"),
        (uri(ENTITY + "Q5/x"), "filtered: object is not an item"),
        (uri(ENTITY), "filtered: object is not an item"),
        (time("yesterday"), "filtered: bad time"),
        (uri("http://commons.wikimedia.org/wiki/Special:FilePath/A.jpg"), "filtered: media file"),
        (uri("http://commons.wikimedia.org/data/main/Data:A.map"), "filtered: data page"),
        (Term("literal", "Point(1 2)", "http://www.opengis.net/ont/geosparql#wktLiteral"), "filtered: coordinates"),
        (Term("literal", "<math/>", "http://www.w3.org/1998/Math/MathML"), "filtered: formula"),
        (Term("literal", "true", XSD + "boolean"), "filtered: other kind of value"),
    ],
)
def test_an_object_that_cannot_be_said_is_named_and_kept(term: Term | None, name: str) -> None:
    """Its statement stays, as unknown, so that it never looks deleted; the count has its name."""
    parsed = parse.statements("P1", [row(value=term)])
    assert parsed.statements[0].value.kind is ValueKind.UNKNOWN
    assert parsed.counts == {name: 1}


@pytest.mark.parametrize(
    ("name", "term", "count"),
    [
        ("item", uri("http://example.org/Q42"), "filtered: subject is not an item"),
        ("item", uri(ENTITY + "L7"), "filtered: subject is not an item"),
        ("item", uri(ENTITY + "Q0"), "filtered: subject is not an item"),
        ("item", Term("bnode", "b"), "filtered: subject is not an item"),
        ("item", None, "filtered: subject is not an item"),
        ("st", uri("http://example.org/statement/1"), "filtered: bad statement id"),
        ("st", uri(STATEMENT + "Q42 AAAA"), "filtered: bad statement id"),
        ("st", uri(STATEMENT + "Q42-" + "A" * 300), "filtered: bad statement id"),
        ("st", Term("bnode", "b"), "filtered: bad statement id"),
        ("st", None, "filtered: bad statement id"),
    ],
)
def test_foreign_ids_are_left_out_by_name(name: str, term: Term | None, count: str) -> None:
    """A subject or statement that is not Wikidata's is counted, and the rows beside it are read."""
    parsed = parse.statements("P19", [row(**{name: term}), row()])
    assert len(parsed.statements) == 1
    assert parsed.counts == {count: 1}


def test_many_rows_of_one_statement_are_one_statement() -> None:
    """Several starts, ends and revisions: earliest start, latest end, lowest revision, whatever the order."""
    rows = [
        row(start=time(f"20{a}-01-01T00:00:00Z"), end=time(f"20{b}-01-01T00:00:00Z"), version=Term("literal", v))
        for a in (11, 10, 12)
        for b in (21, 23, 22)
        for v in ("8", "7")
    ]
    for order in (rows, rows[::-1]):
        parsed = parse.statements("P19", order)
        (statement,) = parsed.statements
        assert statement.start == datetime(2010, 1, 1, tzinfo=UTC)
        assert statement.end == datetime(2023, 1, 1, tzinfo=UTC)
        assert parsed.versions["Q42"][0] == 7
        assert not parsed.counts


def test_contradictions_are_settled_by_name() -> None:
    """Two values of one statement: the least is kept and the other counted; deprecated rank is never truthy."""
    rows = [row(value=uri(ENTITY + "Q9")), row(value=uri(ENTITY + "Q10"))]
    for order in (rows, rows[::-1]):
        parsed = parse.statements("P19", order)
        assert parsed.statements[0].value.text == "Q10"
        assert parsed.counts == {"filtered: second value of one statement": 1}
    deprecated = row(rank=uri(WIKIBASE + "DeprecatedRank"))
    (statement,) = parse.statements("P19", [deprecated, row()]).statements
    assert (statement.rank, statement.best) == (Rank.DEPRECATED, False)


def test_a_statement_is_truthy_only_by_best_rank() -> None:
    """Neither normal nor preferred rank alone makes a statement truthy."""
    for rank in ("NormalRank", "PreferredRank"):
        (statement,) = parse.statements("P19", [row(best=None, rank=uri(WIKIBASE + rank))]).statements
        assert not statement.best


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-02-23T17:47:17Z", datetime(2021, 2, 23, 17, 47, 17, tzinfo=UTC)),
        ("+2021-02-23T17:47:17Z", datetime(2021, 2, 23, 17, 47, 17, tzinfo=UTC)),
        ("2021-02-23T17:47:17.250Z", datetime(2021, 2, 23, 17, 47, 17, 250_000, tzinfo=UTC)),
        ("2021-02-23T17:47:17.2500000009Z", datetime(2021, 2, 23, 17, 47, 17, 250_000, tzinfo=UTC)),
        ("2021-02-23", datetime(2021, 2, 23, tzinfo=UTC)),
        ("2021-00-00T00:00:00Z", datetime(2021, 1, 1, tzinfo=UTC)),
        ("2021-02-30T00:00:00Z", datetime(2021, 2, 1, tzinfo=UTC)),
        ("-0044-03-15T00:00:00Z", parse.LONG_AGO),
        ("0000-01-01T00:00:00Z", parse.LONG_AGO),
        ("13798000000-01-01T00:00:00Z", parse.FAR_AHEAD),
        ("24:00", None),
        ("", None),
    ],
)
def test_times_are_aware_and_never_fail(text: str, moment: datetime | None) -> None:
    """Every form of time that Wikidata has becomes an aware one, clamped to what Python can hold."""
    assert parse.moment(time(text)) == moment


def test_an_unknown_end_is_an_end() -> None:
    """`end time: some value` says that the statement has ended; an unknown start says nothing."""
    (statement,) = parse.statements("P19", [row(end=Term("bnode", "b"), start=Term("bnode", "c"))]).statements
    assert (statement.start, statement.end) == (None, parse.LONG_AGO)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["item", "st", "value", "rank", "best", "start", "end", "version", "modified", "label"]
            ),
            st.builds(
                Term,
                st.sampled_from(["uri", "literal", "bnode"]),
                st.one_of(
                    st.text(max_size=30),
                    st.text(max_size=9).map(lambda text: ENTITY + text),
                    st.text(max_size=9).map(lambda text: STATEMENT + text),
                    st.just(ENTITY + "Q1"),
                    st.just(STATEMENT + "Q1-A"),
                    st.from_regex(r"-?\d{1,6}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fullmatch=True),
                ),
                st.sampled_from([None, XSD + "dateTime", XSD + "decimal", "urn:x"]),
                st.sampled_from([None, "en", "mul"]),
            ),
        ),
        max_size=6,
    )
)
def test_nothing_an_endpoint_says_raises(rows: list[Row]) -> None:
    """Any row at all is parsed or counted: rows in are never fewer than outcomes out, and none is lost."""
    parsed = parse.statements("P19", rows)
    parse.named(rows, "en")
    left_out = sum(
        parsed.counts[name] for name in ("filtered: subject is not an item", "filtered: bad statement id")
    )
    assert len(parsed.statements) + left_out <= len(rows)
    assert bool(parsed.statements) == (left_out < len(rows))


@pytest.mark.parametrize(
    ("value", "detail", "expected"),
    [
        (time("1879-01-01T00:00:00Z"), Term("literal", "9", XSD + "integer"), "9"),
        (time("1879-03-14T00:00:00Z"), Term("literal", "11"), "11"),
        (Term("literal", "+1.96", XSD + "decimal"), uri(ENTITY + "Q11573"), "Q11573"),
        (Term("literal", "+5", XSD + "decimal"), uri(ENTITY + "Q199"), "Q199"),
        (time("1879-03-14T00:00:00Z"), uri(ENTITY + "Q11573"), ""),
        (time("1879-03-14T00:00:00Z"), Term("literal", "day"), ""),
        (Term("literal", "+5", XSD + "decimal"), Term("literal", "9"), ""),
        (uri(ENTITY + "Q5"), uri(ENTITY + "Q11573"), ""),
        (time("1879-03-14T00:00:00Z"), None, ""),
    ],
)
def test_the_value_node_adds_precision_and_unit(value: Term, detail: Term | None, expected: str) -> None:
    """A time gets its precision and a quantity its unit; anything else that stands there is left out."""
    cells = {"value": value} | ({"detail": detail} if detail is not None else {})
    (statement,) = parse.statements("P1", [row(**cells)]).statements
    assert statement.value.detail == expected
    bare = parse.statements("P1", [row(value=value)]).statements[0]
    assert statement == bare, "the detail is no part of which fact it is"
    assert statement.adds_nothing_to(bare) is (expected == "")
    assert bare.adds_nothing_to(statement)


def test_texts_in_other_languages_are_left_out_by_name() -> None:
    """Of texts with a language those in the chosen one and in `mul` are facts."""
    rows = [
        row(st=uri(f"{STATEMENT}Q42-{tag}"), value=Term("literal", f"name in {tag}", None, tag))
        for tag in ("de", "en", "en-gb", "mul")
    ]
    parsed = parse.statements("P1448", rows, "en")
    assert {s.value.text for s in parsed.statements if s.value.kind is ValueKind.MONOLINGUAL} == {
        "name in en",
        "name in mul",
    }
    assert parsed.counts == {"filtered: text in another language": 2}
    assert len(parse.statements("P1448", rows).statements) == 4


def label(text: str, language: str | None) -> Row:
    return {"item": uri(ENTITY + "Q42"), "label": Term("literal", text, None, language)}


@pytest.mark.parametrize(
    ("rows", "text", "language"),
    [
        ([label("Douglas Adams", "en"), label("D. Adams", "mul")], "Douglas Adams", "en"),
        ([label("D. Adams", "mul")], "D. Adams", "mul"),
        ([{"item": uri(ENTITY + "Q42")}], None, None),
        ([label("b", "en"), label("a", "en"), label("c", "mul")], "a", "en"),
        ([label("  ", "en"), label("D. Adams", "mul")], "D. Adams", "mul"),
        ([label("Adams", None), label("Adams", "de")], None, None),
    ],
)
def test_labels_fall_back_to_mul_and_then_to_none(rows: list[Row], text: str | None, language: str | None) -> None:
    """The asked language, else `mul`, else none; never a label of another language."""
    for order in (rows, rows[::-1]):
        item = parse.named(order, "en")["Q42"]
        assert (item.label, item.language) == (text, language)


def test_a_real_item_of_the_public_service(settings_for: Callable[..., SourceSettings], tmp_path: Path) -> None:
    """Q42 exactly as the service holds it: lower-case ids, several values, ranks and qualifiers."""
    file = tmp_path / "Q42.ttl"
    file.write_bytes(gzip.decompress((DATA / "munged-Q42.ttl.gz").read_bytes()))
    with EmbeddedWikidata([file]) as server:
        client = SparqlClient(settings_for(server.endpoint))
        occupations = parse.statements("P106", client.select(queries.statements_of("P106", ["Q42"])))
        birth = parse.statements("P569", client.select(queries.statements_of("P569", ["Q42"])))
        named = parse.named(client.select(queries.labels(["Q42"], "en")), "en")
    ids = [statement.id for statement in occupations.statements]
    assert any(key.startswith("q42-") for key in ids)
    assert any(key.startswith("Q42-") for key in ids)
    assert {statement.subject for statement in occupations.statements} == {"Q42"}
    assert Value(ValueKind.ITEM, "Q214917") in {statement.value for statement in occupations.statements}
    (born,) = birth.statements
    assert born.value == Value(ValueKind.TIME, "1952-03-11T00:00:00Z")
    assert named["Q42"].label == "Douglas Adams"
    assert occupations.versions["Q42"] == (1276705620, datetime(2020, 9, 13, 16, 11, 27, tzinfo=UTC))
