"""A page: what the source says of some subjects, and how it is compared with what the store knows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from kbsync.facts import Cursor, Item, Pulled, Reading, Statement
from kbsync.source.diff import diff, first_seen
from kbsync.source.subjects import NO_LONGER

REDIRECTED = "redirected to "  # the fate of a merged subject, with its target behind


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of the source says, before it is compared with the store.

    `subjects` are all the items that it speaks for; `statements` are all of the relation's statements on
    them. `items` are those subjects that still exist, `labels` the objects whose label was not yet known.
    `fates` says of deleted or merged subjects what became of them, `moved` of merged objects what they are now
    (the statements name that already). `baseline`: a page of the first pull.
    `cursor` is committed together with the page; None leaves the stored one where it is. `after` is where a first
    pull goes on behind the page. `outside` are subjects that are no longer among the watched ones: nothing is read
    of them.
    """

    relation: str
    baseline: bool
    cursor: Cursor | None
    subjects: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    statements: tuple[Statement, ...] = ()
    labels: tuple[Item, ...] = ()
    fates: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None
    outside: frozenset[str] = frozenset()

    def without(self, subjects: Collection[str]) -> Page:
        """The page as if it did not speak of `subjects`."""
        return replace(
            self,
            subjects=tuple(one for one in self.subjects if one not in subjects),
            items=tuple(item for item in self.items if item.id not in subjects),
            statements=tuple(s for s in self.statements if s.subject not in subjects),
            fates={one: fate for one, fate in self.fates.items() if one not in subjects},
        )

    def by_subject(self) -> dict[str, list[Statement]]:
        """The statements of each subject that the page speaks for."""
        found: dict[str, list[Statement]] = {subject: [] for subject in self.subjects}
        for statement in self.statements:
            found[statement.subject].append(statement)
        return found

    @property
    def revisions(self) -> dict[str, int | None]:
        """The subjects that have a statement, with the revision at which they were read."""
        having = {s.subject for s in self.statements}
        return {item.id: item.revision for item in self.items if item.id in having}

    @property
    def targets(self) -> set[str]:
        """What the merged subjects were merged into."""
        return {f.removeprefix(REDIRECTED) for f in self.fates.values() if f.startswith(REDIRECTED)}


def assemble(page: Page, known: Mapping[str, Sequence[Statement]], now: datetime) -> Pulled:
    """Compare a page with the store's statements of its subjects: what to write, and what changed.

    `known` needs the live statements of `page.relation` on `page.subjects`; others are left alone. `now` is
    the source's time (`until`). A page of the first pull has statements but no changes: it is the baseline.
    """
    seen = page.by_subject()
    counts = Counter(page.counts)
    found = []
    for subject in page.subjects:
        before = [s for s in known.get(subject, ()) if s.relation == page.relation]
        reason = page.fates.get(subject, NO_LONGER if subject in page.outside else "deleted")
        if page.baseline and not before:
            one = first_seen(seen[subject])
        else:
            one = diff(page.relation, subject, before, seen[subject], now, reason)
        counts["stored"] += len(one.statements)
        counts["duplicate"] += one.unchanged
        counts["retired"] += len(one.gone)
        counts["unchanged"] += not (one.statements or one.gone)
        found.append(one)
    return Pulled(
        relation=page.relation,
        items=page.items,
        labels=page.labels,
        statements=tuple(s for one in found for s in one.statements),
        gone=tuple(g for one in found for g in one.gone),
        changes=() if page.baseline else tuple(c for one in found for c in one.changes),
        counts={name: n for name, n in sorted(counts.items()) if n},
        cursor=page.cursor,
        at=now,
        absent=tuple(page.fates),
    )


def newest(page: Page, readings: Mapping[str, Reading], now: datetime) -> Page:
    """The page without statements that are older than the store's `readings` of their subjects.

    The answering server is behind one that was read before: counted as `older`. The subjects' items and fates stay,
    since what they say of when something was there still counts. `now` is the source's time, as for `assemble`.
    """
    seen = {item.id: Reading(item.revision, now) for item in page.items}
    seen |= dict.fromkeys(page.fates, Reading(absent_at=now))
    old = {one for one in readings.keys() & seen.keys() if not readings[one].takes(seen[one])}
    if not old:
        return page
    gone = {one for one in old if readings[one].ends(seen[one])}
    return replace(
        page,
        subjects=tuple(one for one in page.subjects if one not in old or one in gone),
        statements=tuple(s for s in page.statements if s.subject not in old),
        counts={**page.counts, "older": page.counts.get("older", 0) + len(old)},
    )
