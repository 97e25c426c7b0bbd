"""Points drawn with plain characters."""

from __future__ import annotations

from kbsync.cli.scatter import scatter


def test_marks_lie_where_they_belong() -> None:
    """The least x is left and the greatest right, the greatest y on top, and the axes say which these are."""
    drawn = scatter([(1.0, 0.5, "o"), (1.1, 0.9, "x"), (1.05, 0.7, "#")], "across", "up").splitlines()
    assert drawn[0] == "up"
    assert drawn[1] == "0.900 |" + " " * 55 + "x"
    assert drawn[13] == "0.500 |o"
    assert "#" in drawn[7]
    assert drawn[-2].split() == ["1.000", "1.100"]
    assert drawn[-1].strip() == "across"
    assert "".join(drawn).isascii()


def test_a_later_mark_hides_an_earlier_one() -> None:
    """Of two at the same place the last is seen."""
    drawn = scatter([(1.0, 0.5, "o"), (2.0, 0.6, "o"), (1.0, 0.5, "#")], "x", "y")
    assert drawn.count("o") == 1
    assert drawn.count("#") == 1


def test_one_point_and_none() -> None:
    """A point alone lies in the middle; without any there is nothing to draw."""
    assert scatter([(1.0, 0.5, "#")], "x", "y").splitlines()[7].index("#") in (34, 35)
    assert scatter([], "x", "y") == ""
