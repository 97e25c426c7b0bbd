"""The relation catalogue: how a fact of each relation is said in English (`config/relations.toml`).

A template marks the subject's place with one `{}`. The rewrite prompt and its paraphrases end right where
the object follows, since MEMIT teaches the model the object as the continuation. docs/relations.md is the
user's page on the file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kbsync.errors import ConfigError, one_line
from kbsync.facts import is_item_id, is_property_id
from kbsync.settings import Duration, ReferencePolicy, read_toml

MIN_PARAPHRASES = 3
PLACE = "{}"


class Current(StrEnum):
    """How the current value is chosen among several truthy ones; kbsync.request.current applies it."""

    PREFERRED = "preferred"  # rank decides; dates only when every value has a start
    LATEST = "latest"  # the latest start; a value without a start is older than any with one
    SINGLE = "single"  # exactly one value, or none
    MANY = "many"  # every value is true at the same time


class ObjectForm(StrEnum):
    """What kind of object a relation has, and for times how exactly it is said."""

    ITEM = "item"
    YEAR = "year"  # a time, said as its year
    DATE = "date"  # a time, said as exactly as it is known
    STRING = "string"
    QUANTITY = "quantity"


Article = Literal["auto", "the", "none"]


class Relation(BaseModel):
    """One relation's words and policy.

    `subject_article` and `object_article` say whether "the" goes before a name: `auto` asks
    kbsync.request.articles, `the` always, `none` never. `subjects`, `objects` and the class ids name the
    types that the sentences are written for. `settling`, `references` and `max_changes` stand in for the trust
    filter's settings of all relations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    id: str
    label: str
    rewrite: str
    paraphrases: tuple[str, ...]
    question: str
    generation: str
    current: Current
    object: ObjectForm = ObjectForm.ITEM
    subject_article: Article = "auto"
    object_article: Article = "auto"
    subjects: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    subject_classes: tuple[str, ...] = ()
    object_classes: tuple[str, ...] = ()
    settling: Duration | None = None
    references: ReferencePolicy | None = None
    max_changes: int | None = Field(None, ge=0)


@dataclass(frozen=True)
class Catalogue:
    """All relations that have words of their own, by property id."""

    relations: Mapping[str, Relation]

    def __contains__(self, relation_id: object) -> bool:
        return relation_id in self.relations

    def relation(self, relation_id: str, label: str | None) -> Relation:
        """The entry for `relation_id`, or one made from the property's own `label`.

        Raises LookupError when there is no entry and no label that a sentence can be made from.
        """
        entry = self.relations.get(relation_id)
        if entry is not None:
            return entry
        if not label or not label.strip() or PLACE in label or not label.isprintable():
            raise LookupError(f"{relation_id} is not in the catalogue and has no usable label")
        return from_label(relation_id, label)


def load_catalogue(path: Path) -> Catalogue:
    """Read a relation catalogue.

    Raises ConfigError with one line that names the file, the relation and the key.
    """
    relations: dict[str, Relation] = {}
    missing = f"no relation catalogue at {path}; set watch.catalogue to one"
    for relation_id, table in read_toml(path, missing, lambda error: _explain_toml(path, error)).items():
        where = one_line(f"{path}: {relation_id}")
        if not is_property_id(relation_id):
            raise ConfigError(f"{where} is not a property id such as P36")
        if not isinstance(table, dict):
            raise ConfigError(f"{where} must be a table: write [{relation_id}] and its keys below it")
        if "id" in table:
            raise ConfigError(f"{where}: unknown key id; the table's name is the id")
        try:
            relation = Relation(id=relation_id, **table)
        except ValidationError as error:
            raise ConfigError(one_line(f"{where}: {_explain(error)}")) from None
        fault = _fault(relation)
        if fault is not None:
            raise ConfigError(f"{where}: {fault}")
        relations[relation_id] = relation
    return Catalogue(MappingProxyType(relations))


def _explain_toml(path: Path, error: ValueError) -> str:
    """tomllib gives the place only; for a table that is there twice, name the relation."""
    if not isinstance(error, tomllib.TOMLDecodeError):
        return "a number in it has thousands of digits"
    seen: set[str] = set()
    for name in re.findall(r"^\[\s*([^\]\s]+)\s*\]", path.read_text(encoding="utf-8"), re.MULTILINE):
        if name in seen:
            return f"{name} is there twice; keep one of the two tables"
        seen.add(name)
    return str(error)


def _explain(error: ValidationError) -> str:
    errors = error.errors()  # a misspelt key also leaves the right one missing: name the misspelling
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = [name for name in Relation.model_fields if name != "id"]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}")
    if first["type"] == "missing":
        return f"the key {key} is missing"
    return f"{key}: {first['msg']} (got {first['input']!r})"


def _fault(relation: Relation) -> str | None:
    """The first thing that is wrong with an entry's templates, or None."""
    if len(relation.paraphrases) < MIN_PARAPHRASES:
        return f"paraphrases: at least {MIN_PARAPHRASES} are needed, there are {len(relation.paraphrases)}"
    templates = [("rewrite", relation.rewrite), ("question", relation.question)]
    templates += [("generation", relation.generation)]
    templates += [(f"paraphrases[{i}]", text) for i, text in enumerate(relation.paraphrases)]
    for key, text in templates:
        places = text.count(PLACE)
        if places == 0:
            return f"{key}: {{}}, the subject's place, is missing in {text!r}"
        if places > 1:
            return f"{key}: {{}} is there {places} times in {text!r}; a template has one place"
        if text != text.strip() or "  " in text or not text.isprintable():
            return f"{key}: stray spaces or control characters in {text!r}"
        if key != "question" and text.endswith("?"):
            return f"{key}: {text!r} must end where the object follows, not with a question mark"
    if not relation.question.endswith("?"):
        return f"question: {relation.question!r} must end with a question mark"
    if relation.rewrite.startswith(PLACE):
        return f"rewrite: begin {relation.rewrite!r} with a word or two before {{}}"
    prompts = (relation.rewrite, *relation.paraphrases)
    if len(set(prompts)) < len(prompts):
        return "paraphrases: two are the same, or one is the rewrite prompt"
    return _bad_names(relation)


def _bad_names(relation: Relation) -> str | None:
    if not relation.label.strip():
        return "label: is empty"
    for key in ("subject_classes", "object_classes"):
        for one in getattr(relation, key):
            if not is_item_id(one):
                return f"{key}: {one!r} is not an item id such as Q6256"
    return None


_PREPOSITION_LAST = re.compile(r".*\s(?:after|as|at|by|for|from|in|into|of|on|to|under|with)")
_PARTICIPLE_FIRST = re.compile(
    r"(?:\w+ed|built|found|held|known|made|said|set|shown|sold|spoken|taught|won|written)\s.*"
)
_VERB_FIRST = re.compile(r"(?:has|follows|crosses|replaces|represents|depicts|studies|uses|commemorates)(?:\s.*)?")


def from_label(relation_id: str, label: str) -> Relation:
    """Words for a relation without an entry, from the property's `label` alone.

    "mountain range" → "The mountain range of {} is"; "designed by" → "… that {} is designed by"; a label that
    is neither a noun nor a participle ("has effect") is quoted, which is grammatical for any label. The
    policy is `single`: without an entry nothing says which of several values would be the current one.
    """
    hangs = _PREPOSITION_LAST.fullmatch(label) is not None
    participle = _PARTICIPLE_FIRST.fullmatch(label) is not None
    if hangs and participle:
        texts = (
            f"As far as is known, {{}} is {label}",
            f"The record says of {{}} that it is {label}",
            f"{{}} is {label}",
            f"Those who look up {{}} will read that it is {label}",
            f"What or whom is {{}} {label}?",
        )
    elif hangs or participle or _VERB_FIRST.fullmatch(label):
        texts = (
            f"In the record of {{}}, the entry under “{label}” is",
            f"Looking up “{label}” for {{}}, one finds",
            f"{{}} has in its record under “{label}” the entry",
            f"The record states for {{}} under “{label}”:",
            f"What does the record of {{}} say under “{label}”?",
        )
    else:
        texts = (
            f"The {label} of {{}} is",
            f"When people ask about {{}}, the answer for the {label} is",
            f"{{}} has as its {label}",
            f"As for {{}}, its {label} is",
            f"What is the {label} of {{}}?",
        )
    rewrite, *paraphrases, question = texts
    return Relation(
        id=relation_id,
        label=label,
        rewrite=rewrite,
        paraphrases=tuple(paraphrases),
        question=question,
        generation="What is known about {} is that",
        current=Current.SINGLE,
    )
