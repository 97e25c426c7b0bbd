"""docs/relations.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from kbsync.request import plan, verbalise, words
from kbsync.request.catalogue import Current, ObjectForm, Relation, load_catalogue

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "relations.md").read_text(encoding="utf-8")


def first_column(heading: str) -> list[str]:
    """The code words in the first column of the table under `heading`."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def test_the_example_loads(tmp_path: Path) -> None:
    """The documented entry is a whole catalogue, and spells out every key that there is."""
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "relations.toml"
    path.write_text(example, encoding="utf-8")
    relation = load_catalogue(path).relation("P169", None)
    assert relation.current is Current.LATEST
    assert relation.model_fields_set == set(Relation.model_fields)


def test_every_key_is_documented() -> None:
    """The table of keys has each key of an entry and no other."""
    assert set(first_column("An entry")) == set(Relation.model_fields) - {"id"}


def test_every_policy_is_documented() -> None:
    """The table of policies has each policy; the page names each object form."""
    assert set(first_column("Which value is current")) == set(Current)
    assert all(f"`{form}`" in PAGE for form in ObjectForm)


def test_every_reason_is_documented() -> None:
    """The table of reasons has each reason under which a fact is held, and no other."""
    reasons = {
        words.NO_LABEL,
        words.CONTROL_CHARACTERS,
        words.STRAY_SPACES,
        words.TOO_LONG,
        words.UNKNOWN_VALUE,
        words.BAD_TIME,
        words.BAD_QUANTITY,
        words.ROUGH_TIME,
        words.UNIT_NOT_KNOWN,
        words.UNIT_WITHOUT_LABEL,
        verbalise.BAD_ID,
        verbalise.OBJECT_EQUALS_SUBJECT,
        verbalise.NO_RELATION_WORDS,
        plan.AMBIGUOUS_SUBJECT,
        plan.SEVERAL_CURRENT_VALUES,
        plan.SAME_WORDS,
        plan.BEYOND_MAX_LIVE,
        plan.MODEL_FULL,
        plan.QUARANTINED,
        plan.LEFT_OUT,
        plan.ROLLED_BACK,
    }
    assert set(first_column("Why a fact is held")) == reasons
