"""A fact in words: its edit request, or the named reason why it is held."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from kbsync.facts import EditRequest, Fact, Held, Prompt, Value, ValueKind, is_entity_id
from kbsync.request.articles import takes_article
from kbsync.request.catalogue import PLACE, Catalogue, Relation
from kbsync.request.words import NO_LABEL, label_fault, object_text

BAD_ID = "not a Wikidata id"
OBJECT_EQUALS_SUBJECT = "object equals subject"
NO_RELATION_WORDS = "relation has no label"

Labels = Mapping[str, str | None]


def fold(name: str) -> str:
    """The form under which two names count as the same words: compatibility-normalised and case-folded."""
    return unicodedata.normalize("NFKC", name).casefold()


def value_text(value: Value, labels: Labels, relation: Relation) -> tuple[str | None, str | None]:
    """(how `value` reads after the prompt, None), or (None, the reason why it can't be said)."""
    if value.kind is ValueKind.ITEM:
        if not is_entity_id(value.text):
            return None, BAD_ID
        return object_text(value, own_label(value.text, labels), relation)
    unit = next(iter(value.entities), None)
    return object_text(value, own_label(unit, labels) if unit is not None else None, relation)


def own_label(entity: str, labels: Labels) -> str | None:
    """The label of `entity`. An id that a service gives in place of a label is no label."""
    label = labels.get(entity)
    return None if label == entity else label


def place(template: str, name: str, relation: Relation) -> Prompt:
    """Put the subject's `name` at the `{}` of one of `relation`'s templates.

    The article belongs to the sentence: the prompt's span covers the name alone. At the start of a sentence
    the article, or a name in small letters, is capitalised.
    """
    head, _, tail = template.partition(PLACE)
    begins = head == "" or head.rstrip().endswith((".", "!", "?"))
    if takes_article(name, relation.subject_article):
        head += "The " if begins else "the "
    elif begins:
        name = _capitalised(name)
    return Prompt.fill(head + PLACE + tail, name)


def _capitalised(name: str) -> str:
    """`name` with a capital when its first word is an ordinary small-letter word ("eBay" stays eBay)."""
    first = name.split(maxsplit=1)[0]
    upper = name[0].upper()
    if first.isalpha() and first.islower() and len(upper) == 1:
        return upper + name[1:]
    return name


def verbalise(
    fact: Fact, labels: Labels, catalogue: Catalogue, previous: Value | None = None
) -> EditRequest | Held:
    """The edit request for `fact`, without neighborhood prompts, or Held with the reason.

    `labels` maps ids of subjects, objects and relations to labels; `previous` is the object before this one.
    `target_old` is None where there was none, where it can't be said, or where it reads the same.
    """
    if not (is_entity_id(fact.subject) and is_entity_id(fact.relation)):
        return Held(fact, BAD_ID)
    try:
        relation = catalogue.relation(fact.relation, own_label(fact.relation, labels))
    except LookupError:
        return Held(fact, NO_RELATION_WORDS)
    subject = own_label(fact.subject, labels)
    fault = label_fault(subject)
    if fault is not None or subject is None:
        return Held(fact, fault or NO_LABEL)
    new, fault = value_text(fact.value, labels, relation)
    if new is None:
        return Held(fact, fault or NO_LABEL)
    if fold(subject) in (fold(new), fold(new.removeprefix("the "))):
        return Held(fact, OBJECT_EQUALS_SUBJECT)
    old = value_text(previous, labels, relation)[0] if previous is not None else None
    return EditRequest(
        fact=fact,
        subject_label=subject,
        relation_label=relation.label,
        target_new=new,
        target_old=old if old is not None and fold(old) != fold(new) else None,
        rewrite=place(relation.rewrite, subject, relation),
        question=place(relation.question, subject, relation),
        generation=place(relation.generation, subject, relation),
        paraphrases=tuple(place(template, subject, relation) for template in relation.paraphrases),
    )


def sentence(fact: Fact, labels: Labels, catalogue: Catalogue) -> str | None:
    """`fact` as one plain sentence ("The capital of Japan is Tokyo."), or None when it can't be said."""
    request = verbalise(fact, labels, catalogue)
    if isinstance(request, Held):
        return None
    return f"{request.rewrite.text} {request.target_new}."
