"""How the store's statements of one subject differ from the source's, each difference under one name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kbsync.facts import Divergence, DivergenceKind, Item, Statement
from kbsync.source.diff import truthy

_GONE_WITH_ITS_ITEM = ("item deleted", "redirected to ")


def divergences(
    subject: str,
    known: Sequence[Statement],
    seen: Sequence[Statement],
    *,
    fate: str | None = None,
    past: Mapping[str, str] | None = None,
    moved: Mapping[str, str] | None = None,
) -> list[Divergence]:
    """What differs between the live statements in the store (`known`) and all at the source (`seen`).

    `fate` says what became of a subject that the source no longer has, `past` maps the store's retired statements
    of it to why they were, `moved` merged objects to what they are now. A statement is named once, under the first
    of value, rank and qualifiers that differs; an item that came or went as a whole is named once, too.
    """
    if fate is not None:
        return [_departed(subject, fate, len(known))] if known else []
    past, moved = past or {}, moved or {}
    before, after = {s.id: s for s in known}, {s.id: s for s in seen}
    found = [
        Divergence(DivergenceKind.DELETED_STATEMENT, subject, key, before[key].value.text)
        for key in sorted(before.keys() - after.keys())
    ]
    new = sorted(after.keys() - before.keys())
    if new and not before and any(reason.startswith(_GONE_WITH_ITS_ITEM) for reason in past.values()):
        found.append(Divergence(DivergenceKind.UNDELETED_ITEM, subject, found=f"{len(new)} statements"))
    elif new and not before and not past:
        found.append(Divergence(DivergenceKind.LATE_ITEM, subject, found=f"{len(new)} statements"))
    else:
        for key in new:
            kind = DivergenceKind.RETURNED_STATEMENT if key in past else DivergenceKind.LATE_STATEMENT
            found.append(Divergence(kind, subject, key, found=after[key].value.text))
    for key in sorted(before.keys() & after.keys()):
        found.extend(_changed(before[key], after[key], moved))
    return found


def label_divergences(items: Iterable[Item], known: Mapping[str, str | None]) -> list[Divergence]:
    """Labels that the source has otherwise than the store. Items that either of them lacks have none."""
    return [
        Divergence(DivergenceKind.LABEL, item.id, was=known[item.id], found=item.label)
        for item in items
        if item.id in known
        and known[item.id] != item.label
        and (item.label is not None or item.revision is not None or item.modified is not None)
    ]


def loses(known: Sequence[Statement], seen: Sequence[Statement]) -> bool:
    """Whether the store would lose a statement or a fact if it followed the source."""
    return bool({s.id for s in known} - {s.id for s in seen} or truthy(known).keys() - truthy(seen).keys())


def _departed(subject: str, fate: str, statements: int) -> Divergence:
    merged = fate.startswith("redirected to ")
    kind = DivergenceKind.MERGED_SUBJECT if merged else DivergenceKind.DELETED_ITEM
    target = fate.removeprefix("redirected to ") if merged else None
    return Divergence(kind, subject, was=f"{statements} statements", found=target)


def _changed(before: Statement, after: Statement, moved: Mapping[str, str]) -> Iterator[Divergence]:
    if before.value != after.value:
        merged = moved.get(before.value.text) == after.value.text
        kind = DivergenceKind.MERGED_OBJECT if merged else DivergenceKind.REPLACED_VALUE
        yield Divergence(kind, before.subject, before.id, before.value.text, after.value.text)
    elif (before.rank, before.best) != (after.rank, after.best):
        yield Divergence(DivergenceKind.RANK, before.subject, before.id, _rank(before), _rank(after))
    elif before != after:
        yield Divergence(DivergenceKind.QUALIFIERS, before.subject, before.id, _times(before), _times(after))


def _rank(statement: Statement) -> str:
    return f"{statement.rank}{', best' if statement.best else ''}"


def _times(statement: Statement) -> str:
    return " to ".join(time.isoformat() if time is not None else "…" for time in (statement.start, statement.end))
