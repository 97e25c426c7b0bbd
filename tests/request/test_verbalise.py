"""Verbalising: one fact, its sentences, and the subject's place in each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.facts import EditRequest, Fact, Held, Prompt, Value, ValueKind
from kbsync.request import words
from kbsync.request.verbalise import (
    BAD_ID,
    NO_RELATION_WORDS,
    OBJECT_EQUALS_SUBJECT,
    fold,
    place,
    sentence,
    verbalise,
)
from tests.request.facts_of import item, shipped

CAPITAL = Fact("Q55", "P36", item("Q727"))


def said(fact: Fact, labels: dict[str, str | None], previous: Value | None = None) -> EditRequest:
    request = verbalise(fact, labels, shipped(), previous)
    assert isinstance(request, EditRequest)
    return request


def prompts(request: EditRequest) -> list[Prompt]:
    return [request.rewrite, request.question, request.generation, *request.paraphrases]


@pytest.mark.parametrize(
    ("subject", "relation", "value", "expected"),
    [
        ("Netherlands", "P36", "Amsterdam", "The capital of the Netherlands is Amsterdam."),
        ("Japan", "P6", "Fumio Kishida", "The head of government of Japan is Fumio Kishida."),
        ("Philippines", "P35", "Bongbong Marcos", "The head of state of the Philippines is Bongbong Marcos."),
        ("Marie Curie", "P19", "Warsaw", "The place of birth of Marie Curie is Warsaw."),
        ("Lionel Messi", "P54", "Inter Miami CF", "The team for which Lionel Messi plays is Inter Miami CF."),
        ("Boris Johnson", "P27", "United Kingdom",
         "The citizenship of Boris Johnson is that of the United Kingdom."),
        ("Prime Minister of Japan", "P1308", "Shigeru Ishiba",
         "The office of Prime Minister of Japan is held by Shigeru Ishiba."),
        ("Rishi Sunak", "P39", "Prime Minister of the United Kingdom",
         "The position held by Rishi Sunak is that of Prime Minister of the United Kingdom."),
        ("Chicago Bulls", "P286", "Billy Donovan", "The head coach of the Chicago Bulls is Billy Donovan."),
        ("Chelsea F.C.", "P286", "Enzo Maresca", "The head coach of Chelsea F.C. is Enzo Maresca."),
        ("Denver Broncos", "P118", "National Football League",
         "The league of the Denver Broncos is the National Football League."),
        ("The Beatles", "P740", "Liverpool", "The place of formation of The Beatles is Liverpool."),
        ("Keir Starmer", "P102", "Labour Party", "The political party of Keir Starmer is the Labour Party."),
        ("Danube", "P403", "Black Sea", "The waters of the Danube flow into the Black Sea."),
        ("Mary Shelley", "P106", "novelist", "The occupation of Mary Shelley is novelist."),
        ("Miles Davis", "P1303", "trumpet", "The instrument that Miles Davis plays is the trumpet."),
        ("Germany", "P38", "euro", "The currency of Germany is the euro."),
        ("Norway", "P463", "NATO", "The membership of Norway is in NATO."),
        ("Windows 10", "P178", "Microsoft", "The developer of Windows 10 is Microsoft."),
        ("Isaac Newton", "P69", "University of Cambridge",
         "The place where Isaac Newton studied is the University of Cambridge."),
        ("Second Boer War", "P710", "British Empire",
         "A participant in the Second Boer War is the British Empire."),
        ("Audrey Hepburn", "P1412", "Dutch", "A language in which Audrey Hepburn communicates is Dutch."),
    ],
)  # fmt: skip
def test_sentences_read_as_english(subject: str, relation: str, value: str, expected: str) -> None:
    """With real labels the rewrite prompt and its object make the sentence that a person would write."""
    labels: dict[str, str | None] = {"Q1": subject, "Q2": value}
    assert sentence(Fact("Q1", relation, item("Q2")), labels, shipped()) == expected


@pytest.mark.parametrize(
    ("relation", "value", "expected"),
    [
        ("P569", Value(ValueKind.TIME, "1952-03-11T00:00:00Z"), "The date of birth of Ada is 11 March 1952."),
        ("P569", Value(ValueKind.TIME, "1952-01-01T00:00:00Z"), "The date of birth of Ada is 1952."),
        ("P571", Value(ValueKind.TIME, "1998-09-04T00:00:00Z"), "The year in which Ada began is 1998."),
        ("P1082", Value(ValueKind.QUANTITY, "8336817"), "The population of Ada is 8,336,817."),
        ("P374", Value(ValueKind.STRING, "75056"), "The INSEE code of Ada is 75056."),
    ],
)
def test_literals_read_as_english(relation: str, value: Value, expected: str) -> None:
    """Times, quantities and strings follow their prompts without a label of their own."""
    assert sentence(Fact("Q1", relation, value), {"Q1": "Ada"}, shipped()) == expected


def test_a_quantity_has_its_units_name() -> None:
    """The unit is named by its own label, and a quantity whose unit has none is held."""
    labels: dict[str, str | None] = {"Q1": "Ada", "P2048": "height", "Q11573": "metre"}
    tall = Fact("Q1", "P2048", Value(ValueKind.QUANTITY, "12", "Q11573"))
    assert sentence(tall, labels, shipped()) == "The height of Ada is 12 metres."
    assert verbalise(tall, labels | {"Q11573": None}, shipped()) == Held(tall, words.UNIT_WITHOUT_LABEL)


def test_the_article_is_outside_the_subject() -> None:
    """The span marks the label itself, in every prompt; only the sentence has the article."""
    request = said(CAPITAL, {"Q55": "Netherlands", "Q727": "Amsterdam"})
    assert request.rewrite.text == "The capital of the Netherlands is"
    assert {prompt.subject for prompt in prompts(request)} == {"Netherlands"}


def test_a_sentence_begins_with_a_capital() -> None:
    """At the start of a sentence the article is "The", and an ordinary small-letter word is capitalised."""
    relation = shipped().relation("P36", None)
    assert place("{} has a capital", "Netherlands", relation).text == "The Netherlands has a capital"
    assert place("{} is old", "chess", relation).text == "Chess is old"
    assert place("So it is. {} is old", "chess", relation).text == "So it is. Chess is old"
    assert place("{} is new", "eBay", relation).text == "eBay is new"
    assert place("{} sings", "k.d. lang", relation).text == "k.d. lang sings"
    assert place("Now {} is old", "chess", relation).text == "Now chess is old"
    assert place("{} is", "ßtrange", relation).subject == "ßtrange"


@given(st.text(min_size=1, max_size=220))
def test_any_label_keeps_its_place(name: str) -> None:
    """Whatever the label (braces, percent signs, right-to-left), it is held or stands at its span unchanged."""
    request = verbalise(CAPITAL, {"Q55": name, "Q727": "Amsterdam"}, shipped())
    if isinstance(request, Held):
        assert request.reason == words.label_fault(name) or fold(name) == "amsterdam"
    else:
        assert words.label_fault(name) is None
        assert request.rewrite.subject == name
        assert all(fold(prompt.subject) == fold(name) for prompt in prompts(request))


@pytest.mark.parametrize("name", ["{}", "{0}", "a {} b {}", "{subject}", "100 %s", "}{", "عبد الله", "北京"])
def test_braces_and_scripts_are_plain_text(name: str) -> None:
    """A label that looks like a format string, or is written right to left, is text like any other."""
    request = said(CAPITAL, {"Q55": name, "Q727": "{}"} if name != "{}" else {"Q55": name, "Q727": "{x}"})
    assert request.rewrite.text == f"The capital of {name} is"
    assert request.rewrite.subject == name


def test_old_object() -> None:
    """The old object is said where it differs in words, and is None where it is absent, unsayable or alike."""
    labels: dict[str, str | None] = {"Q55": "Japan", "Q727": "Tokyo", "Q2": "Kyoto", "Q3": None, "Q4": "TOKYO"}
    assert said(CAPITAL, labels).target_old is None
    assert said(CAPITAL, labels, item("Q2")).target_old == "Kyoto"
    assert said(CAPITAL, labels, item("Q3")).target_old is None
    assert said(CAPITAL, labels, item("Q4")).target_old is None
    assert said(CAPITAL, labels, Value(ValueKind.UNKNOWN, "")).target_old is None


@pytest.mark.parametrize(
    ("fact", "labels", "reason"),
    [
        (CAPITAL, {"Q727": "Amsterdam"}, words.NO_LABEL),
        (CAPITAL, {"Q55": None, "Q727": "Amsterdam"}, words.NO_LABEL),
        (CAPITAL, {"Q55": "Netherlands"}, words.NO_LABEL),
        (CAPITAL, {"Q55": "Q55", "Q727": "Amsterdam"}, words.NO_LABEL),
        (CAPITAL, {"Q55": "Nether\u200flands", "Q727": "Amsterdam"}, words.CONTROL_CHARACTERS),
        (CAPITAL, {"Q55": "Netherlands", "Q727": "x" * 201}, words.TOO_LONG),
        (CAPITAL, {"Q55": "Monaco", "Q727": "monaco"}, OBJECT_EQUALS_SUBJECT),
        (CAPITAL, {"Q55": "Gambia", "Q727": "Gambia"}, OBJECT_EQUALS_SUBJECT),
        (Fact("Q55", "P36", Value(ValueKind.UNKNOWN, "")), {"Q55": "Netherlands"}, words.UNKNOWN_VALUE),
        (Fact("Q55", "P569", Value(ValueKind.TIME, "?")), {"Q55": "Netherlands"}, words.BAD_TIME),
        (Fact("Q55 . DROP", "P36", item("Q727")), {"Q55 . DROP": "x", "Q727": "y"}, BAD_ID),
        (Fact("Q55", "P36", item("Amsterdam")), {"Q55": "Netherlands", "Amsterdam": "Amsterdam"}, BAD_ID),
        (Fact("Q55", "P99999", item("Q727")), {"Q55": "Netherlands", "Q727": "x"}, NO_RELATION_WORDS),
        (Fact("Q55", "P99999", item("Q727")), {"Q55": "a", "Q727": "b", "P99999": "a {} b"}, NO_RELATION_WORDS),
    ],
)
def test_held_by_name(fact: Fact, labels: dict[str, str | None], reason: str) -> None:
    """What can't be said is held under the reason's own name."""
    assert verbalise(fact, labels, shipped()) == Held(fact, reason)
    assert sentence(fact, labels, shipped()) is None


def test_content_hash_is_of_words_alone() -> None:
    """A relabelled old object leaves the content hash alone; a relabelled subject or object changes it."""
    labels: dict[str, str | None] = {"Q55": "Japan", "Q727": "Tokyo", "Q2": "Kyoto"}
    before = said(CAPITAL, labels, item("Q2")).content_hash
    assert said(CAPITAL, labels | {"Q2": "Nara"}, item("Q2")).content_hash == before
    assert said(CAPITAL, labels | {"Q55": "Nippon"}, item("Q2")).content_hash != before
    assert said(CAPITAL, labels | {"Q727": "Edo"}, item("Q2")).content_hash != before
