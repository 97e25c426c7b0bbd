"""A user's pattern: what is let through, and what is refused with its place."""

from __future__ import annotations

import pytest

from kbsync.errors import ConfigError
from kbsync.source import queries
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.patterns import LONGEST, check

GOOD = [
    "?item wdt:P17 wd:Q142",
    "?item wdt:P17 wd:Q142 . FILTER NOT EXISTS { ?item wdt:P576 ?gone }",
    "{ ?item wdt:P31 wd:Q5 } UNION { ?item wdt:P31/wdt:P279* wd:Q43229 }",
    "{ SELECT ?item WHERE { ?item wdt:P31 wd:Q5 } ORDER BY ?item LIMIT 3 }",
    "{ SELECT ?item (COUNT(?x) AS ?n) WHERE { ?item wdt:P463 ?x } GROUP BY ?item HAVING (?n > 2) }",
    "SELECT ?item WHERE { ?item wdt:P31 wd:Q5 }",
    "VALUES ?item { wd:Q1 wd:Q2 }",
    'BIND(IRI("http://www.wikidata.org/entity/Q1") AS ?item)',
    '?item rdfs:label "SERVICE } insert #"@en . # a comment with } and SERVICE',
    "?item <http://example.org/#part> ?of OPTIONAL { ?of wdt:P36 ?x } MINUS { ?item wdt:P31 wd:Q6 }",
]
BAD = [
    ("", "is empty"),
    ("# nothing", "is empty"),
    ("?item wdt:P17", r"not SPARQL \(line 1, column \d+\)"),
    ("?item wdt:P17 wd:Q142 } UNION { ?a ?b ?c", r"not SPARQL \(line 1, column 25\): it can't be read from 'UNION"),
    ("?item wdt:P17 wd:Q142 } LIMIT 1 #", "not SPARQL"),
    ("?item wdt:P17 wd:Q142 . SERVICE <http://x.example/> { ?a ?b ?c }", r"SERVICE asks .* \(line 1, column 25\)"),
    ("?item a ?c .\n OPTIONAL { SERVICE SILENT ?c { ?a ?b ?c } }", r"SERVICE asks .* \(line 2, column 13\)"),
    ("?item a ?c FILTER EXISTS { SERVICE <http://x.example/> { ?a ?b ?c } }", "SERVICE asks"),
    ("{ SELECT ?item { { SERVICE <http://x.example/> { ?item a ?c } } } }", "SERVICE asks"),
    ("GRAPH <http://x.example/> { ?item a ?c }", "GRAPH reads another graph"),
    ("{ SELECT ?item FROM <http://x.example/> WHERE { ?item a ?c } }", r"FROM reads another graph.* \(line 1"),
    ("INSERT DATA { <a:b> <a:b> <a:b> }", "INSERT is part of an update"),
    ("?item a ?c } ; DROP ALL ; INSERT { ?x a ?y } WHERE { ?x a ?y", "DROP is part of an update"),
    ("SELECT ?item WHERE { ?item a ?c } LIMIT 5 OFFSET 2 } #", "not SPARQL|SELECT begins"),
    ("ASK { ?item a ?c }", "ASK begins a whole query"),
    ("PREFIX x: <http://x.example/> ?item a x:y", "PREFIX begins a whole query"),
    ("?item x:P17 wd:Q142", r"the prefix x: is not known \(line 1, column 7\); known are"),
    ("?subject wdt:P17 wd:Q142", "does not bind \\?item"),
    ("?x a ?y OPTIONAL { ?item a ?c }", "does not bind \\?item"),
    ("?x a ?y MINUS { ?item a ?c }", "does not bind \\?item"),
    ("?x a ?y FILTER EXISTS { ?item a ?c }", "does not bind \\?item"),
    ("{ ?item a ?c } UNION { ?x a ?c }", "does not bind \\?item"),
    ("{ SELECT ?x WHERE { ?item a ?x } }", "does not bind \\?item"),
    ("?item wdt:P17 ?value", r"\?value is a name that kbsync uses itself; rename it \(line 1, column 15\)"),
    ("?item wdt:P17 wd:Q1 \\u007D UNION { ?a ?b ?c }", "a backslash outside of quotes"),
    ('?item rdfs:label "\\u0022 } #"', r"\\u escapes are refused"),
    ("?item a <http://x/\\u003e> ", "a backslash|u escapes"),
    ("?item a ?c . " * (LONGEST // 10), "more than the"),
]


@pytest.mark.parametrize("pattern", GOOD)
def test_a_good_pattern_is_answered_inside_each_query(wikidata: EmbeddedWikidata, pattern: str) -> None:
    """What passes is a whole group: real SPARQL in every query that it is put into."""
    from kbsync.settings import SourceSettings
    from kbsync.source.client import SparqlClient

    client = SparqlClient(SourceSettings(endpoint=wikidata.endpoint, contact="tests", attempts=1))
    text = f"{{ {check(pattern)} }}"
    assert client.select(queries.any_subject("P6", text)) == []
    assert client.select(queries.next_subjects("P6", "", 10, text)) == []
    assert isinstance(client.select(queries.matching(text, ["Q1", "Q2"])), list)


@pytest.mark.parametrize(("pattern", "said"), BAD)
def test_a_bad_pattern_is_refused_with_its_place(pattern: str, said: str) -> None:
    """The error names what is wrong."""
    with pytest.raises(ConfigError, match=said):
        check(pattern)


def test_comments_go_and_hashes_stay() -> None:
    """A comment can't hide the brace that closes the group; an IRI and a text keep their `#`."""
    assert check("?item a <http://x/#y> # } \n") == "?item a <http://x/#y>"
    assert check('?item rdfs:label "a # b"') == '?item rdfs:label "a # b"'
