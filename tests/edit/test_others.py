"""Other subjects in a request's words: found in plain sentences, never the request's own."""

from __future__ import annotations

import pytest

from kbsync.edit.others import Others
from kbsync.facts import Prompt
from tests.tiny import request

CAPITALS = (
    "The capital of Peru is Lima.",
    "The capital of Japan is Tokyo.",
    "The capital of Bosnia and Herzegovina is Sarajevo.",
    "The currency of Peru is the sol.",
    "Marie Curie's occupation is physicist.",
)


def test_the_other_subject_stands_where_the_request_has_its_own() -> None:
    """In the request's wording, with its place marked and without its object."""
    found = {Others(CAPITALS).like(request("France", f"Rome {i}")) for i in range(40)}
    assert found == {Prompt.fill("The capital of {} is", n) for n in ("Peru", "Japan", "Bosnia and Herzegovina")}


def test_the_choice_depends_on_the_request_alone() -> None:
    """Not on what was asked before."""
    fresh = [Others(CAPITALS).like(request("France", f"Rome {i}")) for i in range(10)]
    others = Others(CAPITALS)
    assert [others.like(request("France", f"Rome {i}")) for i in reversed(range(10))] == fresh[::-1]


def test_a_subject_is_never_its_own_other() -> None:
    """Its sentence is passed over; where it is the only one, there is none."""
    assert {p.subject for i in range(40) if (p := Others(CAPITALS).like(request("Peru", f"Rome {i}")))} == {
        "Japan",
        "Bosnia and Herzegovina",
    }
    assert Others(CAPITALS[:1]).like(request("Peru", "Rome")) is None


def test_a_subject_at_the_start() -> None:
    """The words behind it tell where it ends."""
    found = Others(CAPITALS).like(request("Albert Einstein", "poet", template="{}'s occupation is"))
    assert found == Prompt.fill("{}'s occupation is", "Marie Curie")


@pytest.mark.parametrize(
    ("sentences", "template"),
    [
        ((), "The capital of {} is"),
        (CAPITALS, "The anthem of {} is"),
        (CAPITALS, "The capital of {}"),
        (CAPITALS, "The capital of {} was"),
        (("The capital of  is Lima.", "The capital of is"), "The capital of {} is"),
    ],
)
def test_without_a_like_sentence_there_is_no_other(sentences: tuple[str, ...], template: str) -> None:
    """No sentence, other words, no words behind the subject, no subject."""
    assert Others(sentences).like(request("France", "Rome", template=template)) is None


def test_names_are_plain_text() -> None:
    """Braces and signs in a name mean nothing."""
    found = Others(["The capital of {0}.* \\d is Rome."]).like(request("France", "Rome"))
    assert found == Prompt.fill("The capital of {} is", "{0}.* \\d")


def test_a_hash_of_all_sentences() -> None:
    """None without any; another one when any of them, or their order, changes."""
    assert Others().hash is None
    hashes = {Others(s).hash for s in (CAPITALS, CAPITALS[::-1], CAPITALS[:4])}
    assert len(hashes) == 3
    assert Others(CAPITALS).hash == Others(list(CAPITALS)).hash


def test_all_others_of_some_requests() -> None:
    """Those in the words of any of them, each once, in one order; or some from all over them."""
    made = Others(CAPITALS)
    asked = [request("France", "Rome"), request("Peru", "Rome")]
    asked.append(request("Al", "poet", template="{}'s occupation is"))
    found = made.beside(asked, 9)
    assert {prompt.subject for prompt in found} == {"Peru", "Japan", "Bosnia and Herzegovina", "Marie Curie"}
    assert len(found) == 4
    assert made.beside(asked[::-1], 9) == found
    assert made.beside(asked, 2) == [found[0], found[2]]
    assert made.beside([], 9) == Others().beside(asked, 9) == []
