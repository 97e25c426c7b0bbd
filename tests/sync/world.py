"""A world of a dozen countries in a real SPARQL server: who governs them, and who is their head of state."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from kbsync.source.embedded import EmbeddedWikidata
from tests.source.triples import PREFIXES, stamp

START = datetime(2024, 1, 1, tzinfo=UTC)
GOVERNMENT, STATE = "P6", "P35"
RELATIONS = (GOVERNMENT, STATE)

COUNTRIES = {
    "Q1001": "Arland", "Q1002": "Borovia", "Q1003": "Celtania", "Q1004": "Dorne", "Q1005": "Estrin",
    "Q1006": "Farrow", "Q1007": "Galdia", "Q1008": "Hestmark", "Q1009": "Ilium", "Q1010": "Jorvik",
    "Q1011": "Karsk", "Q1012": "Lomond",
}  # fmt: skip
PEOPLE = (
    "Ada", "Berit", "Cleo", "Dragan", "Eva", "Finn", "Gita", "Hugo", "Ines", "Jan", "Kira", "Liam", "Mina", "Noel",
    "Olga", "Pia", "Quinn", "Rosa", "Sami", "Tara", "Uwe", "Vera", "Walt", "Xenia", "Yann", "Zoe", "Amir", "Bela",
    "Carl", "Dina", "Emil", "Faye",
)  # fmt: skip


def person(number: int) -> str:
    """The id of the person of this number."""
    return f"Q{2001 + number}"


class World:
    """Wikidata in small: every change gives its subject a new revision and moves the world's clock."""

    def __init__(self, server: EmbeddedWikidata) -> None:
        self.server = server
        self.now = START
        self.revision = 100
        self._keys = 0

    @property
    def endpoint(self) -> str:
        """Where the world is asked."""
        return self.server.endpoint

    def reset(self) -> None:
        """The first day: each country has a head of government and a head of state; 24 facts."""
        self.now, self.revision, self._keys = START, 100, 0
        turtle = ['wd:P6 rdfs:label "head of government"@en .', 'wd:P35 rdfs:label "head of state"@en .']
        turtle += [f'wd:{one} rdfs:label "{label}"@en .' for one, label in COUNTRIES.items()]
        turtle += [f'wd:{person(i)} rdfs:label "{name}"@en .' for i, name in enumerate(PEOPLE)]
        for i, country in enumerate(COUNTRIES):
            turtle.append(f"wd:{country} schema:version 100 ; schema:dateModified {stamp(self.now)} .")
            turtle.append(self._statement(country, GOVERNMENT, person(i)))
            turtle.append(self._statement(country, STATE, person(31 - i)))
        self._update(f"CLEAR ALL ; INSERT DATA {{ {' '.join(turtle)} }}")
        self.tick()

    def tick(self) -> None:
        """An hour passes."""
        self.now += timedelta(hours=1)
        self._update(
            "DELETE WHERE { <http://www.wikidata.org> schema:dateModified ?d } ; "
            f"INSERT DATA {{ <http://www.wikidata.org> schema:dateModified {stamp(self.now)} }}"
        )

    def replace(self, country: str, relation: str, who: str) -> None:
        """The old statement goes, a new one comes."""
        self._update(_delete(country, relation) + f" ; INSERT DATA {{ {self._statement(country, relation, who)} }}")
        self._edited(country)

    def retire(self, country: str, relation: str) -> None:
        """Every statement of the relation goes."""
        self._update(_delete(country, relation))
        self._edited(country)

    def name(self, entity: str, label: str | None) -> None:
        """Give an entity another label, or take it away."""
        self._update(f"DELETE WHERE {{ wd:{entity} rdfs:label ?l }}")
        if label is not None:
            text = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
            self._update(f'INSERT DATA {{ wd:{entity} rdfs:label "{text}"@en }}')

    def add_country(self, country: str, label: str, relation: str, who: str) -> None:
        """One more country with one statement."""
        self.name(country, label)
        self._update(
            f"INSERT DATA {{ wd:{country} schema:version 1 ; schema:dateModified {stamp(self.now)} . "
            f"{self._statement(country, relation, who)} }}"
        )
        self._edited(country)

    def changes(self, *changes: tuple[str, str, str | None]) -> None:
        """(country, relation, new person or None), one after the other; then an hour passes."""
        for country, relation, who in changes:
            if who is None:
                self.retire(country, relation)
            else:
                self.replace(country, relation, who)
        self.tick()

    def _statement(self, country: str, relation: str, who: str) -> str:
        self._keys += 1
        node = f"s:{country}-{self._keys:04d}"
        return (
            f"wd:{country} p:{relation} {node} . {node} ps:{relation} wd:{who} ; "
            f"wikibase:rank wikibase:NormalRank ; a wikibase:BestRank ; pq:P580 {stamp(self.now)} ."
        )

    def _edited(self, country: str) -> None:
        self.revision += 1
        self._update(
            f"DELETE WHERE {{ wd:{country} schema:version ?v ; schema:dateModified ?d }} ; INSERT DATA "
            f"{{ wd:{country} schema:version {self.revision} ; schema:dateModified {stamp(self.now)} }}"
        )

    def _update(self, text: str) -> None:
        self.server.update(PREFIXES + text)


def _delete(country: str, relation: str) -> str:
    return (
        f"DELETE {{ wd:{country} p:{relation} ?s . ?s ?a ?b }} WHERE {{ wd:{country} p:{relation} ?s . ?s ?a ?b }}"
    )


WINDOW_1: tuple[tuple[str, str, str | None], ...] = (
    ("Q1001", GOVERNMENT, person(12)),
    ("Q1002", GOVERNMENT, person(13)),
    ("Q1003", STATE, person(14)),
    ("Q1004", GOVERNMENT, person(15)),
    ("Q1005", STATE, person(16)),
    ("Q1006", GOVERNMENT, person(17)),
)
WINDOW_2: tuple[tuple[str, str, str | None], ...] = (
    ("Q1001", GOVERNMENT, person(18)),  # changes again
    ("Q1002", GOVERNMENT, None),  # retired
    ("Q1003", STATE, person(19)),  # changes again
    ("Q1007", STATE, person(14)),  # a new one
)


def reversed_windows(*windows: Iterable[tuple[str, str, str | None]]) -> list[tuple[str, str, str | None]]:
    """All windows at once, in another order that ends in the same facts: the last word per pair, reversed."""
    last = {(country, relation): who for window in windows for country, relation, who in window}
    return [(country, relation, who) for (country, relation), who in reversed(last.items())]


def book() -> list[str]:
    """The first day in sentences: what the tokenizer learns its words from."""
    sentences = []
    for i, country in enumerate(COUNTRIES.values()):
        sentences.append(f"The head of government of {country} is {PEOPLE[i]}.")
        sentences.append(f"The head of state of {country} is {PEOPLE[31 - i]}.")
    return [*sentences, *(f"One of them is {name}." for name in PEOPLE)]
