"""What comes from the network or from a dump: answers, rows, triples, events, and the patterns that users write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pyoxigraph import RdfFormat
from pyoxigraph import parse as parse_rdf
from sqlalchemy.dialects import postgresql, sqlite

from kbsync.facts import Statement
from kbsync.settings import SourceSettings
from kbsync.source import dump, mutations, parse, patterns, triples
from kbsync.source.client import Row, SparqlClient, Term
from kbsync.source.guard import Guard
from kbsync.source.queries import ENTITY, GENID, STATEMENT, WIKIBASE, XSD
from kbsync.source.sse import messages
from kbsync.source.stream import MutationStream
from kbsync.source.transport import retry_after_s
from kbsync.store.tables.base import CleanText, UtcTime
from tests.fuzz.draw import Draw, Target, file, named

AT = datetime(2024, 1, 1, tzinfo=UTC)
SETTINGS = SourceSettings(endpoint="http://localhost/sparql", stream_url="http://localhost/stream")
CLIENT = SparqlClient(SETTINGS)
STREAM = MutationStream(SETTINGS, Guard(SETTINGS))
_DIALECTS = (sqlite.dialect(), postgresql.dialect())
_TEXT, _TIME = CleanText(), UtcTime()
_NAMES = (
    "item",
    "st",
    "value",
    "rank",
    "best",
    "version",
    "modified",
    "start",
    "end",
    "detail",
    "references",
    "label",
)
_TYPES = (
    None, f"{XSD}dateTime", f"{XSD}date", f"{XSD}decimal", f"{XSD}integer", f"{XSD}string",
    "http://www.opengis.net/ont/geosparql#wktLiteral",
)  # fmt: skip
_IRIS = (
    f"{ENTITY}Q1", f"{ENTITY}Q2", f"{ENTITY}P6", f"{ENTITY}L1", STATEMENT + "Q1-A", STATEMENT + "q2-B",
    f"{WIKIBASE}PreferredRank", f"{WIKIBASE}NormalRank", f"{WIKIBASE}DeprecatedRank", GENID + "x",
    "http://commons.wikimedia.org/wiki/Special:FilePath/", ENTITY, STATEMENT,
)  # fmt: skip


def storable(value: object) -> None:
    """A text or a time is bound as both databases want it."""
    for dialect in _DIALECTS:
        if isinstance(value, str):
            bound = _TEXT.process_bind_param(value, dialect)
            assert bound is not None
            assert "\0" not in bound
            bound.encode()
        elif isinstance(value, datetime):
            _TIME.process_bind_param(value, dialect)


def _all_of(statement: Statement) -> Iterator[object]:
    yield from (statement.id, statement.subject, statement.value.text, statement.value.detail)
    yield from (statement.start, statement.end)


def understood(rows: list[Row]) -> None:
    """Rows become statements and items that can be stored, whatever is in them."""
    parsed = parse.statements("P6", rows, "en")
    for statement in parsed.statements:
        for value in _all_of(statement):
            storable(value)
    assert all(name.startswith("filtered: ") for name in parsed.counts)
    for revision, modified in parsed.versions.values():
        assert revision is None or abs(revision) < 2**63
        storable(modified)
    for item in parse.named(rows, "en").values():
        storable(item.label)


def answer(data: bytes) -> None:
    """The body of an endpoint's answer."""
    with named():
        understood(CLIENT._rows(data))


def rows(data: bytes) -> None:
    """Rows of terms that are nearly what a statement query answers with."""
    draw = Draw(data)
    made: list[Row] = []
    while draw.more and len(made) < 20:
        row: Row = {}
        for _ in range(draw.number(len(_NAMES)) + 1):
            name = draw.pick(_NAMES)
            kind = draw.pick(("uri", "literal", "bnode"))
            if kind == "uri":
                row[name] = Term("uri", draw.pick(_IRIS) + draw.text())
            elif kind == "literal":
                row[name] = Term(
                    "literal", draw.text(), draw.pick(_TYPES), draw.pick((None, "en", "mul", "EN", ""))
                )
            else:
                row[name] = Term("bnode", draw.text())
        made.append(row)
    understood(made)


def triples_of_a_dump(data: bytes) -> None:
    """A dump: the first byte says which name it has, the rest is the file."""
    name = ("dump.nt", "dump.ttl")[Draw(data).number(2)]
    kinds = triples.kinds(["P6", "P31"], classes=True)
    with named():
        opened = dump.open_dump(file(name, data[1:]))
        for batch in dump.read(opened, triples.wanted(kinds, "en")):
            for quad in batch.quads:
                table, relation = kinds[quad.predicate.value]
                _as_row(table, relation, quad)


def lines_of_a_dump(data: bytes) -> None:
    """One triple put together from the words that Wikidata's dumps have, read without the filter before it."""
    draw = Draw(data)
    kinds = triples.kinds(["P6", "P31"], classes=True)
    predicate = draw.pick(sorted(kinds))
    subject = "<" + draw.pick(_IRIS) + _plain(draw.text()) + ">"
    ends = ("", "@en", "@mul", "@x-very-long-private-tag", f"^^<{XSD}dateTime>", f"^^<{XSD}integer>")
    if draw.number(2):
        value = "<" + draw.pick(_IRIS) + _plain(draw.text()) + ">"
    else:
        value = json.dumps(draw.text().encode("utf-8", "replace").decode()) + draw.pick(ends)
    line = f"{subject} <{predicate}> {value} .\n".encode()
    table, relation = kinds[predicate]
    try:
        quads = list(parse_rdf(line, RdfFormat.N_TRIPLES, lenient=True))
    except (SyntaxError, ValueError):  # `dump` makes a named error of it
        with named():
            list(dump.read(dump.open_dump(file("line.nt", line)), triples.wanted(kinds, "en")))
        return
    for quad in quads:
        _as_row(table, relation, quad)


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in "-_/")


def _as_row(table: str, relation: str, quad: Any) -> None:
    """The row of a triple, and what a statement query's term would be made of it."""
    if table == "time":
        assert all(isinstance(one, str) for one in triples.dates(quad))
        return
    row = triples.row(table, relation, quad, "en")
    if row is None:
        return
    for cell in row:
        storable(cell)
    if table in ("truthy", "object", "span"):
        kind, value, datatype, language = row[-4:]
        term = Term(kind or "", value or "", datatype, language)  # type: ignore[arg-type]
        understood([{"item": Term("uri", f"{ENTITY}Q1"), "st": Term("uri", f"{STATEMENT}Q1-A"), "value": term,
                     "start": term, "end": term}])  # fmt: skip


def stream(data: bytes) -> None:
    """The bytes of the stream in blocks of some size; each message's id must fit into the next request."""
    size = Draw(data).number(64) + 1
    body = data[1:]
    with named():
        for message in messages((body[i : i + size] for i in range(0, len(body), size)), most=1000):
            for _, value in STREAM._request(message.id, AT).header_items():
                value.encode("latin-1")
            judged(message.data)


def event(data: bytes) -> None:
    """The data of one message."""
    judged(data.decode("utf-8", "surrogateescape"))


def judged(text: str) -> None:
    """An event ends in a name, and what it leaves can be stored."""
    found = mutations.decode(text)
    if isinstance(found, str):
        assert found.startswith("filtered: ")
        return
    known = mutations.Known({"Q42": frozenset({"P31"})}, {("P31", "Q42"): 5}, {})
    outcome, touches = mutations.judge(found, {"P31", "P6"}, known, AT)
    assert outcome in ("touched", "duplicate", "older", "filtered: not watched")
    for touch in touches:
        for value in (touch.item, touch.relation, touch.operation, touch.at):
            storable(value)
        assert 0 <= touch.revision < 2**63
        mutations.is_settled(touch, 5, None)


def pattern(data: bytes) -> None:
    """A user's SPARQL pattern."""
    with named():
        patterns.check(data.decode("utf-8", "replace"))


def refusal(data: bytes) -> None:
    """The headers and the words with which an endpoint refuses."""
    draw = Draw(data)
    from email.message import Message

    headers = Message()
    wait = draw.text()
    found = retry_after_s(wait, AT)
    assert found is None or found >= 0
    if wait.isprintable():
        headers["Retry-After"] = wait
    error = CLIENT._refusal(draw.pick((400, 401, 403, 408, 429, 500, 503, 504)), headers, draw.text())
    with named():
        raise error


_STATEMENT = {
    "item": {"type": "uri", "value": f"{ENTITY}Q1"},
    "st": {"type": "uri", "value": f"{STATEMENT}Q1-A"},
    "value": {"type": "uri", "value": f"{ENTITY}Q2"},
    "rank": {"type": "uri", "value": f"{WIKIBASE}NormalRank"},
    "version": {"type": "literal", "value": "77", "datatype": f"{XSD}integer"},
    "modified": {"type": "literal", "value": "2020-01-01T00:00:00Z", "datatype": f"{XSD}dateTime"},
    "label": {"type": "literal", "value": "Arland", "xml:lang": "en"},
    "start": {"type": "typed-literal", "value": "-0044-03-15T00:00:00Z", "datatype": f"{XSD}dateTime"},
}
_EVENT = {
    "meta": {"dt": "2024-01-01T00:00:00Z", "domain": "www.wikidata.org"},
    "entity_id": "Q42",
    "rev_id": 6,
    "operation": "diff",
    "dt": "2024-01-01T00:00:00Z",
    "rdf_added_data": {"data": "<http://www.wikidata.org/prop/P31>", "mime_type": "text/turtle"},
}
_NT = f'<{ENTITY}Q1> <http://www.w3.org/2000/01/rdf-schema#label> "Arland"@en .\n'
_STATEMENTS_NT = (
    f"<{ENTITY}Q1> <http://www.wikidata.org/prop/P6> <{STATEMENT}Q1-A> .\n"
    f"<{STATEMENT}Q1-A> <http://www.wikidata.org/prop/statement/P6> <{ENTITY}Q2> .\n"
    f'<{STATEMENT}Q1-A> <http://www.wikidata.org/prop/qualifier/P580> "2020-01-01T00:00:00Z"^^<{XSD}dateTime> .\n'
)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


TARGETS = (
    Target(
        "answer",
        answer,
        (
            _json({"head": {}, "results": {"bindings": [_STATEMENT, _STATEMENT]}}),
            b'{"head":{},"results":{}}',
            b"[1e9]",
        ),
        ("bindings", "results", '"type"', '"literal"', '"datatype"', '"xml:lang"', ENTITY, "\\ud800", "\\u0000"),
    ),
    Target(
        "rows", rows, (bytes(range(48)), b"\x03\x00\x00\x00\x1f\x01\x00\x04\x1f"), (ENTITY, "2020-01-01T00:00:00Z")
    ),
    Target(
        "dump",
        triples_of_a_dump,
        (
            b"\x00" + _NT.encode() + _STATEMENTS_NT.encode(),
            b"\x01" + _STATEMENTS_NT.encode(),
            b"\x00\x1f\x8b\x08",
            b"\x01BZh91AY",
            b"\x00# x\n\n_:b <a> <b> .\n<< <a> <b> <c> >> <a> <b> .",
        ),
        (
            f"<{ENTITY}",
            f"<{STATEMENT}",
            f'"^^<{XSD}dateTime>',
            "@en .",
            "@mul .",
            "\\u0041",
            "<http://schema.org/version>",
        ),
    ),
    Target(
        "lines",
        lines_of_a_dump,
        (b"\x00\x00\x1f\x00\x00\x1f", b"\x05\x04Q1\x1f\x01Arland\x1f\x01"),
        ("2020-01-01",),
    ),
    Target(
        "stream",
        stream,
        (b"\x10event: message\nid: [{}]\ndata: " + _json(_EVENT) + b"\n\n", b"\x01\r\n\r\n: x\rdata\rid\r\r"),
        ("data: ", "id: ", "event: ", "\r\n", "\n\n"),
    ),
    Target(
        "event",
        event,
        (_json(_EVENT), _json({**_EVENT, "operation": "delete"}), _json({"meta": {"domain": "canary"}})),
        (
            "entity_id",
            "rev_id",
            "operation",
            '"delete"',
            '"import"',
            "0001-01-01T00:00:00+14:00",
            "rdf_deleted_data",
        ),
    ),
    Target(
        "pattern",
        pattern,
        (
            b"?item wdt:P31 wd:Q5 .",
            b"{ SELECT ?item WHERE { ?item ?p ?o } LIMIT 5 } FILTER(?o > 1)",
            b'VALUES ?item { wd:Q1 } OPTIONAL { ?item rdfs:label "x"@en } # c',
            b"BIND(wd:Q1 AS ?item) ?item ^wdt:P1/wdt:P2* ?x",
        ),
        (
            "SELECT",
            "WHERE",
            "{",
            "}",
            "FILTER",
            "UNION",
            "OPTIONAL",
            "MINUS",
            "VALUES",
            "BIND",
            "SERVICE",
            "GRAPH",
            "wdt:P31",
            "?item",
            '"""',
            "@en",
            "^^xsd:date",
            "NOT EXISTS",
            "GROUP BY",
            "[",
            "]",
            "(",
            ")",
            "COUNT(*)",
        ),
        200,
    ),
    Target(
        "refusal",
        refusal,
        (b"120\x1f\x02banned until 2024-01-01T00:00:00Z\x1f", b"Wed, 21 Oct 2026 07:28:00 GMT\x1f\x04no\x1f"),
        ("banned until ", "GMT", "+0000", "timeout"),
        300,
    ),
)
