"""Neighborhood prompts: who may be a neighbour, and how the choice is made."""

from __future__ import annotations

import random
from time import perf_counter

from hypothesis import given
from hypothesis import strategies as st

from kbsync.facts import EditRequest, Fact, KnownFact, Value
from kbsync.request.neighborhood import Neighborhood
from kbsync.request.verbalise import verbalise
from tests.request.facts_of import item, known, shipped

FRANCE, SPAIN, ITALY = "Q142", "Q29", "Q38"
PEOPLE = [f"Q{number}" for number in range(1000, 1040)]


def labels_of(people: list[str] = PEOPLE) -> dict[str, str | None]:
    names: dict[str, str | None] = {FRANCE: "France", SPAIN: "Spain", ITALY: "Italy"}
    return names | {person: f"Person {person}" for person in people}


def citizens(people: list[str] = PEOPLE) -> list[KnownFact]:
    """Every third person is of France, of Spain, of Italy."""
    return [known(person, "P17", (FRANCE, SPAIN, ITALY)[i % 3]) for i, person in enumerate(people)]


def edit(subject: str, new: str, old: str | None, labels: dict[str, str | None]) -> EditRequest:
    previous = item(old) if old else None
    request = verbalise(Fact(subject, "P17", item(new)), labels, shipped(), previous)
    assert isinstance(request, EditRequest)
    return request


def choose(
    facts: list[KnownFact],
    labels: dict[str, str | None],
    count: int,
    old: str | None = FRANCE,
    edited: frozenset[str] = frozenset(["Q1000"]),
) -> list[tuple[str, str, bool]]:
    request = edit("Q1000", SPAIN, old, labels)
    hood = Neighborhood.build(facts, edited, labels, shipped())
    chosen = hood.choose(request, item(old) if old else None, count)
    return [(one.subject, one.target, one.same_object) for one in chosen]


def test_the_old_object_comes_first() -> None:
    """Neighbours with the edit's old object are taken before any other, and say so."""
    chosen = choose(citizens(), labels_of(), 5)
    assert len(chosen) == 5
    assert {(target, same) for _, target, same in chosen} == {("France", True)}


def test_others_fill_up() -> None:
    """Where the old object's subjects run out, subjects with an object that is neither old nor new follow."""
    chosen = choose(citizens(PEOPLE[:9]), labels_of(), 5)
    assert [same for _, _, same in chosen] == [True, True, False, False, False]
    assert {target for _, target, same in chosen if not same} == {"Italy"}


def test_an_added_fact_has_only_others() -> None:
    """Without an old object no neighbour can share it."""
    chosen = choose(citizens(), labels_of(), 6, old=None)
    assert len(chosen) == 6
    assert not any(same for _, _, same in chosen)
    assert {target for _, target, _ in chosen} == {"France", "Italy"}


def test_the_new_object_is_never_a_neighbours() -> None:
    """A subject that has the new object already can't show bleeding, nor can one whose object reads the same."""
    labels = labels_of() | {"Q4000": "SPAIN"}
    facts = [known(person, "P17", "Q4000") for person in PEOPLE[1:]]
    assert choose(facts, labels, 3) == []
    assert choose([known(person, "P17", SPAIN) for person in PEOPLE[1:]], labels_of(), 3) == []
    assert choose([], labels_of(), 3) == []


def test_the_prompt_is_the_rewrite_prompt_of_the_neighbour() -> None:
    """A neighbour is asked in the relation's own words, with its own name in place."""
    labels = labels_of() | {"Q1003": "Netherlands"}
    hood = Neighborhood.build([known("Q1003", "P17", FRANCE)], {"Q1000"}, labels, shipped())
    (neighbor,) = hood.choose(edit("Q1000", SPAIN, FRANCE, labels), item(FRANCE), 3)
    assert neighbor.prompt.text == "The country to which the Netherlands belongs is"
    assert neighbor.prompt.subject == "Netherlands"
    assert neighbor.target == "France"


def test_edited_subjects_and_their_names_are_left_out() -> None:
    """A subject that is edited is no neighbour, nor is one that shares a name with an edited one."""
    labels = labels_of() | {"Q1003": "person q1006"}
    edited = frozenset(["Q1000", "Q1006"])
    chosen = {subject for subject, _, _ in choose(citizens(), labels, 100, edited=edited)}
    assert not chosen & {"Q1000", "Q1003", "Q1006"}
    assert "Q1009" in chosen


def test_unsayable_subjects_and_objects_are_left_out() -> None:
    """A neighbour needs a label, one that is visible, an id, an object that can be said, and is named once."""
    labels = labels_of() | {
        "Q1001": None, "Q1002": "hid\u200eden", "Q1003": "Q1003", "Q1004": "Twin", "Q1005": "TWIN",
        "Q1006": "France", "Q9": None,
    }  # fmt: skip
    facts = [known(f"Q{number}", "P17", FRANCE) for number in range(1001, 1007)]
    facts += [known("Q1007", "P17", "Q9"), known("not an id", "P17", FRANCE)]
    chosen = choose(facts, labels | {"not an id": "x"}, 10)
    assert len(chosen) == 1
    assert chosen[0][0] in ("Q1004", "Q1005")


@given(st.randoms(use_true_random=False), st.integers(0, 12), st.integers(0, len(PEOPLE) - 1))
def test_the_choice_ignores_order(rng: random.Random, count: int, size: int) -> None:
    """Whatever the order of the facts, the same neighbours come out, in the same order, none of them edited."""
    facts = citizens()[: size + 1]
    expected = choose(facts, labels_of(), count)
    rng.shuffle(facts)
    assert choose(facts, labels_of(), count) == expected
    assert len(expected) <= count
    subjects = [subject for subject, _, _ in expected]
    assert "Q1000" not in subjects
    assert len(set(subjects)) == len(subjects)


def test_two_edits_have_their_own_neighbours() -> None:
    """The choice is spread over the relation: different edits do not all look at the same few subjects."""
    labels = labels_of()
    hood = Neighborhood.build(citizens(), frozenset(PEOPLE[:10]), labels, shipped())
    chosen = [hood.choose(edit(person, SPAIN, FRANCE, labels), item(FRANCE), 2) for person in PEOPLE[:10]]
    assert len({tuple(one.subject for one in some) for some in chosen}) >= 4


def test_a_newcomer_changes_at_most_its_own_place() -> None:
    """One more candidate joins the neighbours or not; it never reshuffles the others."""
    before = [subject for subject, _, _ in choose(citizens(), labels_of(), 4)]
    labels = labels_of() | {"Q7777": "Newcomer"}
    after = [subject for subject, _, _ in choose([*citizens(), known("Q7777", "P17", FRANCE)], labels, 4)]
    kept = [subject for subject in after if subject != "Q7777"]
    assert kept == before[: len(kept)]


def test_fifty_thousand_facts_are_quick() -> None:
    """Choosing for 300 edits among 50,000 facts takes seconds, also where nearly all share the old object."""
    people = [f"Q{number}" for number in range(10_000, 60_000)]
    labels = labels_of(people)
    facts = [known(person, "P17", FRANCE if i % 100 else ITALY) for i, person in enumerate(people)]
    begun = perf_counter()
    hood = Neighborhood.build(facts, frozenset(people[:300]), labels, shipped())
    for person in people[:300]:
        request = edit(person, SPAIN, None, labels)
        old: Value = item(FRANCE)
        assert len(hood.choose(request, old, 4)) == 4
        assert len(hood.choose(request, None, 4)) == 4
    assert perf_counter() - begun < 20
