"""The queries, in standard SPARQL 1.1: no label service, no hints, nothing that one engine alone has.

Pages are keyset pages: each begins after the last key of the one before, so rows that come or go between two
requests shift nothing, and ties at one time are split by the item. All ids are checked before they get into a
query; anything else that does is escaped as a literal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from kbsync.facts import is_entity_id, is_property_id

ENTITY = "http://www.wikidata.org/entity/"
STATEMENT = "http://www.wikidata.org/entity/statement/"
GENID = "http://www.wikidata.org/.well-known/genid/"  # how the public service writes "some value"
WIKIBASE = "http://wikiba.se/ontology#"
XSD = "http://www.w3.org/2001/XMLSchema#"
STATEMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,199}")

PREFIXES = f"""\
PREFIX wd: <{ENTITY}>
PREFIX p: <http://www.wikidata.org/prop/>
PREFIX ps: <http://www.wikidata.org/prop/statement/>
PREFIX psv: <http://www.wikidata.org/prop/statement/value/>
PREFIX pq: <http://www.wikidata.org/prop/qualifier/>
PREFIX pr: <http://www.wikidata.org/prop/reference/>
PREFIX wdt: <http://www.wikidata.org/prop/direct/>
PREFIX prov: <http://www.w3.org/ns/prov#>
PREFIX wikibase: <{WIKIBASE}>
PREFIX schema: <http://schema.org/>
PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#>
PREFIX owl: <http://www.w3.org/2002/07/owl#>
PREFIX xsd: <{XSD}>
"""


RESERVED = frozenset({"any", "class", "st", "value", "detail", "rank", "best", "start", "end", "references"}) | {
    "version", "modified", "node", "ref", "wiki", "none",
}  # fmt: skip  # the queries' own variables, which a user's pattern would collide with


# One word for each statement, instead of one more row for each of its references; without any it is unbound.
_REFERENCES = (
    "BIND(IF(EXISTS { ?st prov:wasDerivedFrom ?ref . FILTER NOT EXISTS { ?ref pr:P143 ?wiki } }, "
    '"s", IF(EXISTS { ?st prov:wasDerivedFrom ?any }, "i", ?none)) AS ?references)'
)


def lag() -> str:
    """`?modified`: the time up to which the endpoint has followed Wikidata (its lag triple)."""
    return f"{PREFIXES}SELECT ?modified WHERE {{ <http://www.wikidata.org> schema:dateModified ?modified }}"


def newest(relation: str) -> str:
    """`?modified`: the latest edit of an item that has `relation`, for endpoints without a lag triple."""
    p = _property(relation)
    return f"{PREFIXES}SELECT (MAX(?d) AS ?modified) WHERE {{ ?item p:{p} ?st ; schema:dateModified ?d }}"


def next_subjects(relation: str, after: str, limit: int, chosen: str = "") -> str:
    """`?item`: the next `limit` subjects of `relation` after the IRI `after` ("": from the first), in that order.

    `chosen` is a graph pattern that they must match. What they are sorted by is made once for each, and not in each
    comparison, which takes Oxigraph nearly three times as long.
    """
    p = _property(relation)
    key = f"FILTER(STR(?item) > {_literal(after)}) " if after else ""
    only = f"{chosen} " if chosen else ""
    return (
        f"{PREFIXES}SELECT ?item WHERE {{\n"
        f"  {{ SELECT DISTINCT ?item WHERE {{ ?item p:{p} ?any . {only}{key}}} }}\n"
        f"  BIND(STR(?item) AS ?key)\n"
        f"}} ORDER BY ?key LIMIT {int(limit)}"
    )


def statements_of(relation: str, items: Iterable[str]) -> str:
    """Everything about the statements of `relation` on `items`; a subject without any gives no row.

    The subject's revision is read in the same query, so it is never newer than the statements beside it.
    `?detail` comes from the value node: a time's precision or a quantity's unit; other values have neither.
    """
    p = _property(relation)
    return (
        f"{PREFIXES}SELECT ?item ?version ?modified ?st ?value ?detail ?rank ?best ?start ?end ?references "
        f"WHERE {{\n"
        f"  {_values(items)}\n"
        f"  ?item p:{p} ?st .\n"
        f"  OPTIONAL {{ ?st ps:{p} ?value }}\n"
        f"  OPTIONAL {{ ?st psv:{p} ?node . ?node wikibase:timePrecision|wikibase:quantityUnit ?detail }}\n"
        f"  OPTIONAL {{ ?st wikibase:rank ?rank }}\n"
        f"  OPTIONAL {{ ?st a ?best . FILTER(?best = wikibase:BestRank) }}\n"
        f"  OPTIONAL {{ ?st pq:P580 ?start }}\n"
        f"  OPTIONAL {{ ?st pq:P582 ?end }}\n"
        f"  {_REFERENCES}\n"
        f"  OPTIONAL {{ ?item schema:version ?version }}\n"
        f"  OPTIONAL {{ ?item schema:dateModified ?modified }}\n"
        f"}}"
    )


def changed(relation: str, since: tuple[datetime, str], until: datetime, limit: int) -> str:
    """`?item ?modified` of the next `limit` subjects of `relation` that were edited before `until`.

    `since` is the key (time, item IRI) to begin after, exclusively; `until` is excluded: a half-open window.
    """
    p = _property(relation)
    time, item = _time(since[0]), _literal(since[1])
    return (
        f"{PREFIXES}SELECT DISTINCT ?item ?modified WHERE {{\n"
        f"  ?item p:{p} ?st ; schema:dateModified ?modified .\n"
        f"  FILTER(?modified < {_time(until)})\n"
        f"  FILTER(?modified > {time} || (?modified = {time} && STR(?item) > {item}))\n"
        f"}} ORDER BY ?modified STR(?item) LIMIT {int(limit)}"
    )


def versions(relation: str, items: Iterable[str]) -> str:
    """`?item ?version` of those `items` that still have a statement of `relation`; the others give no row."""
    return (
        f"{PREFIXES}SELECT DISTINCT ?item ?version WHERE {{\n"
        f"  {_values(items)}\n"
        f"  ?item p:{_property(relation)} ?st .\n"
        f"  OPTIONAL {{ ?item schema:version ?version }}\n"
        f"}}"
    )


def totals(relation: str, chosen: str = "") -> str:
    """`?subjects ?versions`: how many items have a statement of `relation`, and the sum of their revisions.

    `chosen` is a graph pattern that the items must match. One row tells what `versions` tells item by item, as
    long as nothing has moved.
    """
    only = f"{chosen} " if chosen else ""
    return (
        f"{PREFIXES}SELECT (COUNT(*) AS ?subjects) (SUM(COALESCE(?version, 0)) AS ?versions) WHERE {{\n"
        f"  {{ SELECT DISTINCT ?item ?version WHERE {{\n"
        f"    ?item p:{_property(relation)} ?any . {only}\n"
        f"    OPTIONAL {{ ?item schema:version ?version }}\n"
        f"    FILTER(STRSTARTS(STR(?item), {_literal(ENTITY + 'Q')}))\n"
        f"  }} }}\n"
        f"}}"
    )


def labels(items: Iterable[str], language: str) -> str:
    """`?item ?label ?version ?modified`: labels in `language` and in `mul`, and what tells that it exists."""
    return (
        f"{PREFIXES}SELECT ?item ?label ?version ?modified WHERE {{\n"
        f"  {_values(items)}\n"
        f"  OPTIONAL {{ ?item rdfs:label ?label . "
        f'FILTER(LANG(?label) = {_literal(language)} || LANG(?label) = "mul") }}\n'
        f"  OPTIONAL {{ ?item schema:version ?version }}\n"
        f"  OPTIONAL {{ ?item schema:dateModified ?modified }}\n"
        f"}}"
    )


def redirects(items: Iterable[str]) -> str:
    """`?item ?target` of those `items` that were merged into another."""
    return f"{PREFIXES}SELECT ?item ?target WHERE {{ {_values(items)} ?item owl:sameAs ?target }}"


def deleted(statements: Iterable[str]) -> str:
    """`?st` of those `statements` (by id) of which the endpoint knows no rank: they are gone."""
    ids = list(statements)
    for one in ids:
        if not STATEMENT_ID.fullmatch(one):
            raise ValueError(f"not a statement id: {one!r}")
    values = " ".join(f"<{STATEMENT}{one}>" for one in ids)
    return (
        f"{PREFIXES}SELECT ?st WHERE {{ VALUES ?st {{ {values} }} FILTER NOT EXISTS {{ ?st wikibase:rank ?r }} }}"
    )


def instances(roots: Iterable[str]) -> str:
    """A graph pattern: `?item` is an instance of one of `roots`, or of a class below one, at the best rank."""
    return f"{_values(roots, 'class')} ?item wdt:P31/wdt:P279* ?class ."


def matching(chosen: str, items: Iterable[str]) -> str:
    """`?item`: those of `items` that match the graph pattern `chosen`."""
    return f"{PREFIXES}SELECT DISTINCT ?item WHERE {{ {_values(items)} {chosen} }}"


def any_subject(relation: str, chosen: str) -> str:
    """`?item`: one subject of `relation` that matches the graph pattern `chosen`, if there is one."""
    return f"{PREFIXES}SELECT ?item WHERE {{ ?item p:{_property(relation)} ?any . {chosen} }} LIMIT 1"


def classes(items: Iterable[str]) -> str:
    """`?item ?class`: what those `items` are instances of, at the best rank."""
    return f"{PREFIXES}SELECT ?item ?class WHERE {{ {_values(items)} ?item wdt:P31 ?class }}"


def below(items: Iterable[str], roots: Iterable[str]) -> str:
    """`?item ?root`: which of the classes `items` are one of `roots`, or a subclass of one."""
    return (
        f"{PREFIXES}SELECT DISTINCT ?item ?root WHERE {{\n"
        f"  {_values(items)}\n  {_values(roots, 'root')}\n"
        f"  ?item wdt:P279* ?root\n"
        f"}}"
    )


def _property(relation: str) -> str:
    if not is_property_id(relation):
        raise ValueError(f"not a property id: {relation!r}")
    return relation


def _values(items: Iterable[str], name: str = "item") -> str:
    """A VALUES clause over `?item`, or another name. Raises ValueError on text that is not an entity id."""
    ids = list(items)
    for one in ids:
        if not is_entity_id(one):
            raise ValueError(f"not an entity id: {one!r}")
    return f"VALUES ?{name} {{ " + " ".join(f"wd:{one}" for one in ids) + " }"


def _time(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return f'"{text}"^^xsd:dateTime'


def _literal(text: str) -> str:
    """`text` as a SPARQL string literal (SPARQL 1.1, 19.7: the characters that must be escaped)."""
    for raw, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(raw, escaped)
    return f'"{text}"'
