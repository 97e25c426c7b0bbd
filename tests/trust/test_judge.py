"""The filter: what is believed, what is held, why and until when; each check, and that it is a function."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.facts import ABSENT, References, Signal, State
from kbsync.settings import TrustSettings
from kbsync.trust.judge import bursts
from kbsync.trust.labels import Named
from kbsync.trust.policy import policy_of, rules_of
from kbsync.trust.verdicts import Evidence
from tests.trust.lines import believed, came, decided, fact, here, hour, line, told, went, why

BARE = References.NONE


def test_a_new_value_settles_and_the_old_one_stays_meanwhile() -> None:
    """For a day the old value is believed, to the minute; then the new one is, and nothing is held any more."""
    group = went("Q1", 0), came("Q2", 0)
    assert believed(*group, at=23.9) == ["Q1"]
    assert why(*group, at=1) == {
        "Q1": ("leave", "settling", hour(24)), "Q2": ("enter", "settling", hour(24)),
    }  # fmt: skip
    assert believed(*group, at=24) == ["Q2"]
    assert why(*group, at=24) == {}
    assert [(v.fact.value.text, v.way, v.passed) for v in told(*group, at=24)[1]] == [
        ("Q1", "leave", True), ("Q2", "enter", True),
    ]  # fmt: skip


def test_a_revert_in_time_leaves_nothing() -> None:
    """A value that came and went within a day was never there; the old one is as adopted as before."""
    old = line("Q1", here(), 0, ABSENT, 5, here(), baseline=True)
    new = line("Q2", ABSENT, 0, here(), 5, ABSENT)
    for at in (1, 6, 23, 25, 40, 1000):
        found, _ = told(old, new, at=at)
        assert [(one.fact.value.text, one.adopted) for one in found] == [("Q1", True)]
    assert why(old, new, at=40) == {}


def test_a_deletion_settles() -> None:
    """A taught fact that is deleted stays for a day, and one that comes back in time never went."""
    taught = line("Q2", ABSENT, -100, here(), 0, ABSENT)
    assert believed(taught, at=23) == ["Q2"]
    assert why(taught, at=23) == {"Q2": ("leave", "settling", hour(24))}
    assert believed(taught, at=24) == []
    assert believed(line("Q2", ABSENT, -100, here(), 0, ABSENT, 20, here()), at=30) == ["Q2"]


def test_an_end_date_settles() -> None:
    """A fact that somebody ends is believed without the end until that has stood."""
    ended = line("Q2", ABSENT, -100, here(), 0, here(end=hour(-1)))
    assert told(ended, at=5)[0][0].state.end is None
    assert why(ended, at=5) == {"Q2": ("change", "settling", hour(24))}
    assert told(ended, at=24)[0][0].state.end == hour(-1)


def test_without_a_reference_it_waits_and_the_old_one_with_it() -> None:
    """However long it stands; a reference that is added settles, and then the old value may go."""
    group = went("Q1", 0), came("Q2", 0, references=BARE)
    assert believed(*group, at=1000) == ["Q1"]
    assert why(*group, at=1000) == {
        "Q1": ("leave", "replacement held", None), "Q2": ("enter", "no reference", None),
    }  # fmt: skip
    assert believed(*group, at=1000, references="optional") == ["Q2"]
    later = went("Q1", 0), line("Q2", ABSENT, 0, here(references=BARE), 100, here())
    assert believed(*later, at=123) == ["Q1"]
    assert believed(*later, at=124) == ["Q2"]


def test_what_is_held_frees_the_old_value_only_with_another_one() -> None:
    """A third value that passes explains why the first went; under `many` nothing has to be explained."""
    group = went("Q1", 0), came("Q2", 0, references=BARE), came("Q3", 1)
    assert believed(*group, at=100) == ["Q3"]
    assert believed(went("Q1", 0), came("Q2", 0, references=BARE), at=100, many=True) == []


@pytest.mark.parametrize(
    ("policy", "references", "passes"),
    [
        ("required", References.NONE, False),
        ("required", References.IMPORTED, True),
        ("required", None, True),
        ("not only imported", References.IMPORTED, False),
        ("not only imported", References.SOURCED, True),
        ("optional", References.NONE, True),
    ],
)
def test_reference_policies(policy: str, references: References | None, passes: bool) -> None:
    """What each policy asks for; references that were never read speak against nothing."""
    assert believed(came("Q2", 0, references=references), at=50, references=policy) == (["Q2"] if passes else [])


def test_an_unreferenced_fact_may_pass_after_a_longer_time() -> None:
    """Where that is set, the time at which it does is told."""
    bare = came("Q2", 0, references=BARE)
    assert why(bare, at=50, unreferenced_after="10d")["Q2"] == ("enter", "no reference", hour(240))
    assert believed(bare, at=240, unreferenced_after="10d") == ["Q2"]


def test_references_that_are_taken_away_change_nothing() -> None:
    """The fact keeps the state that it had with them."""
    stripped = line("Q2", ABSENT, -100, here(), 0, here(references=BARE))
    found, verdicts = told(stripped, at=500)
    assert found[0].state.references is References.SOURCED
    assert [(v.way, v.reason) for v in verdicts] == [("change", "no reference")]


def test_rank_can_be_asked_for() -> None:
    """With `preferred` a statement of normal rank waits for an edit."""
    assert why(came("Q2", 0), at=50, rank="preferred") == {"Q2": ("enter", "not preferred", None)}
    assert believed(came("Q2", 0, preferred=True), at=50, rank="preferred") == ["Q2"]


def test_classes_are_compared() -> None:
    """An object or subject of another class waits; one without a class, or that was not read, as configured."""
    kinds = {"Q2": frozenset({"Q515"}), "Q30": frozenset({"Q6256", "Q5"}), "Q3": None}
    evidence = Evidence(kinds=kinds)
    assert why(came("Q2", 0), at=50, evidence=evidence, classes=("Q5",)) == {
        "Q2": ("enter", "class of the object", None)
    }
    assert why(came("Q2", 0), at=50, evidence=evidence, classes=("Q515",)) == {
        "Q2": ("enter", "class of the subject", None)
    }
    assert believed(came("Q2", 0), at=50, evidence=evidence, classes=("Q515",), types="objects") == ["Q2"]
    assert believed(came("Q2", 0), at=50, evidence=evidence, classes=("Q5",), types="off") == ["Q2"]
    assert believed(came("Q3", 0), at=50, evidence=evidence, classes=("Q5",)) == ["Q3"]
    assert believed(came("Q3", 0), at=50, evidence=evidence, classes=("Q5",), untyped="hold") == []


def fight(*hours: float) -> tuple[Signal, Signal]:
    """Two values that take turns: the second comes at the first hour, goes at the next, and so on."""
    ours: list[State | float] = [here()]
    theirs: list[State | float] = [ABSENT]
    for number, at in enumerate(hours):
        ours += [at, ABSENT if number % 2 == 0 else here()]
        theirs += [at, here() if number % 2 == 0 else ABSENT]
    return line("Q1", *ours, baseline=True), line("Q2", *theirs)


def test_an_edit_war_is_waited_out() -> None:
    """After three returns within a week nothing is believed but what was before, until a week was quiet."""
    group = fight(0, 5, 10, 15, 20)
    assert believed(*group, at=100) == ["Q1"]
    assert why(*group, at=100)["Q2"] == ("enter", "edit war", hour(20 + 168))
    assert believed(*group, at=20 + 167) == ["Q1"]
    assert believed(*group, at=20 + 168) == ["Q2"]
    assert believed(*group, at=100, war_flips=0) == ["Q2"]
    assert believed(*fight(0, 5, 10), at=100) == ["Q2"]  # two returns are no war
    spread = fight(0, 100, 200, 300, 400)
    assert believed(*spread, at=430) == ["Q2"]  # three returns, not within a week


def test_changes_in_a_burst_wait_longer() -> None:
    """Only those in the burst do, and only for the longer time."""
    evidence = Evidence(relation_bursts={"P6": [(hour(-2), hour(1))]})
    assert why(came("Q2", 0), at=50, evidence=evidence)["Q2"] == (
        "enter",
        "many changes of the relation",
        hour(168),
    )
    assert believed(came("Q2", 0), at=168, evidence=evidence) == ["Q2"]
    assert believed(came("Q2", 2), at=50, evidence=evidence) == ["Q2"]
    one = Evidence(subject_bursts={"Q30": [(hour(-2), hour(1))]})
    assert why(went("Q2", 0, baseline=False), at=50, evidence=one)["Q2"][1] == "many changes of the subject"


def test_a_burst_that_was_rolled_back_is_never_believed() -> None:
    """Not even after the longer time has passed: the state itself did not stand for so long."""
    old = line("Q1", here(), 0, ABSENT, 100, here(), baseline=True)
    new = line("Q2", ABSENT, 0, here(), 100, ABSENT)
    waves = Evidence(relation_bursts={"P6": [(hour(-2), hour(1)), (hour(99), hour(101))]})
    for at in (50, 101, 169, 200, 267, 268, 500):
        assert believed(old, new, at=at, evidence=waves) == ["Q1"]


def test_bursts_are_found() -> None:
    """More changes than the limit within the window; a replacement counts once."""
    rules = rules_of(TrustSettings(max_per_subject=3))
    policies = {"P6": policy_of(TrustSettings(max_per_relation=3))}

    def swap(number: int, at: float) -> list[Signal]:
        pair = went("Q1", at), came("Q2", at)
        return [
            Signal(fact(one.fact.value.text, f"Q{number}"), one.now, one.past, one.baseline) for one in pair
        ]  # fmt: skip

    calm = [one for number in range(3) for one in swap(100 + number, number)]
    assert bursts(calm, policies, rules) == ({}, {})
    busy = [*calm, *swap(103, 3)]
    assert bursts(busy, policies, rules) == ({"P6": [(hour(0), hour(3))]}, {})
    assert bursts([*calm, *swap(103, 40)], policies, rules) == ({}, {})
    same = [one for number in range(4) for one in swap(100, number)]
    assert bursts(same, policies, rules)[1] == {"Q100": [(hour(0), hour(3))]}


def test_the_score_of_its_revision_holds_a_change() -> None:
    """From the threshold on; without one it passes or waits, as configured; without a service it is not asked."""
    scored = line("Q2", ABSENT, 0, here(), revision=7)
    on: dict[str, object] = {"score_url": "http://localhost/"}
    assert why(scored, at=50, evidence=Evidence(scores={7: 0.9}), **on)["Q2"][1] == "revert risk"
    assert believed(scored, at=50, evidence=Evidence(scores={7: 0.89}), **on) == ["Q2"]
    assert believed(scored, at=50, evidence=Evidence(scores={7: 0.95})) == ["Q2"]
    assert believed(scored, at=50, **on) == ["Q2"]
    assert why(scored, at=50, score_on_error="hold", **on)["Q2"][1] == "no revert-risk score"


def test_a_label_that_nothing_can_be_said_with_holds_the_fact() -> None:
    """Of subject or object; where an older label will do, nothing is held."""
    odd = Named(None, "label settling", hour(60))
    assert why(came("Q2", 0), at=50, evidence=Evidence(labels={"Q30": odd}))["Q2"] == (
        "enter", "label settling", hour(60),
    )  # fmt: skip
    assert believed(came("Q2", 0), at=50, evidence=Evidence(labels={"Q2": Named("old", "label settling")})) == [
        "Q2"
    ]


@pytest.mark.parametrize("one", ["Q30", "P6", "Q2"])
def test_deny_and_allow(one: str) -> None:
    """Subject, relation or object: denied never passes, allowed passes at once, and deny wins."""
    assert why(came("Q2", 0), at=500, deny=[one])["Q2"] == ("enter", "denied", None)
    assert believed(came("Q2", 0, references=BARE), at=0.1, allow=[one]) == ["Q2"]
    assert believed(came("Q2", 0), at=500, allow=[one], deny=[one]) == []
    assert told(came("Q2", 0), at=0.1, allow=[one])[1][0].reason == "allowed"


def test_the_limit_of_a_run_holds_what_is_beyond() -> None:
    """Such a fact waits, and what it replaces stays."""
    group = went("Q1", 0), came("Q2", 0)
    evidence = Evidence(waiting=frozenset({fact("Q2")}))
    assert believed(*group, at=50, evidence=evidence) == ["Q1"]
    assert why(*group, at=50, evidence=evidence)["Q2"] == ("enter", "limit of the run", hour(50))


def test_an_approval_is_for_a_change_as_it_is() -> None:
    """It passes at once and takes the old value's place; changed again, it is judged again."""
    group = went("Q1", 0), came("Q2", 0, references=BARE)
    yes = decided(approved=group[1])
    assert believed(*group, at=1000, evidence=yes) == ["Q2"]
    assert "Q2" in believed(*group, at=0.1, evidence=yes)
    again = line("Q2", ABSENT, 0, here(references=BARE), 60, ABSENT, 70, here(references=BARE))
    assert believed(again, at=1000, evidence=yes) == []
    war = fight(0, 5, 10, 15, 20)
    assert "Q2" in believed(*war, at=21, evidence=decided(approved=war[1]))


def test_a_rejection_stays() -> None:
    """A rejected fact stays out, also when it comes back; another value is another fact. A rejected going is kept
    off until the fact changes again."""
    group = went("Q1", 0), came("Q2", 0)
    no = decided(rejected=group[1])
    assert believed(*group, at=1000, evidence=no) == ["Q1"]
    assert why(*group, at=1000, evidence=no)["Q2"] == ("enter", "rejected", None)
    back = line("Q2", ABSENT, 0, here(), 60, ABSENT, 90, here())
    assert believed(back, at=1000, evidence=no) == []
    assert believed(went("Q1", 0), came("Q3", 100), at=1000, evidence=no) == ["Q3"]
    gone = line("Q2", ABSENT, -100, here(), 0, ABSENT)
    assert believed(gone, at=1000, evidence=decided(rejected=gone)) == ["Q2"]
    assert why(gone, at=1000, evidence=decided(rejected=gone)) == {"Q2": ("leave", "rejected", None)}


def test_what_was_there_at_the_first_pull() -> None:
    """It is adopted unasked, whatever speaks against it; under `teach` it is asked all but its time."""
    old = line("Q1", here(references=BARE), baseline=True)
    found, verdicts = told(old, at=0, deny=["Q1"])
    assert [(one.adopted, verdicts) for one in found] == [(True, [])]
    assert why(old, at=0, teach=True) == {"Q1": ("enter", "no reference", None)}
    assert believed(line("Q1", here(), baseline=True), at=0, teach=True) == ["Q1"]


def test_what_is_over_is_no_candidate() -> None:
    """A former holder that is added with an end date waits for nothing but its time."""
    former = came("Q2", 0, references=BARE, end=hour(-1000))
    assert believed(former, at=24) == ["Q2"]
    assert believed(went("Q1", 0), former, at=24) == ["Q2"]


states = st.builds(
    State,
    st.just(value=True),
    st.booleans(),
    st.none(),
    st.none() | st.sampled_from([hour(-500), hour(30)]),
    st.sampled_from([None, *References]),
) | st.just(ABSENT)


@st.composite
def groups(draw: st.DrawFn) -> list[Signal]:
    """Up to four facts with up to five changes each."""
    found = []
    for value in ("Q1", "Q2", "Q3", "Q4")[: draw(st.integers(1, 4))]:
        times = sorted(draw(st.lists(st.integers(-200, 200), max_size=5)))
        steps: list[State | float] = [draw(states)]
        for at in times:
            steps += [float(at), draw(states)]
        found.append(line(value, *steps, baseline=draw(st.booleans())))
    return found


@settings(max_examples=300)
@given(groups(), st.integers(-200, 500), st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_the_filter_is_a_function_and_every_change_has_a_verdict(
    group: list[Signal], at: int, rng: random.Random, many: bool, teach: bool
) -> None:
    """The order of the facts is irrelevant; what differs from Wikidata is held by name with a time that is still to
    come; what is believed was once so at the source."""
    first, verdicts = told(*group, at=at, many=many, teach=teach)
    mixed = list(group)
    rng.shuffle(mixed)
    again, same = told(*mixed, at=at, many=many, teach=teach)
    assert sorted(map(repr, again)) == sorted(map(repr, first))
    assert sorted(map(repr, same)) == sorted(map(repr, verdicts))
    states_of = {one.fact: one.state for one in first}
    held = {one.fact: one for one in verdicts if not one.passed}
    for one in group:
        state = states_of.get(one.fact, ABSENT)
        assert state == ABSENT or state in {one.now, *(past.state for past in one.past)}
        assert (state != one.now) == (one.fact in held)
    for verdict in held.values():
        assert verdict.reason
        assert verdict.until is None or verdict.until > hour(at)


@settings(max_examples=200)
@given(groups(), st.booleans())
def test_without_checks_wikidata_is_believed(group: list[Signal], many: bool) -> None:
    """With every check off the filter changes nothing."""
    off = {"settling": "0", "references": "optional", "war_flips": 0}
    found, _ = told(*group, at=300, many=many, **off)  # type: ignore[arg-type]
    assert {one.fact: one.state for one in found} == {one.fact: one.now for one in group if one.now.present}
