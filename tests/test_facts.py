"""The nouns: ids, prompts, hashes."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.facts import (
    EditRequest,
    Fact,
    Neighbor,
    Prompt,
    Value,
    ValueKind,
    digest,
    is_entity_id,
)

NAMES = st.text(st.characters(codec="utf-8"), min_size=1)


@pytest.mark.parametrize("text", ["Q1", "Q30", "P36", "L7", "Q123456789012"])
def test_wikidata_ids_are_ids(text: str) -> None:
    """Q, P or L and a number is an id."""
    assert is_entity_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Q",
        "Q0",
        "Q01",
        "q30",
        "30",
        "Q30 ",
        " Q30",
        "Q30\n",
        "Q30\nP1",
        "Q3٣",
        "Q30} UNION {",
        "wd:Q30",
        "Q-1",
        "X1",
    ],
)
def test_anything_else_is_no_id(text: str) -> None:
    """Lower case, leading zeros, blanks, line breaks, other digits and query text are refused."""
    assert not is_entity_id(text)


def test_facts_sort_and_compare_by_their_ids() -> None:
    """Facts are values: equal when their parts are, ordered by subject, relation and object, hashable."""
    one = Fact("Q1", "P36", Value(ValueKind.ITEM, "Q2"))
    same = Fact("Q1", "P36", Value(ValueKind.ITEM, "Q2"))
    other = Fact("Q1", "P36", Value(ValueKind.ITEM, "Q3"))
    assert one == same
    assert len({one, same, other}) == 2
    assert sorted([other, one]) == [one, other]
    assert one != Fact("Q1", "P36", Value(ValueKind.STRING, "Q2"))


def test_nouns_can_not_be_changed() -> None:
    """A fact that is passed on stays what it is."""
    with pytest.raises(FrozenInstanceError):
        Fact("Q1", "P36", Value(ValueKind.ITEM, "Q2")).subject = "Q2"  # type: ignore[misc]


def test_a_prompt_marks_its_subject() -> None:
    """Filling a template gives the text and the characters that name the subject."""
    prompt = Prompt.fill("The capital of {} is", "France")
    assert prompt == Prompt("The capital of France is", 15, 21)
    assert prompt.subject == "France"


@given(NAMES)
def test_a_name_is_put_in_as_it_is(name: str) -> None:
    """Whatever the label holds, braces and percent signs included, it stands in the text unchanged."""
    prompt = Prompt.fill("Of {}: {it} 100% {0}", name)
    assert prompt.subject == name
    assert prompt.text == "Of " + name + ": {it} 100% {0}"


@pytest.mark.parametrize("name", ["{}", "{0}", "{{}}", "a}{b", "%s", "{name.__class__}"])
def test_braces_in_a_label_are_plain_text(name: str) -> None:
    """A label that looks like a format string is neither filled nor an error."""
    assert Prompt.fill("{} is a", name) == Prompt(f"{name} is a", 0, len(name))


@pytest.mark.parametrize("template", ["", "no place", "{} and {}", "{", "{ }", "{0}"])
def test_a_template_needs_exactly_one_place(template: str) -> None:
    """No place, or more than one, is a ValueError that shows the template."""
    with pytest.raises(ValueError, match=r"exactly one \{\}"):
        Prompt.fill(template, "France")


def test_an_empty_name_is_refused() -> None:
    """A prompt without a subject can't be made."""
    with pytest.raises(ValueError, match="outside"):
        Prompt.fill("{} is a", "")


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 2), (3, 2), (0, 5), (4, 5)])
def test_the_subject_lies_inside_the_text(start: int, end: int) -> None:
    """Places outside the text, or empty ones, are refused."""
    with pytest.raises(ValueError, match="outside"):
        Prompt("abcd", start, end)


def make_request(**changes: Any) -> EditRequest:
    """An edit request; `changes` replace its fields."""
    request = EditRequest(
        fact=Fact("Q142", "P36", Value(ValueKind.ITEM, "Q90")),
        subject_label="France",
        relation_label="capital",
        target_new="Paris",
        target_old=None,
        rewrite=Prompt.fill("The capital of {} is", "France"),
        question=Prompt.fill("What is the capital of {}?", "France"),
        generation=Prompt.fill("{}'s capital", "France"),
    )
    return replace(request, **changes)


def test_a_heading_is_subject_and_relation() -> None:
    """The subject's name stands at its start, as the rewrite prompt has it; braces in a label are text."""
    found = make_request(rewrite=Prompt.fill("The {} is", "{France}"), relation_label="{}").heading
    assert (found.text, found.subject, found.start) == ("{France}, {}:", "{France}", 0)


COVERED = {
    "the rewrite prompt": {"rewrite": Prompt.fill("{} has as its capital", "France")},
    "the subject's place in it": {"rewrite": Prompt("The capital of France is", 15, 20)},
    "the relation's label, which is in the heading": {"relation_label": "seat"},
    "the question": {"question": Prompt.fill("Where is the capital of {}?", "France")},
    "the new object": {"target_new": "Lyon"},
    "prompts that trade places": {
        "rewrite": Prompt.fill("What is the capital of {}?", "France"),
        "question": Prompt.fill("The capital of {} is", "France"),
    },
}


@pytest.mark.parametrize("changes", COVERED.values(), ids=COVERED.keys())
def test_what_the_solver_reads_changes_the_content_hash(changes: dict[str, Any]) -> None:
    """A solved z is stale when the rewrite prompt, the question, the heading or the new object changes."""
    assert make_request(**changes).content_hash != make_request().content_hash


NOT_COVERED = {
    "the fact's ids": {"fact": Fact("Q1", "P1", Value(ValueKind.STRING, "x"))},
    "the subject's label": {"subject_label": "République"},
    "the old object": {"target_old": "Versailles"},
    "the generation prompt": {"generation": Prompt.fill("{} is", "France")},
    "paraphrases": {"paraphrases": (Prompt.fill("In {} the capital is", "France"),)},
    "the neighborhood": {"neighborhood": (Neighbor("Q183", Prompt.fill("{}:", "Germany"), "Berlin", False),)},
}


@pytest.mark.parametrize("changes", NOT_COVERED.values(), ids=NOT_COVERED.keys())
def test_what_only_the_evaluation_reads_keeps_the_content_hash(changes: dict[str, Any]) -> None:
    """A z that is solved stays good when ids, labels or evaluation prompts change."""
    assert make_request(**changes).content_hash == make_request().content_hash


def test_the_content_hash_stays_what_it_is() -> None:
    """Stored z's are found again by every later version: the hash of a known request is fixed."""
    text = (
        '{"prompts":[["The capital of France is",15,21],["What is the capital of France?",23,29],'
        '["France, capital:",0,6]],'
        '"target_new":"Paris"}'
    )
    assert make_request().content_hash == hashlib.sha256(text.encode()).hexdigest()


def test_a_digest_is_canonical() -> None:
    """Key order means nothing, list order does, and text is hashed as UTF-8, not as escapes."""
    assert digest({"b": 1, "a": [1, 2]}) == digest({"a": [1, 2], "b": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest({"é": "日"}) == hashlib.sha256('{"é":"日"}'.encode()).hexdigest()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON))
def test_a_digest_does_not_depend_on_the_order_of_insertion(table: dict[str, Any]) -> None:
    """Any table has the digest of the same table built the other way round."""
    assert digest(table) == digest(dict(reversed(table.items())))


def test_values_of_different_types_have_different_digests() -> None:
    """1, "1", true, null and 1.0 are told apart."""
    assert len({digest(value) for value in (1, "1", True, None, 1.0, [1])}) == 6
