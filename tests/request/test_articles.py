"""Articles: which names are said with "the"."""

from __future__ import annotations

import pytest

from kbsync.request.articles import takes_article, wants_article


@pytest.mark.parametrize(
    "name",
    [
        "Netherlands",
        "Kingdom of the Netherlands",
        "United States",
        "United States of America",
        "Philippines",
        "United Kingdom",
        "Solomon Islands",
        "Central African Republic",
        "Democratic Republic of the Congo",
        "People's Republic of China",
        "People’s Republic of China",
        "Soviet Union",
        "Ottoman Empire",
        "University of Oxford",
        "Labour Party",
        "Premier League",
        "Beatles",
        "BBC",
        "Chicago Bulls",
        "Boston Red Sox",
        "Royal Air Force",
        "England national football team",
        "Mississippi River",
        "Academy Award for Best Actor",
        "Nobel Prize in Physics",
    ],
)
def test_names_that_want_an_article(name: str) -> None:
    """Countries with plural or descriptive names, bodies, rivers and North American teams take "the"."""
    assert wants_article(name)


@pytest.mark.parametrize(
    "name",
    [
        "France",
        "Japan",
        "Tokyo",
        "Marie Curie",
        "The Beatles",
        "the Gambia",
        "La Liga",
        "Epic Games",
        "Western Union",
        "Oxford University Press",
        "Party",
        "Union, New Jersey",
        "A.F.C. Bournemouth",
        "Manchester United F.C.",
        "Indiana Jones",
        "Texas Instruments",
        "Harvard University",
        "NASA",
        "us",
        "un",
        "House of Cards",
        "",
        " ",
    ],
)
def test_names_that_stand_alone(name: str) -> None:
    """People, cities, clubs, acronyms said as words, and names that bring their article take none."""
    assert not wants_article(name)


def test_policies() -> None:
    """`the` puts one before any name but never a second one; `none` forbids it; `auto` asks the name."""
    assert takes_article("euro", "the")
    assert not takes_article("The Hague", "the")
    assert not takes_article("Netherlands", "none")
    assert takes_article("Netherlands", "auto")
    assert not takes_article("Japan", "auto")
