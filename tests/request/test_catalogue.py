"""The catalogue: what loads, what is refused and how, and relations without an entry."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.errors import ConfigError
from kbsync.facts import Prompt
from kbsync.request.catalogue import Catalogue, Current, ObjectForm, from_label, load_catalogue
from tests.request.facts_of import shipped

GOOD = """
[P36]
label = "capital"
rewrite = "The capital of {} is"
paraphrases = ["In {}, the capital is", "{} has its capital in", "Rulers of {} sit in"]
question = "What is the capital of {}?"
generation = "The capital of {} has"
current = "preferred"
"""


def load(tmp_path: Path, text: str) -> Catalogue:
    path = tmp_path / "relations.toml"
    path.write_text(text, encoding="utf-8")
    return load_catalogue(path)


def test_an_entry_with_defaults(tmp_path: Path) -> None:
    """The keys with defaults may be left out: an item object and articles by name."""
    relation = load(tmp_path, GOOD).relation("P36", "another label")
    assert (relation.id, relation.label, relation.current) == ("P36", "capital", Current.PREFERRED)
    assert (relation.object, relation.object_article) == (ObjectForm.ITEM, "auto")
    assert relation.subjects == relation.object_classes == ()


@pytest.mark.parametrize(
    ("old", "new", "fragments"),
    [
        ("The capital of {} is", "The capital is", ["P36", "rewrite", "is missing"]),
        ("The capital of {} is", "The capital of {subject} is", ["P36", "rewrite", "is missing"]),
        ("The capital of {} is", "The capital of {}, {}, is", ["P36", "rewrite", "2 times"]),
        ("The capital of {} is", "{} has the capital", ["P36", "rewrite", "before {}"]),
        ("The capital of {} is", "The capital of {} is ", ["P36", "rewrite", "stray"]),
        ("The capital of {} is", "The  capital of {} is", ["P36", "rewrite", "stray"]),
        ("The capital of {} is", "The capital of {} is?", ["P36", "rewrite", "question mark"]),
        ('"Rulers of {} sit in"', '"Rulers sit in"', ["P36", "paraphrases[2]", "is missing"]),
        (', "Rulers of {} sit in"', "", ["P36", "paraphrases", "at least 3", "there are 2"]),
        ("Rulers of {} sit in", "The capital of {} is", ["P36", "paraphrases", "the same"]),
        ("What is the capital of {}?", "What is the capital of {}", ["P36", "question", "question mark"]),
        ("What is the capital of {}?", "What is the capital?", ["P36", "question", "is missing"]),
        ("The capital of {} has", "It has", ["P36", "generation", "is missing"]),
        ("question =", "qestion =", ["P36", "unknown key qestion", "did you mean question?"]),
        ("label =", "xyzzy = 1\nlabel =", ["P36", "unknown key xyzzy", "known:"]),
        ("label =", 'id = "P37"\nlabel =', ["P36", "unknown key id"]),
        ('label = "capital"\n', "", ["P36", "label is missing"]),
        ('label = "capital"', 'label = " "', ["P36", "label", "empty"]),
        ('"preferred"', '"sometimes"', ["P36", "current", "sometimes"]),
        ('current = "preferred"', 'current = "preferred"\nobject = "place"', ["P36", "object", "place"]),
        ('current = "preferred"', 'current = "many"\nobject_article = "a"', ["P36", "object_article"]),
        ('current = "preferred"', 'current = "many"\nsubject_classes = ["city"]', ["subject_classes", "Q6256"]),
        ('current = "preferred"', 'current = "many"\nobject_classes = ["P31"]', ["object_classes", "P31"]),
        ("[P36]", "[P036]", ["P036", "not a property id"]),
        ("[P36]", "[Q36]", ["Q36", "not a property id"]),
        ("[P36]", "P17 = 3\n[P36]", ["P17", "must be a table"]),
        ("[P36]", "[P36", ["not valid TOML"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, old: str, new: str, fragments: list[str]) -> None:
    """Each fault is a ConfigError of one line with the file, the relation and the key."""
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "relations.toml") in message
    for fragment in fragments:
        assert fragment in message


def test_a_relation_that_is_there_twice(tmp_path: Path) -> None:
    """TOML refuses the second table; the message names the relation, which TOML's own does not."""
    with pytest.raises(ConfigError, match="P36 is there twice"):
        load(tmp_path, GOOD + GOOD)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, and bytes that are not UTF-8 each end in a ConfigError."""
    with pytest.raises(ConfigError, match="no relation catalogue at"):
        load_catalogue(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="can't be read"):
        load_catalogue(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'[P36]\nlabel = "\xff"')
    with pytest.raises(ConfigError, match="can't be read"):
        load_catalogue(tmp_path / "latin.toml")


def test_an_empty_catalogue_still_has_every_relation_by_label(tmp_path: Path) -> None:
    """Without entries, relations are made from labels; without either there is a LookupError."""
    catalogue = load(tmp_path, "")
    assert "P36" not in catalogue
    assert catalogue.relation("P36", "capital").rewrite == "The capital of {} is"
    for label in (None, "", " ", "a {} b", "two\nlines"):
        with pytest.raises(LookupError):
            catalogue.relation("P36", label)


@pytest.mark.parametrize(
    ("label", "rewrite"),
    [
        ("mountain range", "The mountain range of {} is"),
        ("capital", "The capital of {} is"),
        ("designed by", "As far as is known, {} is designed by"),
        ("made from material", "In the record of {}, the entry under “made from material” is"),
        ("has effect", "In the record of {}, the entry under “has effect” is"),
        ("follows", "In the record of {}, the entry under “follows” is"),
        ("student of", "In the record of {}, the entry under “student of” is"),
    ],
)
def test_words_from_a_label(label: str, rewrite: str) -> None:
    """A noun, a participle with its preposition, and any other label each get a grammatical prompt."""
    relation = from_label("P4552", label)
    assert relation.rewrite == rewrite
    assert relation.current is Current.SINGLE


@given(st.text(min_size=1, max_size=60))
def test_any_label_makes_a_usable_relation(label: str) -> None:
    """Whatever the property is called, each of its templates has exactly one place, or it is refused."""
    try:
        relation = Catalogue({}).relation("P1", label)
    except LookupError:
        assert not label.strip() or "{}" in label or not label.isprintable()
        return
    for template in (relation.rewrite, relation.question, relation.generation, *relation.paraphrases):
        assert Prompt.fill(template, "Japan").subject == "Japan"
    assert len({relation.rewrite, *relation.paraphrases}) == 4


def test_an_entry_wins_over_the_label() -> None:
    """A relation of the catalogue keeps its own words whatever the property is called today."""
    assert shipped().relation("P36", "main town").rewrite == "The capital of {} is"
