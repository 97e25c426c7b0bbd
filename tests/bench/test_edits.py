"""Where a benchmark's edits come from."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter

import pytest

from kbsync.bench.edits import counterfactual, real_changes, sentences
from kbsync.errors import ConfigError
from kbsync.facts import EditRequest, Prompt
from kbsync.request.catalogue import Catalogue, load_catalogue
from kbsync.request.verbalise import fold
from kbsync.settings import share

FILE = share("data/bench/counterfact.tsv")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """The table as it stands."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def everything(catalogue: Catalogue, rows: list[dict[str, str]]) -> list[EditRequest]:
    """All counterfactual edits, each with up to four neighbors."""
    return counterfactual(catalogue, sum(bool(row["new"]) for row in rows), 0, 4)


class TestCounterfactual:
    """The table of counterfactual edits."""

    def test_every_row_can_be_said(self, everything: list[EditRequest], rows: list[dict[str, str]]) -> None:
        """No edit is left out when they are put into words, and there are enough for a measurement at scale."""
        assert len(everything) == sum(bool(row["new"]) for row in rows) >= 2000
        assert all(r.target_old is not None and r.target_old != r.target_new for r in everything)
        assert FILE.stat().st_size < 300_000

    def test_no_prompt_and_no_subject_twice(self, everything: list[EditRequest]) -> None:
        """So no two edits contradict each other, whichever are drawn, and each can be told from the others."""
        assert len({r.rewrite.text for r in everything}) == len(everything)
        assert len({r.content_hash for r in everything}) == len(everything)
        assert len({r.fact.subject for r in everything}) == len(everything)
        assert len({fold(r.subject_label) for r in everything}) == len(everything)

    def test_what_c_holds_is_nobodys_neighbor(self, everything: list[EditRequest], catalogue: Catalogue) -> None:
        """Nor of an edited subject; and there are enough sentences for the default share of C."""
        said = set(sentences(catalogue))
        near = {f"{n.prompt.text} {n.target}." for request in everything for n in request.neighborhood}
        names = {request.rewrite.text for request in everything}
        assert not said & near
        assert not [one for one in said for name in names if one.startswith(f"{name} ")]
        assert len(said) > 400

    def test_relations_are_spread(self, everything: list[EditRequest]) -> None:
        """No relation has more than a twentieth of the edits."""
        counts = Counter(r.fact.relation for r in everything)
        assert len(counts) >= 25
        assert max(counts.values()) <= len(everything) / 20

    def test_neighbors_have_the_old_object_and_are_not_edited(self, everything: list[EditRequest]) -> None:
        """Each edit has at least two, none of which any seed edits, under whatever name or id."""
        names = {fold(r.subject_label) for r in everything}
        ids = {r.fact.subject for r in everything}
        for request in everything:
            assert 2 <= len(request.neighborhood) <= 4
            for neighbor in request.neighborhood:
                assert neighbor.same_object
                assert neighbor.target == request.target_old
                assert neighbor.subject not in ids
                assert fold(neighbor.prompt.subject) not in names
            prompts = {neighbor.prompt.text for neighbor in request.neighborhood}
            assert len(prompts) == len(request.neighborhood)

    def test_there_are_no_sentences_in_the_table(
        self, everything: list[EditRequest], rows: list[dict[str, str]]
    ) -> None:
        """Ids and names alone; the words around them are the catalogue's."""
        assert list(rows[0]) == ["relation", "subject", "label", "old", "old_label", "new", "new_label"]
        assert all("{}" not in value for row in rows for value in row.values())
        first = everything[0]
        own = load_catalogue(share("config/relations.toml")).relation(first.fact.relation, None)
        name = first.rewrite.subject
        assert first.rewrite == Prompt.fill(own.rewrite, name)

    def test_fewer_are_the_first_of_more(self, catalogue: Catalogue, everything: list[EditRequest]) -> None:
        """Neighbors included, so a curve over sizes measures one and the same edits."""
        assert counterfactual(catalogue, 50, 0, 4) == everything[:50]

    def test_another_seed_draws_others(self, catalogue: Catalogue, everything: list[EditRequest]) -> None:
        """And of many relations each time."""
        others = counterfactual(catalogue, 100, 1, 4)
        assert len({r.content_hash for r in others} & {r.content_hash for r in everything[:100]}) < 50
        assert len({r.fact.relation for r in others}) >= 15

    def test_without_neighbors(self, catalogue: Catalogue) -> None:
        """Where the settings ask for none."""
        assert all(not r.neighborhood for r in counterfactual(catalogue, 20, 0, 0))

    def test_a_relation_that_the_catalogue_lacks(self, catalogue: Catalogue) -> None:
        """Its edits are left out, and the others drawn all the same."""
        small = Catalogue({"P19": catalogue.relation("P19", None)})
        found = counterfactual(small, 300, 0, 4)
        assert {r.fact.relation for r in found} == {"P19"}
        assert found == [r for r in counterfactual(catalogue, 300, 0, 4) if r.fact.relation == "P19"]

    def test_more_than_there_are(self, catalogue: Catalogue) -> None:
        """The error says how many there are."""
        with pytest.raises(ConfigError, match="only 2400 counterfactual edits"):
            counterfactual(catalogue, 2401, 0, 4)


class TestRealChanges:
    """The demo's changes."""

    def test_they_can_be_said_and_are_distinct(self, catalogue: Catalogue) -> None:
        """No two of them share a fact's subject and relation, a prompt, or a content hash."""
        found = real_changes(catalogue, 50)
        assert len(found) == 50
        assert len({(r.fact.subject, r.fact.relation) for r in found}) == 50
        assert len({r.rewrite.text for r in found}) == 50
        assert len({r.content_hash for r in found}) == 50
        assert all(r.target_new and r.target_new != r.target_old for r in found)
        assert len({r.fact.relation for r in found}) >= 5

    def test_they_are_always_the_same(self, catalogue: Catalogue) -> None:
        """Fewer are the first of more, so measurements of two days compare."""
        assert real_changes(catalogue, 20) == real_changes(catalogue, 40)[:20]

    def test_neighbors_are_subjects_that_no_window_touches(self, catalogue: Catalogue) -> None:
        """With an object other than the edit's new one; the edits themselves are the same as without."""
        with share("data/demo/expected.tsv").open(encoding="utf-8") as file:
            touched = {row["subject"] for row in csv.DictReader(file, delimiter="\t")}
        found = real_changes(catalogue, 40, 3)
        assert [r.content_hash for r in found] == [r.content_hash for r in real_changes(catalogue, 40)]
        assert sum(len(r.neighborhood) == 3 for r in found) > 35
        for request in found:
            assert touched.isdisjoint(neighbor.subject for neighbor in request.neighborhood)
            assert all(neighbor.target != request.target_new for neighbor in request.neighborhood)

    def test_more_than_there_are(self, catalogue: Catalogue) -> None:
        """The error says how many there are."""
        with pytest.raises(ConfigError, match=r"only \d+ changes"):
            real_changes(catalogue, 10_000)


def test_what_c_holds_of_the_slice_is_nobodys_neighbor(catalogue: Catalogue) -> None:
    """The same of the demo's real changes."""
    said = set(sentences(catalogue, real=True))
    changes = real_changes(catalogue, 60, 4)
    assert len(said) > 500
    assert not said & {f"{n.prompt.text} {n.target}." for request in changes for n in request.neighborhood}


@pytest.mark.parametrize("real", [False, True])
def test_sentences_have_one_order(real: bool) -> None:
    """Under every seed of Python's hashes: C and z depend on it, and a rerun must find what was kept."""
    code = (
        "from kbsync.bench.edits import sentences\n"
        "from kbsync.request.catalogue import load_catalogue\n"
        "from kbsync.settings import share\n"
        f"print(sentences(load_catalogue(share('config/relations.toml')), real={real}))"
    )

    def said(seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    first = said("1")
    assert len(first) > 10_000
    assert [said(seed) for seed in "234"] == [first] * 3
