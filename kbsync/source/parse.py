"""Rows of an answer → items and statements. Each row ends in one of these or in a named `filtered: …` count.

Nothing here raises on what the endpoint says: a foreign or malformed id is counted and left out; a statement
whose object can't be said (unknown, none, a lexeme's form) is kept with ValueKind.UNKNOWN, so that the store
can tell it from a deleted one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache

from kbsync.facts import LONG_AGO, Item, Rank, References, Statement, Value, ValueKind, is_entity_id
from kbsync.source.client import Row, Term
from kbsync.source.queries import ENTITY, GENID, STATEMENT, STATEMENT_ID, WIKIBASE, XSD

UNKNOWN = Value(ValueKind.UNKNOWN, "")
FAR_AHEAD = datetime(9999, 12, 31, tzinfo=UTC)

_TIME = re.compile(r"^([+-]?)(\d{4,16})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?)?Z?$")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_PRECISION = re.compile(r"^\d{1,2}$")
_MEDIA = "http://commons.wikimedia.org/wiki/Special:FilePath/"
_DATA_PAGES = "http://commons.wikimedia.org/data/"
_TEXT_TYPES = frozenset({None, XSD + "string"})
_UNSAYABLE_TYPES = {
    "http://www.opengis.net/ont/geosparql#wktLiteral": "filtered: coordinates",
    "http://www.w3.org/1998/Math/MathML": "filtered: formula",
}
_TIME_TYPES = frozenset({XSD + "dateTime", XSD + "date"})
_QUANTITY_TYPES = frozenset({XSD + "decimal", XSD + "integer", XSD + "double"})
_RANKS = {
    WIKIBASE + "PreferredRank": Rank.PREFERRED,
    WIKIBASE + "NormalRank": Rank.NORMAL,
    WIKIBASE + "DeprecatedRank": Rank.DEPRECATED,
}


@dataclass(slots=True)
class Parsed:
    """What the rows of one answer say.

    `versions` has (revision, modified) of each subject; `statements` are sorted by (subject, id); `counts`
    has the filtered ones by name.
    """

    versions: dict[str, tuple[int | None, datetime | None]] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def entity_id(term: Term | None) -> str | None:
    """The id of a `wd:` IRI, or None for anything else."""
    return _entity(term.value) if term is not None and term.kind == "uri" else None


@lru_cache(maxsize=8192)  # a page names each of its items several times
def _entity(iri: str) -> str | None:
    text = iri.removeprefix(ENTITY)
    return text if len(text) < len(iri) and is_entity_id(text) else None


def statements(relation: str, rows: Iterable[Row], language: str | None = None) -> Parsed:
    """Group the rows of a statement query. Several rows of one statement (its qualifiers) become one.

    Of texts with a language (`Liberté`, in French) those in `language` and in `mul` are kept; None keeps all.
    """
    parsed = Parsed()
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        subject = entity_id(row.get("item"))
        if subject is None or not subject.startswith("Q"):
            parsed.counts["filtered: subject is not an item"] += 1
            continue
        _note_version(parsed.versions, subject, row)
        key = statement_id(row.get("st"))
        if key is None:
            parsed.counts["filtered: bad statement id"] += 1
            continue
        groups[subject, key].append(row)
    for (subject, key), group in sorted(groups.items(), key=lambda pair: pair[0]):
        parsed.statements.append(_statement(relation, subject, key, group, parsed.counts, language))
    return parsed


def named(rows: Iterable[Row], language: str) -> dict[str, Item]:
    """Items of a label query: the label in `language`, else in `mul`, else None.

    Of several labels in one language (an endpoint's slip) the first in code point order is taken.
    """
    found: dict[str, dict[str, str]] = {}
    versions: dict[str, tuple[int | None, datetime | None]] = {}
    for row in rows:
        item = entity_id(row.get("item"))
        if item is None:
            continue
        _note_version(versions, item, row)
        by_language = found.setdefault(item, {})
        label = row.get("label")
        if label is not None and label.kind == "literal" and label.value.strip():
            tag = (label.language or "").lower()
            by_language[tag] = min(label.value, by_language.get(tag, label.value))
    items = {}
    for item, by_language in found.items():
        tag = language if language in by_language else "mul"
        label_text = by_language.get(tag)
        revision, modified = versions[item]
        items[item] = Item(item, label_text, tag if label_text is not None else None, revision, modified)
    return items


def moment(term: Term | None) -> datetime | None:
    """A time literal as aware UTC, or None when it is missing or not a time.

    Years outside 1 to 9999 are clamped to the nearest that Python has, and a day that its month does not have
    to the first, so that an ended statement stays an ended one.
    """
    return _moment(term.value) if term is not None and term.kind == "literal" else None


@lru_cache(maxsize=8192)  # an item's time stands beside each of its statements
def _moment(text: str) -> datetime | None:
    match = _TIME.match(text)
    if match is None:
        return None
    year = int(match[2])
    if match[1] == "-" or year == 0:
        return LONG_AGO
    if year > 9999:
        return FAR_AHEAD
    month, day = min(max(int(match[3]), 1), 12), max(int(match[4]), 1)
    parts = (match[5], match[6], match[7], (match[8] or "")[:6].ljust(6, "0"))
    hour, minute, second, fraction = (int(part) if part else 0 for part in parts)
    try:
        return datetime(year, month, day, hour, minute, second, fraction, tzinfo=UTC)
    except ValueError:
        return datetime(year, month, 1, tzinfo=UTC)


def integer(term: Term | None) -> int | None:
    """A whole number literal, or None."""
    text = term.value if term is not None and term.kind == "literal" else ""
    return int(text) if _INTEGER.fullmatch(text) else None


def _note_version(versions: dict[str, tuple[int | None, datetime | None]], item: str, row: Row) -> None:
    """Keep the lowest revision and time: an endpoint that shows two is between them, to be read again."""
    revision, modified = integer(row.get("version")), moment(row.get("modified"))
    old = versions.setdefault(item, (revision, modified))
    if old == (revision, modified):  # nearly always
        return
    old_revision, old_modified = old
    versions[item] = (
        min((r for r in (old_revision, revision) if r is not None), default=None),
        min((m for m in (old_modified, modified) if m is not None), default=None),
    )


def statement_id(term: Term | None) -> str | None:
    """The id as the endpoint writes it, which can begin with a lower-case `q`: it never names the subject."""
    if term is None or term.kind != "uri" or not term.value.startswith(STATEMENT):
        return None
    text = term.value.removeprefix(STATEMENT)
    return text if STATEMENT_ID.fullmatch(text) else None


def _statement(
    relation: str,
    subject: str,
    statement_id: str,
    group: list[Row],
    counts: Counter[str],
    language: str | None,
) -> Statement:
    """One statement from all its rows: earliest start, latest end, the least of contradicting values."""
    values = {_value(row.get("value"), language) for row in group}
    value, reason = min(values)
    details = [text for term in _told(group, "detail") if (text := _detail(value.kind, term))]
    if details:
        value = replace(value, detail=min(details))
    if len(values) > 1:
        counts["filtered: second value of one statement"] += len(values) - 1
    if reason:
        counts[reason] += 1
    ranks = [_RANKS[term.value] for term in _told(group, "rank") if term.value in _RANKS]
    starts = [time for term in _told(group, "start") if (time := moment(term)) is not None]
    ends = [time for term in _told(group, "end") if (time := _end(term)) is not None]
    rank = min(ranks, default=Rank.NORMAL)  # by name: of contradicting ranks, deprecated wins
    return Statement(
        id=statement_id,
        subject=subject,
        relation=relation,
        value=value,
        rank=rank,
        best=rank is not Rank.DEPRECATED and any("best" in row for row in group),
        start=min(starts, default=None),
        end=max(ends, default=None),
        references=_references(group),
    )


def _told(group: list[Row], name: str) -> list[Term]:
    """What the rows say of one variable, where they bind it."""
    return [row[name] for row in group if name in row]


def _references(group: list[Row]) -> References:
    """What the statement query says in one word: `s`, `i`, or nothing where there is no reference."""
    words = {term.value for term in _told(group, "references")}
    return References.SOURCED if "s" in words else References.IMPORTED if words else References.NONE


def _end(term: Term | None) -> datetime | None:
    """An end time; `some value` means that it has ended, only nobody knows when."""
    if term is not None and (term.kind == "bnode" or term.value.startswith(GENID)):
        return LONG_AGO
    return moment(term)


def _detail(kind: ValueKind, term: Term | None) -> str:
    """A time's precision or a quantity's unit; "" where the value node tells neither."""
    if term is None:
        return ""
    if kind is ValueKind.TIME:
        return term.value if term.kind == "literal" and _PRECISION.match(term.value) else ""
    return (entity_id(term) or "") if kind is ValueKind.QUANTITY else ""


def _value(term: Term | None, language: str | None = None) -> tuple[Value, str]:
    """The value of a statement and, when it can't be said as an object, the `filtered: …` name of why."""
    if term is None:
        return UNKNOWN, "filtered: no value"
    if term.kind == "bnode" or (term.kind == "uri" and term.value.startswith(GENID)):
        return UNKNOWN, "filtered: unknown value"
    if term.kind == "uri":
        if term.value.startswith((_MEDIA, _DATA_PAGES)):
            return UNKNOWN, "filtered: media file" if term.value.startswith(_MEDIA) else "filtered: data page"
        if not term.value.startswith(ENTITY):
            return Value(ValueKind.STRING, term.value), ""
        found = entity_id(term)
        if found is None:
            return UNKNOWN, "filtered: object is not an item"
        return Value(ValueKind.ITEM, found), ""
    if term.language:
        if language is not None and term.language.lower() not in (language, "mul"):
            return UNKNOWN, "filtered: text in another language"
        return Value(ValueKind.MONOLINGUAL, term.value), ""
    if term.datatype in _TIME_TYPES:
        if _TIME.match(term.value) is None:
            return UNKNOWN, "filtered: bad time"
        return Value(ValueKind.TIME, term.value), ""
    if term.datatype in _QUANTITY_TYPES:
        return Value(ValueKind.QUANTITY, term.value.removeprefix("+")), ""
    if term.datatype not in _TEXT_TYPES:
        return UNKNOWN, _UNSAYABLE_TYPES.get(term.datatype or "", "filtered: other kind of value")
    return Value(ValueKind.STRING, term.value), ""
