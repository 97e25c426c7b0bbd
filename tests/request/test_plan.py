"""The planner: the live set wanted, what is held, and that each fact ends in one outcome."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.facts import Fact, Held, KnownFact, Value, ValueKind
from kbsync.request.plan import Aside, Constraints, Known, Limit, Plan, plan
from kbsync.settings import WatchSettings
from tests.request.facts_of import NOW, PULLED, item, known, shipped, watch

LABELS: dict[str, str | None] = {
    "P6": "head of government", "P27": "country of citizenship", "P36": "capital", "P19": "place of birth",
    "Q17": "Japan", "Q142": "France", "Q145": "United Kingdom", "Q29": "Spain", "Q55": "Netherlands",
    "Q1": "Keir", "Q2": "Rishi", "Q3": "Boris", "Q4": "Liz", "Q5": "Ann", "Q6": "Bob",
}  # fmt: skip


def planned(
    facts: Sequence[KnownFact],
    settings: WatchSettings | None = None,
    previous: Mapping[tuple[str, str], Value] | None = None,
    labels: Mapping[str, str | None] = LABELS,
    neighbors: int = 0,
    now: datetime = NOW,
    kept_out: Mapping[str, str] | None = None,
    asides: Sequence[Aside] = (),
) -> Plan:
    relations = sorted({one.fact.relation for one in facts})
    watched = settings or watch(*relations)
    basis = Known(facts, previous or {}, labels, now)
    return plan(basis, shipped(), watched, neighbors, Constraints(None, kept_out or {}, asides))


def wanted(result: Plan) -> dict[str, str]:
    """Rewrite prompt and object, of each request."""
    return {request.rewrite.text: request.target_new for request in result.wanted}


def held(result: Plan) -> dict[tuple[str, str], str]:
    """Reason by (subject, object)."""
    return {(one.fact.subject, one.fact.value.text): one.reason for one in result.held}


def test_a_changed_fact_is_wanted() -> None:
    """A value that came after the baseline is wanted, with the object before it as the old one."""
    result = planned([known("Q145", "P6", "Q1", start=2024)], previous={("Q145", "P6"): item("Q2")})
    assert wanted(result) == {"The head of government of the United Kingdom is": "Keir"}
    assert result.wanted[0].target_old == "Rishi"
    assert result.counts == {"wanted": 1}


def test_the_baseline_is_adopted_or_taught() -> None:
    """Under `adopt` a current value of the first pull is taken as known; under `teach` it is wanted."""
    facts = [known("Q145", "P6", "Q1", baseline=True), known("Q17", "P6", "Q2")]
    adopt = planned(facts, watch("P6"))
    assert adopt.counts == {"adopted": 1, "wanted": 1}
    assert list(wanted(adopt).values()) == ["Rishi"]
    assert planned(facts, watch("P6", baseline="teach")).counts == {"wanted": 2}


def test_a_value_that_came_back_is_adopted_again() -> None:
    """A change that was reverted to the baseline's value leaves nothing to edit."""
    result = planned([known("Q145", "P6", "Q2", baseline=True)], previous={("Q145", "P6"): item("Q1")})
    assert (result.wanted, result.counts) == ((), {"adopted": 1})


def test_nothing_known_nothing_wanted() -> None:
    """No facts, or no watched relation, gives an empty plan."""
    assert planned([]) == Plan((), (), {})
    assert planned([known("Q145", "P6", "Q1")], watch()).counts == {"not watched": 1}
    assert planned([known("Q145", "P6", "Q1")], watch("P36")).counts == {"not watched": 1}


def test_the_end_of_a_term() -> None:
    """A new holder supersedes the old; once a term has ended on record, its value is wanted no more."""
    facts = [known("Q145", "P6", "Q2", baseline=True, start=2022), known("Q145", "P6", "Q1", start=2024)]
    result = planned(facts)
    assert result.counts == {"superseded": 1, "wanted": 1}
    assert (result.wanted[0].target_new, result.wanted[0].target_old) == ("Keir", "Rishi")
    gone = planned([known("Q145", "P6", "Q1", start=2020, end=2023)])
    assert (gone.wanted, gone.counts) == ((), {"ended": 1})
    early = planned([known("Q145", "P6", "Q1", start=2025)])
    assert early.counts == {"not begun": 1}
    assert planned([known("Q145", "P6", "Q1", start=2025)], now=datetime(2025, 2, 1, tzinfo=UTC)).wanted


def test_the_old_object_is_what_the_new_one_replaced() -> None:
    """`previous` comes first, but not when still true; then the value that ended or was superseded last."""
    past = [known("Q145", "P6", "Q3", end=2020), known("Q145", "P6", "Q4", end=2022)]
    new = known("Q145", "P6", "Q1", start=2024)
    assert planned([*past, new]).wanted[0].target_old == "Liz"
    assert planned([*past, new], previous={("Q145", "P6"): item("Q3")}).wanted[0].target_old == "Boris"
    assert planned([*past, new], previous={("Q145", "P6"): item("Q1")}).wanted[0].target_old is None
    assert planned([new]).wanted[0].target_old is None


def test_what_is_kept_out_is_held_in_those_words() -> None:
    """By content hash and with its reason; it takes no place under the limit, and in other words it is wanted."""
    facts = [known("Q145", "P6", "Q1"), known("Q17", "P6", "Q2")]
    (out,) = planned(facts[:1]).wanted
    result = planned(facts, watch("P6", max_live=1), kept_out={out.content_hash: "quarantined"})
    assert list(wanted(result).values()) == ["Rishi"]
    assert held(result) == {("Q145", "Q1"): "quarantined"}
    assert result.counts == {"held: quarantined": 1, "wanted": 1}
    renamed = planned(facts[:1], labels={**LABELS, "Q145": "Britain"}, kept_out={out.content_hash: "quarantined"})
    assert list(wanted(renamed).values()) == ["Keir"]


def test_what_was_rolled_back_stays_as_it_is() -> None:
    """While Wikidata has the disliked value, it is held and the value before stays, with its place under the limit;
    once it has another one, or none, the plan goes by Wikidata."""
    group = ("Q145", "P6")
    (before,) = planned([known("Q145", "P6", "Q2")]).wanted
    (disliked,) = planned([known("Q145", "P6", "Q1")]).wanted
    aside = Aside(group, item("Q1"), disliked.content_hash, before)
    facts = [known("Q145", "P6", "Q1"), known("Q17", "P6", "Q3")]
    result = planned(facts, asides=[aside])
    assert wanted(result) == {
        "The head of government of the United Kingdom is": "Rishi", "The head of government of Japan is": "Boris",
    }  # fmt: skip
    assert (held(result), result.ended) == ({("Q145", "Q1"): "rolled back"}, ())
    assert result.counts == {"held: rolled back": 1, "kept by a rollback": 1, "wanted": 1}
    full = planned(facts, watch("P6", max_live=1), asides=[aside])
    assert list(wanted(full).values()) == ["Rishi"]
    assert full.counts["held: beyond max_live"] == 1
    another = planned([known("Q145", "P6", "Q4")], asides=[aside])
    assert (list(wanted(another).values()), another.ended) == (["Liz"], (group,))
    gone = planned([known("Q17", "P6", "Q3")], asides=[aside])
    assert (list(wanted(gone).values()), gone.ended) == (["Boris"], (group,))


def test_what_was_new_or_retired_before_a_rollback() -> None:
    """A new fact stays out; a retired one stays in until the subject has a value again."""
    (fact,) = planned([known("Q145", "P6", "Q1")]).wanted
    new = Aside(("Q145", "P6"), item("Q1"), fact.content_hash, None)
    assert planned([known("Q145", "P6", "Q1")], asides=[new]).wanted == ()
    retired = Aside(("Q145", "P6"), None, None, fact)
    assert planned([known("Q17", "P6", "Q3", baseline=True)], asides=[retired]).wanted == (fact,)
    back = planned([known("Q145", "P6", "Q2")], asides=[retired])
    assert (list(wanted(back).values()), back.ended) == (["Rishi"], (("Q145", "P6"),))
    unwatched = planned([known("Q17", "P36", "Q3")], asides=[retired])
    assert unwatched.ended == ()
    assert len(unwatched.wanted) == 1


def test_words_that_were_rolled_back() -> None:
    """Where a rollback went back to other words for the same fact, these stay; with a third name they end."""
    facts = [known("Q145", "P6", "Q1")]
    (old,) = planned(facts, labels={**LABELS, "Q145": "Britain"}).wanted
    (new,) = planned(facts).wanted
    aside = Aside(("Q145", "P6"), item("Q1"), new.content_hash, old)
    assert planned(facts, asides=[aside]).wanted == (old,)
    assert planned(facts, asides=[aside]).held == ()
    third = planned(facts, labels={**LABELS, "Q145": "Great Britain"}, asides=[aside])
    assert third.ended == (("Q145", "P6"),)
    assert "Great Britain" in third.wanted[0].rewrite.text


def test_undecidable_values_are_held() -> None:
    """Where the policy can't tell, the values after the baseline are held and those of it adopted."""
    facts = [known("Q145", "P6", "Q1"), known("Q145", "P6", "Q2", baseline=True), known("Q145", "P6", "Q3")]
    result = planned(facts)
    assert result.counts == {"adopted": 1, "held: several current values": 2}
    assert held(result) == {
        ("Q145", "Q1"): "several current values", ("Q145", "Q3"): "several current values"
    }  # fmt: skip
    teach = planned(facts, watch("P6", baseline="teach"))
    assert teach.counts == {"held: several current values": 3}


def test_many_adds_one_value_beside_the_known_ones() -> None:
    """Under `many` the added value is wanted and replaces nothing; the known ones stay adopted."""
    facts = [known("Q1", "P27", "Q17", baseline=True), known("Q1", "P27", "Q142")]
    result = planned(facts, previous={("Q1", "P27"): item("Q17")})
    assert result.counts == {"adopted": 1, "wanted": 1}
    assert (result.wanted[0].target_new, result.wanted[0].target_old) == ("France", None)
    replaced = planned([known("Q1", "P27", "Q142")], previous={("Q1", "P27"): item("Q17")})
    assert replaced.wanted[0].target_old == "Japan"


def test_many_teaches_one_object_per_prompt() -> None:
    """Of several added values the newest dated one is wanted; without dates none can be."""
    dated = [known("Q1", "P27", "Q142", start=2020), known("Q1", "P27", "Q29", start=2022)]
    result = planned(dated)
    assert list(wanted(result).values()) == ["Spain"]
    assert held(result) == {("Q1", "Q142"): "several current values"}
    bare = [known("Q1", "P27", "Q142"), known("Q1", "P27", "Q29", start=2022)]
    assert planned(bare).counts == {"held: several current values": 2}


def test_subjects_that_share_a_name_are_held() -> None:
    """Two subjects of one name with different objects can't be told apart in words: both are held."""
    labels = LABELS | {"Q5": "Georgia", "Q6": "georgia"}
    facts = [known("Q5", "P36", "Q1"), known("Q6", "P36", "Q2"), known("Q17", "P36", "Q3")]
    result = planned(facts, labels=labels)
    assert held(result) == {("Q5", "Q1"): "ambiguous subject", ("Q6", "Q2"): "ambiguous subject"}
    assert list(wanted(result).values()) == ["Boris"]


def test_a_known_namesake_makes_a_change_ambiguous() -> None:
    """The namesake need not be edited itself: its adopted fact is enough to hold the other's change."""
    labels = LABELS | {"Q5": "Georgia", "Q6": "Georgia"}
    result = planned([known("Q5", "P36", "Q1"), known("Q6", "P36", "Q2", baseline=True)], labels=labels)
    assert result.counts == {"adopted": 1, "held: ambiguous subject": 1}


def test_namesakes_in_other_relations_or_of_the_past_do_no_harm() -> None:
    """Ambiguity is per relation, and only among facts that are true now."""
    labels = LABELS | {"Q5": "Georgia", "Q6": "Georgia"}
    assert len(planned([known("Q5", "P36", "Q1"), known("Q6", "P6", "Q2")], labels=labels).wanted) == 2
    ended = [known("Q5", "P36", "Q1"), known("Q6", "P36", "Q2", end=2000)]
    assert planned(ended, labels=labels).counts == {"ended": 1, "wanted": 1}


def test_two_facts_in_the_same_words_are_one_edit() -> None:
    """Namesakes with the same object need one edit; the other fact is held under its own name."""
    labels = LABELS | {"Q5": "Georgia", "Q6": "Georgia"}
    result = planned([known("Q6", "P36", "Q1"), known("Q5", "P36", "Q1")], labels=labels)
    assert [request.fact.subject for request in result.wanted] == ["Q5"]
    assert held(result) == {("Q6", "Q1"): "same words as another fact"}


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (known("Q99", "P6", "Q1"), "no label"),
        (known("Q145", "P6", "Q99"), "no label"),
        (known("Q98", "P6", "Q1"), "label has control characters"),
        (known("Q97", "P6", "Q1"), "label over 200 characters"),
        (known("Q145", "P6", Value(ValueKind.UNKNOWN, "")), "unknown value"),
        (known("Q145", "P6", "Q145"), "object equals subject"),
        (known("Q145", "P99999", "Q1"), "relation has no label"),
        (known("Q145 }", "P6", "Q1"), "not a Wikidata id"),
        (known("Q" + "9" * 5000, "P6", "Q1"), "no label"),
    ],
)
def test_held_by_name(fact: KnownFact, reason: str) -> None:
    """A fact that can't be put into words is held under the reason, and counted there."""
    labels = LABELS | {"Q98": "bidi \u202emark", "Q97": "x" * 300}
    result = planned([fact], labels=labels)
    assert result == Plan((), (Held(fact.fact, reason),), {f"held: {reason}": 1})


def test_a_relation_without_an_entry_is_planned_from_its_label() -> None:
    """A watched relation outside the catalogue is said by its label and decided as `single`."""
    labels = LABELS | {"P4552": "mountain range"}
    result = planned([known("Q5", "P4552", "Q29")], labels=labels)
    assert wanted(result) == {"The mountain range of Ann is": "Spain"}
    two = [known("Q5", "P4552", "Q29", start=2000), known("Q5", "P4552", "Q17", start=2010)]
    assert planned(two, labels=labels).counts == {"held: several current values": 2}


def test_the_most_recent_fit_under_max_live() -> None:
    """Over max_live the most recently seen are wanted, then the lower ids; the others are held by name."""
    facts = [
        known("Q10", "P36", "Q1"),
        known("Q9", "P36", "Q2"),
        known("Q11", "P36", "Q3", seen=PULLED + timedelta(days=1)),
        known("Q12", "P36", "Q99", seen=PULLED + timedelta(days=2)),
    ]
    labels = LABELS | {f"Q{number}": f"Land {number}" for number in range(9, 13)}
    result = planned(facts, watch("P36", max_live=2), labels=labels)
    assert {request.fact.subject for request in result.wanted} == {"Q11", "Q9"}
    assert held(result) == {("Q10", "Q1"): "beyond max_live", ("Q12", "Q99"): "no label"}


def test_neighbours_are_known_and_unedited() -> None:
    """Neighbours come from the baseline's facts: the old object's first, never an edited or ambiguous subject."""
    labels = LABELS | {f"Q{100 + i}": f"Person {i}" for i in range(10)} | {"Q108": "Twin", "Q109": "Twin"}
    facts = [known(f"Q{100 + i}", "P19", "Q17", baseline=True) for i in range(6)]
    facts += [known("Q106", "P19", "Q29", baseline=True), known("Q107", "P19", "Q29")]
    facts += [known("Q108", "P19", "Q17", baseline=True), known("Q109", "P19", "Q142", baseline=True)]
    facts += [known("Q5", "P19", "Q142")]
    result = planned(facts, previous={("Q5", "P19"): item("Q17")}, labels=labels, neighbors=8)
    (request,) = [one for one in result.wanted if one.fact.subject == "Q5"]
    assert [one.same_object for one in request.neighborhood] == [True] * 6 + [False]
    assert {one.subject for one in request.neighborhood} == {f"Q{100 + i}" for i in range(7)}
    assert {one.target for one in request.neighborhood if one.same_object} == {"Japan"}


def test_a_subject_with_several_objects_is_no_neighbour() -> None:
    """Where `many` leaves a subject with two objects, neither is one that it could be held to."""
    labels = LABELS | {"Q100": "Person 0", "Q101": "Person 1"}
    facts = [known("Q100", "P27", value, baseline=True) for value in ("Q17", "Q29")]
    facts += [known("Q101", "P27", "Q17", baseline=True), known("Q5", "P27", "Q142")]
    (request,) = planned(facts, labels=labels, neighbors=5).wanted
    assert [one.subject for one in request.neighborhood] == ["Q101"]


def test_a_later_pull_does_not_stale_a_solved_edit() -> None:
    """New neighbours and a relabelled old object leave an edit's content hash as it was."""
    change = known("Q145", "P6", "Q1", start=2024)
    before = planned([change], previous={("Q145", "P6"): item("Q2")}, neighbors=4)
    more = [change, known("Q17", "P6", "Q3", baseline=True), known("Q142", "P6", "Q4", baseline=True)]
    after = planned(more, previous={("Q145", "P6"): item("Q3")}, neighbors=4)
    assert before.wanted[0].neighborhood != after.wanted[0].neighborhood
    assert [one.content_hash for one in before.wanted] == [one.content_hash for one in after.wanted]


NAMES = st.sampled_from(["Ann", "ann", "Bob {}", "{0}", "عبد الله", "a\u200fb", "x" * 201, "", None, "Netherlands"])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[KnownFact], dict[str, str | None], dict[tuple[str, str], Value]]:
    """A few subjects with few names and few objects, so that every rule of the planner has work."""
    relations = ["P6", "P19", "P27", "P36", "P115", "P99999"]
    ids = [f"Q{number}" for number in range(1, 13)]
    values = st.sampled_from([item(one) for one in ids[:8]]) | st.sampled_from(
        [Value(ValueKind.UNKNOWN, ""), Value(ValueKind.STRING, "a {} b"), Value(ValueKind.TIME, "1952-01-01")]
    )
    years = st.none() | st.sampled_from([2000, 2010, 2020, 2030])
    facts = draw(
        st.lists(
            st.builds(
                lambda subject, relation, value, baseline, preferred, start, end, age: known(
                    subject, relation, value, baseline=baseline, preferred=preferred, start=start, end=end,
                    seen=PULLED + timedelta(days=age),
                ),
                st.sampled_from(ids), st.sampled_from(relations), values, st.booleans(), st.booleans(),
                years, years, st.integers(0, 3),
            ),
            max_size=40,
        )
    )  # fmt: skip
    labels = {one: draw(NAMES | st.just(f"Name of {one}")) for one in ids}
    previous = draw(
        st.dictionaries(st.tuples(st.sampled_from(ids), st.sampled_from(relations)), values, max_size=10)
    )
    return facts, labels, previous


@settings(max_examples=150, deadline=None)
@given(worlds(), st.randoms(use_true_random=False), st.sampled_from(["adopt", "teach"]), st.integers(1, 20))
def test_the_plan_is_a_function_of_the_facts(
    world: tuple[list[KnownFact], dict[str, str | None], dict[tuple[str, str], Value]],
    rng: random.Random,
    baseline: str,
    max_live: int,
) -> None:
    """Any order of the same facts, labels and previous values gives the identical plan."""
    facts, labels, previous = world
    chosen = watch("P6", "P19", "P27", "P36", "P115", "P99999", baseline=baseline, max_live=max_live)
    first = planned(facts, chosen, previous, labels, neighbors=3)
    shuffled = list(facts)
    rng.shuffle(shuffled)
    mixed = list(labels.items())
    rng.shuffle(mixed)
    assert planned(shuffled, chosen, dict(reversed(previous.items())), dict(mixed), neighbors=3) == first


@settings(max_examples=150, deadline=None)
@given(worlds(), st.sampled_from(["adopt", "teach"]), st.integers(1, 20))
def test_every_fact_has_one_outcome(
    world: tuple[list[KnownFact], dict[str, str | None], dict[tuple[str, str], Value]],
    baseline: str,
    max_live: int,
) -> None:
    """Counts add up to the facts; no prompt is taught two objects; no neighbour is edited or the edit itself."""
    facts, labels, previous = world
    chosen = watch("P6", "P19", "P27", "P36", "P115", baseline=baseline, max_live=max_live)
    result = planned(facts, chosen, previous, labels, neighbors=3)
    assert sum(result.counts.values()) == len(facts)
    assert result.counts.get("wanted", 0) == len(result.wanted) <= max_live
    assert sum(count for name, count in result.counts.items() if name.startswith("held: ")) == len(result.held)
    hashes = [request.content_hash for request in result.wanted]
    assert hashes == sorted(set(hashes))
    assert len({request.rewrite.text for request in result.wanted}) == len(result.wanted)
    facts_of_plan: list[Fact] = [one.fact for one in (*result.wanted, *result.held)]
    assert len(set(facts_of_plan)) == len(facts_of_plan)
    edited = {request.fact.subject for request in result.wanted}
    for request in result.wanted:
        assert request.target_old != request.target_new
        for neighbor in request.neighborhood:
            assert neighbor.subject not in edited
            assert neighbor.target != request.target_new
            assert neighbor.same_object == (neighbor.target == request.target_old)
            assert neighbor.prompt.subject.casefold() == str(labels[neighbor.subject]).casefold()
    if baseline == "adopt":
        known_before = {one.fact for one in facts if one.baseline}
        known_after = {one.fact for one in facts if not one.baseline}
        assert {request.fact for request in result.wanted} <= known_after | (known_before & known_after)


LANDS = LABELS | {f"Q{number}": f"Land {number}" for number in range(10, 17)}
DAY = timedelta(days=1)


def crowded() -> list[KnownFact]:
    """Six facts of two relations, seen on different days."""
    return [
        known("Q10", "P36", "Q1", seen=PULLED),
        known("Q11", "P36", "Q2", seen=PULLED + DAY),
        known("Q12", "P36", "Q3", seen=PULLED + 2 * DAY),
        known("Q13", "P6", "Q4", seen=PULLED),
        known("Q14", "P6", "Q5", seen=PULLED + DAY),
        known("Q15", "P6", "Q6", seen=PULLED + DAY),
    ]


def full(edits: int, *free: str, max_live: int = 1000, **priority: int) -> Plan:
    """The plan for the six facts and a model that holds so many edits, and knows the subjects in `free` itself."""
    settings = watch("P6", "P36", max_live=max_live).model_copy(update={"priority": priority})
    hashes = {one.fact.subject: one.content_hash for one in planned(crowded(), labels=LANDS).wanted}
    limit = Limit(edits, frozenset(hashes[subject] for subject in free))
    return plan(Known(crowded(), {}, LANDS, NOW), shipped(), settings, 0, Constraints(limit))


def subjects(result: Plan) -> set[str]:
    return {request.fact.subject for request in result.wanted}


def test_a_full_model_keeps_the_relations_of_highest_priority() -> None:
    """Priority comes before age; within a relation, what was seen last comes first, then the lower ids."""
    assert subjects(full(2)) == {"Q12", "Q11"}
    assert subjects(full(3)) == {"Q12", "Q11", "Q14"}
    assert subjects(full(3, P6=10)) == {"Q14", "Q15", "Q13"}
    assert subjects(full(4, P6=10)) == {"Q14", "Q15", "Q13", "Q12"}
    assert subjects(full(3, P6=-1)) == {"Q12", "Q11", "Q10"}
    result = full(5, P36=1)
    assert held(result) == {("Q13", "Q4"): "model full"}
    assert result.counts == {"wanted": 5, "held: model full": 1}


def test_what_the_base_model_knows_takes_no_room() -> None:
    """It is wanted however full the model is, and leaves the room to the others."""
    assert subjects(full(1, "Q10", "Q13")) == {"Q10", "Q13", "Q12"}
    assert subjects(full(3, "Q12")) == {"Q12", "Q11", "Q14", "Q15"}


def test_the_smaller_limit_counts() -> None:
    """max_live is asked first, and named."""
    result = full(5, max_live=2)
    assert subjects(result) == {"Q12", "Q11"}
    assert set(held(result).values()) == {"beyond max_live"}
    both = full(2, "Q13", max_live=5)
    assert both.counts == {"wanted": 3, "held: model full": 3}


def test_priority_without_a_limit_orders_what_max_live_lets_in() -> None:
    """The same order for both limits; with room for all it changes nothing."""
    chosen = watch("P6", "P36", max_live=2).model_copy(update={"priority": {"P6": 1}})
    assert subjects(planned(crowded(), chosen, labels=LANDS)) == {"Q14", "Q15"}
    roomy = watch("P6", "P36").model_copy(update={"priority": {"P6": 1}})
    assert planned(crowded(), roomy, labels=LANDS) == planned(crowded(), labels=LANDS)


@settings(max_examples=60, deadline=None)
@given(worlds(), st.randoms(use_true_random=False), st.integers(1, 8), st.integers(-2, 2), st.booleans())
def test_a_full_models_plan_is_a_function_of_the_facts(
    world: tuple[list[KnownFact], dict[str, str | None], dict[tuple[str, str], Value]],
    rng: random.Random,
    edits: int,
    priority: int,
    knows: bool,
) -> None:
    """Any order of the facts gives the same plan; it holds no more edits than fit, a smaller limit keeps a part of
    what a larger one keeps, and the counts add up to the facts."""
    facts, labels, previous = world
    chosen = watch("P6", "P19", "P27", "P36").model_copy(update={"priority": {"P19": priority}})

    def held_by(facts: Sequence[KnownFact], limit: Limit | None) -> Plan:
        return plan(Known(facts, previous, labels, NOW), shipped(), chosen, 2, Constraints(limit))

    whole = held_by(facts, None)
    known_hashes = frozenset(one.content_hash for one in whole.wanted[:2]) if knows else frozenset()
    first = held_by(facts, Limit(edits, known_hashes))
    shuffled = list(facts)
    rng.shuffle(shuffled)
    assert held_by(shuffled, Limit(edits, known_hashes)) == first
    hashes = {one.content_hash for one in first.wanted}
    assert len(hashes - known_hashes) == min(edits, len(whole.wanted) - len(known_hashes))
    assert known_hashes <= hashes <= {one.content_hash for one in whole.wanted}
    more = held_by(facts, Limit(edits + 1, known_hashes))
    assert hashes <= {one.content_hash for one in more.wanted}
    assert sum(first.counts.values()) == len(facts)
