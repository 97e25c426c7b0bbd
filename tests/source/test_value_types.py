"""Two real items with some hundred properties of every type, through the normal pull."""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from pyoxigraph import BlankNode, Literal, NamedNode, RdfFormat, parse

from kbsync.facts import Value, ValueKind
from kbsync.settings import SourceSettings
from kbsync.source.client import SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from tests.source.conftest import DATA
from tests.source.mirror import Mirror

DIRECT = "http://www.wikidata.org/prop/direct/"
CLAIM = "http://www.wikidata.org/prop/P"
ENTITY = "http://www.wikidata.org/entity/"
XSD = "http://www.w3.org/2001/XMLSchema#"
COMMONS = "http://commons.wikimedia.org/"


def said(term: NamedNode | BlankNode | Literal) -> Value | str:
    """The value that a `wdt:` triple's object is, or the name under which it is left out; written anew for this."""
    if isinstance(term, BlankNode) or term.value.startswith("http://www.wikidata.org/.well-known/genid/"):
        return "filtered: unknown value"
    if isinstance(term, NamedNode):
        if term.value.startswith(ENTITY):
            return Value(ValueKind.ITEM, term.value.removeprefix(ENTITY))
        if term.value.startswith(COMMONS):
            return "filtered: media file" if "FilePath" in term.value else "filtered: data page"
        return Value(ValueKind.STRING, term.value)
    if term.language:
        if term.language not in ("en", "mul"):
            return "filtered: text in another language"
        return Value(ValueKind.MONOLINGUAL, term.value)
    kind = term.datatype.value
    if kind == XSD + "dateTime":
        return Value(ValueKind.TIME, term.value)
    if kind == XSD + "decimal":
        return Value(ValueKind.QUANTITY, term.value.removeprefix("+"))
    if kind == XSD + "string":
        return Value(ValueKind.STRING, term.value)
    return {"wktLiteral": "filtered: coordinates", "MathML": "filtered: formula"}[
        kind.rpartition("#")[2] or "MathML"
    ]


@pytest.mark.parametrize(("item", "least"), [("Q42", 200), ("Q513", 40)])
def test_a_real_item_gives_exactly_its_truthy_facts(
    item: str, least: int, settings_for: Callable[..., SourceSettings], tmp_path: Path
) -> None:
    """Every `wdt:` triple of the file is a fact or is left out by name, and there are no other facts."""
    file = tmp_path / f"{item}.ttl"
    file.write_bytes(gzip.decompress((DATA / f"munged-{item}.ttl.gz").read_bytes()))
    facts: dict[str, set[Value]] = defaultdict(set)
    left_out: dict[str, set[str]] = defaultdict(set)
    relations: set[str] = set()
    for quad in parse(path=file, format=RdfFormat.TURTLE, lenient=True):
        predicate = quad.predicate.value
        if predicate.startswith(CLAIM) and quad.subject.value == ENTITY + item:
            relations.add(predicate.rpartition("/")[2])
        if predicate.startswith(DIRECT) and quad.subject.value == ENTITY + item:
            value = said(quad.object)
            relation = predicate.removeprefix(DIRECT)
            if isinstance(value, str):
                left_out[relation].add(value)
            else:
                facts[relation].add(value)
    assert len(relations) >= least
    kinds: Counter[ValueKind] = Counter()
    with EmbeddedWikidata([file], lenient=True) as server:
        settings = settings_for(server.endpoint)
        client = SparqlClient(settings)
        for relation in sorted(relations):
            mirror = Mirror(relation)
            mirror.pull(client, settings)
            assert mirror.facts() == {(item, value) for value in facts[relation]}, relation
            assert left_out[relation] <= set(mirror.counts), relation
            kinds.update(value.kind for _, value in mirror.facts())
            for _, value in mirror.facts():
                if value.kind is ValueKind.TIME:
                    assert value.detail in ("9", "10", "11"), (relation, value)
                if value.kind is ValueKind.QUANTITY:
                    assert value.detail.startswith("Q"), (relation, value)
    assert kinds[ValueKind.ITEM]
    assert kinds[ValueKind.STRING]
    assert kinds[ValueKind.QUANTITY]
    assert kinds[ValueKind.TIME] or item == "Q513"  # a mountain has no date
    assert any(left_out.values())
