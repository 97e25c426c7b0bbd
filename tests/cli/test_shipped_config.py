"""The config files that ship with kbsync load, and watch what their users expect."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import pytest

from kbsync.request.catalogue import Current, load_catalogue
from kbsync.settings import load_settings

ROOT = Path(__file__).parents[2]
FILES = ("embedded", "wikidata")


def relations_of(name: str) -> tuple[str, ...]:
    return load_settings(ROOT / "config" / f"{name}.toml").watch.relations


@pytest.mark.parametrize("name", FILES)
def test_every_watched_relation_has_prompts(name: str) -> None:
    """Nothing is watched for which the catalogue has no sentences."""
    catalogue = load_catalogue(ROOT / "config" / "relations.toml")
    assert [one for one in relations_of(name) if one not in catalogue] == []


def test_the_embedded_file_watches_what_the_demo_changes() -> None:
    """Each relation of the demo's change windows is watched, so that its changes are seen."""
    with (ROOT / "data" / "demo" / "expected.tsv").open(encoding="utf-8", newline="") as file:
        changed = {
            row["property"]
            for row in csv.DictReader(file, delimiter="\t")
            if row["property"] and row["kind"] != "touched"
        }
    assert changed <= set(relations_of("embedded"))


def test_the_wikidata_file_asks_for_a_contact_and_is_gentle() -> None:
    """The public service wants a contact: the line stands there, empty. A sync comes every hour."""
    settings = load_settings(ROOT / "config" / "wikidata.toml")
    raw = tomllib.loads((ROOT / "config" / "wikidata.toml").read_text(encoding="utf-8"))
    assert raw["source"]["contact"] == ""
    assert settings.source.endpoint == "https://query.wikidata.org/sparql"
    assert settings.schedule.interval_minutes == 60
    assert 50 <= len(settings.watch.relations) <= 70


def test_the_wikidata_file_watches_what_changes() -> None:
    """Relations that are true for good are not worth the requests, and the largest ones overload the service."""
    watched = relations_of("wikidata")
    assert not {"P17", "P19", "P22", "P25", "P27", "P39", "P54", "P106", "P108", "P131", "P569"} & set(watched)
    catalogue = load_catalogue(ROOT / "config" / "relations.toml")
    handed_on = [one for one in watched if catalogue.relations[one].current is Current.LATEST]
    assert {"P6", "P35", "P169", "P286", "P488", "P1308"} <= set(handed_on)
