"""A Wikidata to measure on, as N-Triples: from a file of facts, or made up by a seed.

Each item has its label, revision and time; each statement its value, rank and, where known, start and end: the
shape in which the query service holds them. Nothing is kept in memory but the names of what was written.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import IO

from kbsync.errors import ConfigError
from kbsync.facts import is_entity_id
from kbsync.source.queries import ENTITY, STATEMENT, WIKIBASE, XSD

PROP = "http://www.wikidata.org/prop/"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
SCHEMA = "http://schema.org/"
MADE = datetime(2026, 1, 1, tzinfo=UTC)  # the graph's own time
RELATIONS = tuple(f"P{number}" for number in (6, 17, 19, 27, 35, 39, 54, 69, 102, 106))  # of a made-up graph


@dataclass(frozen=True, slots=True)
class GraphFact:
    """One fact to write: ids and labels; a time has neither label nor id."""

    subject: str
    subject_label: str
    relation: str
    value: str
    value_label: str
    start: str = ""
    end: str = ""


@dataclass(slots=True)
class Graph:
    """What was written: the relations, how many statements and triples, and which items have which statements."""

    relations: list[str] = field(default_factory=list)
    items: int = 0
    statements: int = 0
    triples: int = 0


def facts_of(file: Path) -> Iterator[GraphFact]:
    """The facts of a gzipped table with the columns subject, property, object, their labels, start and end.

    They must be in the order of their subjects. Raises ConfigError when it can't be read.
    """
    try:
        with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
            for row in csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield GraphFact(
                    row["subject"],
                    row["subject_label"],
                    row["property"],
                    row["object"],
                    row["object_label"],
                    row.get("start") or "",
                    row.get("end") or "",
                )
    except (OSError, EOFError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise ConfigError(f"the facts {file} can't be read: {error}") from None


def made_up(items: int, seed: int) -> Iterator[GraphFact]:
    """Two facts for each of `items` subjects, about a fifth as many objects; the same for the same seed."""
    draw = random.Random(seed)  # noqa: S311 -- nothing secret
    objects = max(items // 5, 1)
    for number in range(items):
        subject = f"Q{number + 1}"
        for relation in draw.sample(RELATIONS, 2):
            value = draw.randrange(objects)
            start = f"{draw.randrange(1950, 2020)}" if draw.random() < 0.2 else ""
            yield GraphFact(
                subject, f"subject {number}", relation, f"Q{items + value + 1}", f"object number {value}", start
            )


def write_graph(facts: Iterable[GraphFact], file: Path) -> Graph:
    """Write `facts`, those of one subject together, as N-Triples."""
    graph = Graph()
    relations: set[str] = set()
    labelled: set[str] = set()
    with file.open("w", encoding="utf-8") as out:
        for subject, own in groupby(facts, key=lambda fact: fact.subject):
            known = [one for one in own if _usable(one)]
            if not known:
                continue
            graph.items += 1
            graph.triples += _write_item(out, subject, known[0].subject_label, graph.items)
            for one in dict.fromkeys(known):
                relations.add(one.relation)
                graph.statements += 1
                graph.triples += _write_statement(out, one, graph.statements)
                if one.value_label and one.value not in labelled and is_entity_id(one.value):
                    labelled.add(one.value)
                    out.write(f"<{ENTITY}{one.value}> <{LABEL}> {_text(one.value_label)}@en .\n")
                    graph.triples += 1
        for relation in sorted(relations):
            out.write(f'<{ENTITY}{relation}> <{LABEL}> "relation {relation}"@en .\n')
        out.write(f"<http://www.wikidata.org> <{SCHEMA}dateModified> {_time(MADE)} .\n")
    graph.relations = sorted(relations)
    graph.triples += len(relations) + 1
    return graph


def update(changes: int, subjects: Iterable[tuple[str, str, str]], at: datetime) -> Iterator[str]:
    """SPARQL updates that give each of `changes` statements (subject, relation, statement id) another object, the
    way a user's edit does, at `at`."""
    for number, (subject, relation, statement) in enumerate(subjects):
        if number == changes:
            break
        wd, st = f"<{ENTITY}{subject}>", f"<{STATEMENT}{statement}>"
        value = f"<{ENTITY}Q{90_000_000 + number}>"
        yield (
            f"DELETE {{ {st} <{PROP}statement/{relation}> ?o . {wd} <{PROP}direct/{relation}> ?o . "
            f"{wd} <{SCHEMA}dateModified> ?d . {wd} <{SCHEMA}version> ?v }} "
            f"INSERT {{ {st} <{PROP}statement/{relation}> {value} . {wd} <{PROP}direct/{relation}> {value} . "
            f'{value} <{LABEL}> "newcomer {number}"@en . {wd} <{SCHEMA}dateModified> {_time(at)} . '
            f"{wd} <{SCHEMA}version> {1_000_000_000 + number} }} "
            f"WHERE {{ {st} <{PROP}statement/{relation}> ?o . {wd} <{SCHEMA}dateModified> ?d ; "
            f"<{SCHEMA}version> ?v }}"
        )
    yield (
        f"DELETE WHERE {{ <http://www.wikidata.org> <{SCHEMA}dateModified> ?d }} ; INSERT DATA "
        f"{{ <http://www.wikidata.org> <{SCHEMA}dateModified> {_time(at + timedelta(minutes=1))} }}"
    )


def _usable(fact: GraphFact) -> bool:
    if not (is_entity_id(fact.subject) and is_entity_id(fact.relation) and fact.value):
        return False
    return is_entity_id(fact.value) or fact.value[:4].isdecimal()


def _write_item(out: IO[str], subject: str, label: str, number: int) -> int:
    wd = f"<{ENTITY}{subject}>"
    at = MADE - timedelta(days=400) + timedelta(seconds=number)
    out.write(
        f"{wd} <{LABEL}> {_text(label)}@en .\n"
        f'{wd} <{SCHEMA}version> "{number}"^^<{XSD}integer> .\n'
        f"{wd} <{SCHEMA}dateModified> {_time(at)} .\n"
    )
    return 3


def _write_statement(out: IO[str], fact: GraphFact, number: int) -> int:
    wd, st = f"<{ENTITY}{fact.subject}>", f"<{STATEMENT}{fact.subject}-{number:08X}>"
    value = f"<{ENTITY}{fact.value}>" if is_entity_id(fact.value) else f'"{fact.value}"^^<{XSD}dateTime>'
    lines = [
        f"{wd} <{PROP}direct/{fact.relation}> {value} .",
        f"{wd} <{PROP}{fact.relation}> {st} .",
        f"{st} <{PROP}statement/{fact.relation}> {value} .",
        f"{st} <{WIKIBASE}rank> <{WIKIBASE}NormalRank> .",
        f"{st} <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <{WIKIBASE}BestRank> .",
    ]
    for qualifier, year in (("P580", fact.start[:4]), ("P582", fact.end[:4])):
        if year.isdecimal() and len(year) == 4:
            lines.append(f'{st} <{PROP}qualifier/{qualifier}> "{year}-01-01T00:00:00Z"^^<{XSD}dateTime> .')
    out.write("\n".join(lines) + "\n")
    return len(lines)


def _text(label: str) -> str:
    text = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
    return f'"{text}"'


def _time(moment: datetime) -> str:
    return f'"{moment:%Y-%m-%dT%H:%M:%SZ}"^^<{XSD}dateTime>'
