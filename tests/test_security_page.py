"""docs/security.md names tests that exist, for each kind of attacker, and says what is not stopped."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
ATTACKERS = (
    "A vandal of Wikidata",
    "The endpoint, or someone between",
    "Whoever reaches the HTTP port",
    "Whoever can write SQL",
    "A model from a stranger",
    "A config from a stranger",
    "A user of the same machine",
)


def section(title: str) -> str:
    """A section of the page."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("title", ATTACKERS)
def test_every_attacker_has_tests_and_what_is_not_stopped(title: str) -> None:
    """Each promise of a section is followed by its tests, and the section ends with what it does not promise."""
    text = section(title)
    assert text.count("`tests/") >= 2
    assert "**Not stopped**" in text
    promises = re.split(r"^- (?!`)", text, flags=re.MULTILINE)[1:]
    assert all("`tests/" in promise for promise in promises)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_exists(file: str, name: str) -> None:
    """The test that the page names is defined in that file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_nothing_that_looks_like_a_test_is_written_otherwise() -> None:
    """Every mention of a test on the page is one that is checked."""
    assert PAGE.count("`tests/") == len(re.findall(r"`tests/[\w/]+\.py::\w+`", PAGE))


def test_every_attack_is_on_the_page() -> None:
    """Each file of tests/attacks is named."""
    files = {file.name for file in (ROOT / "tests" / "attacks").glob("test_*.py")}
    assert files == {Path(file).name for file, _ in NAMED if "/attacks/" in file}
