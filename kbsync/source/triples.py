"""Which triples of a dump matter, and what row each of them becomes in the scratch file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kbsync.facts import is_entity_id
from kbsync.source.dump import Wanted
from kbsync.source.queries import ENTITY, STATEMENT, WIKIBASE, XSD

_PROP = "http://www.wikidata.org/prop/"
_DATA = "https://www.wikidata.org/wiki/Special:EntityData/"  # where a dump puts an item's revision
_SCHEMA = "http://schema.org/"
_LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
_DATED = (f"{WIKIBASE}Dump", "http://www.wikidata.org")  # what the dump's own time stands on
_RANK, NORMAL = f"{WIKIBASE}rank", f"{WIKIBASE}NormalRank"
_DETAILS = (f"{WIKIBASE}timePrecision", f"{WIKIBASE}quantityUnit")
_SPANS = {f"{_PROP}qualifier/P580": "start", f"{_PROP}qualifier/P582": "end"}

Stored = tuple[str | None, ...]


def wanted(predicates: Iterable[str], language: str) -> Wanted:
    """What to read of a dump: these predicates, less the lines that are told to be of no use without parsing."""
    languages = (language.encode(), b"mul")
    label, rank = f"<{_LABEL}>".encode(), f"<{_RANK}>".encode()
    date, dated = f"<{_SCHEMA}dateModified>".encode(), {f"<{one}>".encode() for one in _DATED}
    normal = f"<{NORMAL}>".encode()

    def passes(predicate: bytes, subject: bytes, rest: bytes) -> bool:
        if predicate == label:
            return rest.rpartition(b"@")[2].rstrip(b" .\r\t").lower() in languages
        if predicate == rank:
            return not rest.startswith(normal)
        return predicate != date or subject in dated

    return Wanted(frozenset(predicates), passes)


def kinds(relations: Iterable[str], classes: bool = False) -> dict[str, tuple[str, str]]:
    """Each wanted predicate: the table that its triples go to, and the relation that they are about.

    `classes`: also what each item is an instance of, and each class a subclass of.
    """
    found = {
        _LABEL: ("label", ""),
        f"{_SCHEMA}version": ("version", ""),
        f"{_SCHEMA}dateModified": ("time", ""),
        _RANK: ("rank", ""),
        **dict.fromkeys(_DETAILS, ("detail", "")),
        **{one: ("span", which) for one, which in _SPANS.items()},
    }
    if classes:
        found |= {f"{_PROP}direct/{one}": ("kind", one) for one in ("P31", "P279")}
    for relation in relations:
        found[f"{_PROP}direct/{relation}"] = ("truthy", relation)
        found[f"{_PROP}{relation}"] = ("said", relation)
        found[f"{_PROP}statement/{relation}"] = ("object", relation)
        found[f"{_PROP}statement/value/{relation}"] = ("node", relation)
    return found


def row(table: str, relation: str, quad: Any, language: str) -> Stored | None:
    """The triple as a row of its table; None where it is not about what it seems to be."""
    subject: str = quad.subject.value
    if not hasattr(quad.object, "value"):  # a quoted triple
        return None
    if table in ("label", "version", "truthy", "said", "kind"):
        prefix = _DATA if subject.startswith(_DATA) else ENTITY
        item = subject[len(prefix) :]
        if not (subject.startswith(prefix) and is_entity_id(item)):
            return None
        if table == "truthy":
            return (relation, item, *_stored(quad))
        if table == "kind":
            above = quad.object.value.removeprefix(ENTITY)
            return (relation, item, above) if is_entity_id(above) else None
        if table == "version":
            return item, quad.object.value
        if table == "said":
            statement: str = quad.object.value
            return (relation, item, statement[len(STATEMENT) :]) if statement.startswith(STATEMENT) else None
        tag = (getattr(quad.object, "language", None) or "").lower()
        return (item, quad.object.value, tag) if tag in (language, "mul") else None
    if table == "detail":
        return (subject, *_stored(quad))
    statement = subject[len(STATEMENT) :] if subject.startswith(STATEMENT) else ""
    if not statement:
        return None
    if table == "rank":
        return None if quad.object.value == NORMAL else (statement, quad.object.value)
    if table == "node":
        return relation, statement, quad.object.value
    return (relation, statement, *_stored(quad))  # of a span the name stands where others have the relation


def dates(quad: Any) -> list[str]:
    """The dump's own time, where the triple tells it."""
    return [quad.object.value] if quad.subject.value in _DATED else []


def _stored(quad: Any) -> Stored:
    """The object as (kind, value, datatype, language), as a SPARQL answer would have it."""
    from pyoxigraph import BlankNode, NamedNode

    term = quad.object
    if isinstance(term, NamedNode):
        return "uri", term.value, None, None
    if isinstance(term, BlankNode):
        return "bnode", term.value, None, None
    language: str | None = term.language
    datatype: str = term.datatype.value
    return "literal", term.value, None if language or datatype == XSD + "string" else datatype, language
