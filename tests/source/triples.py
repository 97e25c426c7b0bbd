"""Small Wikidata for tests, in the query service's vocabulary."""

from __future__ import annotations

from datetime import datetime

from kbsync.source.embedded import EmbeddedWikidata

PREFIXES = """\
PREFIX wd: <http://www.wikidata.org/entity/>
PREFIX s: <http://www.wikidata.org/entity/statement/>
PREFIX p: <http://www.wikidata.org/prop/>
PREFIX ps: <http://www.wikidata.org/prop/statement/>
PREFIX pq: <http://www.wikidata.org/prop/qualifier/>
PREFIX wdno: <http://www.wikidata.org/prop/novalue/>
PREFIX wikibase: <http://wikiba.se/ontology#>
PREFIX schema: <http://schema.org/>
PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#>
PREFIX owl: <http://www.w3.org/2002/07/owl#>
PREFIX xsd: <http://www.w3.org/2001/XMLSchema#>
"""


def stamp(moment: datetime) -> str:
    """A time as an xsd:dateTime literal."""
    return f'"{moment.isoformat().replace("+00:00", "Z")}"^^xsd:dateTime'


def insert(server: EmbeddedWikidata, turtle: str) -> None:
    """Add triples, written with the usual prefixes."""
    server.update(f"{PREFIXES}INSERT DATA {{ {turtle} }}")


def delete(server: EmbeddedWikidata, pattern: str) -> None:
    """Remove what matches a pattern."""
    server.update(f"{PREFIXES}DELETE WHERE {{ {pattern} }}")


def edited(server: EmbeddedWikidata, item: str, revision: int, when: datetime) -> None:
    """Give an item a revision and its time, in place of those that it had."""
    server.update(
        f"{PREFIXES}DELETE {{ wd:{item} schema:version ?v ; schema:dateModified ?d }} "
        f"WHERE {{ wd:{item} schema:version ?v ; schema:dateModified ?d }} ; "
        f"INSERT DATA {{ wd:{item} schema:version {revision} ; schema:dateModified {stamp(when)} }}"
    )


def lag(server: EmbeddedWikidata, when: datetime) -> None:
    """Move the lag triple."""
    server.update(
        f"{PREFIXES}DELETE WHERE {{ <http://www.wikidata.org> schema:dateModified ?d }} ; "
        f"INSERT DATA {{ <http://www.wikidata.org> schema:dateModified {stamp(when)} }}"
    )


def statement(item: str, key: str, relation: str, value: str, *, rank: str = "Normal", best: bool = True) -> str:
    """Turtle of one statement; `key` is the part of its id after the item."""
    node = f"s:{item}-{key}"
    truth = " ; a wikibase:BestRank" if best else ""
    said = f"{node} ps:{relation} {value} ; wikibase:rank wikibase:{rank}Rank{truth} . "
    return f"wd:{item} p:{relation} {node} . {said}"
