"""A lint over the catalogue that ships with kbsync."""

from __future__ import annotations

import re

import pytest

from kbsync.facts import is_entity_id
from kbsync.request.catalogue import Current, ObjectForm, Relation
from tests.request.facts_of import shipped

RELATIONS = list(shipped().relations.values())

REQUIRED = re.findall(
    r"P\d+",
    """
    P6 P17 P19 P20 P22 P25 P26 P27 P30 P35 P36 P37 P39 P50 P54 P57 P58 P61 P69 P84 P86 P101 P102 P103 P106
    P108 P112 P115 P118 P122 P123 P127 P131 P135 P136 P138 P140 P159 P162 P169 P170 P175 P176 P178 P190 P206
    P241 P264 P272 P276 P286 P306 P344 P361 P364 P374 P400 P403 P407 P413 P449 P452 P463 P466 P488 P495 P509
    P527 P530 P551 P569 P570 P571 P577 P607 P641 P663 P710 P737 P740 P749 P800 P937 P974 P1001 P1037 P1050
    P1056 P1303 P1308 P1411 P1412 P1435 P2094 P2348 P3095 P3975
    """,
)


def test_it_covers_the_common_relations() -> None:
    """At least 80 relations have words of their own, among them those that change most."""
    assert len(RELATIONS) >= 80
    assert set(REQUIRED) <= set(shipped().relations)


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.id)
def test_templates(relation: Relation) -> None:
    """Each template has one place and clean spacing, and writes neither an article nor 's at the place."""
    prompts = [relation.rewrite, *relation.paraphrases]
    for text in (*prompts, relation.question, relation.generation):
        assert text.count("{}") == 1
        assert "{" not in text.replace("{}", "")
        assert "  " not in text
        assert text == text.strip()
        assert text[0].isupper() or text.startswith("{}")
        assert not re.search(r"\b(?:the|an?) \{\}", text, re.IGNORECASE)
        assert "{}'s" not in text
        assert "{}’s" not in text
    assert relation.question.endswith("?")
    assert relation.question.count("?") == 1
    assert not any("?" in text for text in (*prompts, relation.generation))
    assert len({text.casefold() for text in prompts}) == len(prompts)
    assert relation.generation not in prompts


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.id)
def test_places(relation: Relation) -> None:
    """The subject is never the last token before the object, and the rewrite begins with words of its own."""
    for text in (relation.rewrite, *relation.paraphrases):
        assert re.search(r"\{\}.*\w", text), f"nothing follows the subject in {text!r}"
        assert text[-1].isalpha() or text[-1] == ",", f"no object can follow {text!r}"
    assert relation.rewrite.index("{}") >= 3
    starts = [text.startswith("{}") for text in relation.paraphrases]
    assert any(starts)
    assert not all(starts)


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.id)
def test_types(relation: Relation) -> None:
    """Subject and object types are named, in small letters, and classes are item ids named once."""
    assert relation.subjects
    assert relation.objects
    for classes in (relation.subject_classes, relation.object_classes):
        assert len(set(classes)) == len(classes)
        assert all(is_entity_id(one) and one.startswith("Q") for one in classes)
    if "human" in relation.subjects:
        assert "Q5" in relation.subject_classes
    if relation.objects == ("human",):
        assert relation.object_classes == ("Q5",)


def test_no_prompt_is_used_twice() -> None:
    """Two relations with one prompt would be asked for two objects by the same words."""
    seen: dict[str, str] = {}
    for relation in RELATIONS:
        for text in (relation.rewrite, relation.question, *relation.paraphrases):
            assert text not in seen, f"{text!r} is in {relation.id} and {seen.get(text)}"
            seen[text] = relation.id


def test_literals() -> None:
    """Dates, identifiers and numbers have their object form; offices that change hands go by date."""
    forms = {relation.id: relation.object for relation in RELATIONS if relation.object is not ObjectForm.ITEM}
    assert forms["P569"] is forms["P570"] is forms["P577"] is ObjectForm.DATE
    assert forms["P571"] is ObjectForm.YEAR
    assert forms["P374"] is forms["P663"] is ObjectForm.STRING
    for office in ("P6", "P35", "P169", "P286", "P488", "P1308", "P3975", "P54"):
        assert shipped().relation(office, None).current is Current.LATEST
