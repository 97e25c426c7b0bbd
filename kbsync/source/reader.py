"""Reads what the source says of chosen items: their statements of one relation, labels, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace

from kbsync.facts import Cursor, Item, Statement, Subjects, Value, ValueKind
from kbsync.settings import SourceSettings
from kbsync.source import parse, queries
from kbsync.source.client import SparqlClient
from kbsync.source.page import REDIRECTED, Page
from kbsync.source.paging import CHUNK, chunks, select_chunks
from kbsync.source.picking import Picked
from kbsync.source.subjects import members

ALL = Subjects()
_HOPS = 5  # redirects of redirects that are followed; Wikidata's bots resolve them within days


def read_items(
    client: SparqlClient,
    relation: str,
    items: Sequence[str],
    settings: SourceSettings,
    *,
    known_labels: Container[str] = (),
    subjects: Subjects = ALL,
) -> Page:
    """All statements of `relation` on chosen items, whether or not they have any, as a page without a cursor."""
    return Reader(client, relation, settings, known_labels, subjects=subjects).read(items, None)


def fetch_labels(client: SparqlClient, ids: Sequence[str], language: str) -> dict[str, Item]:
    """Label, revision and time of each of `ids` (items or properties), asked in VALUES chunks.

    An id that the source does not have comes back with nothing but itself.
    """
    items: dict[str, Item] = {}
    for _, rows in select_chunks(client, ids, CHUNK, lambda chunk: queries.labels(chunk, language)):
        items |= parse.named(rows, language)
    return {one: items.get(one, Item(one, None, None, None, None)) for one in ids}


class Reader:
    """Reads the statements of chosen subjects and makes pages of them; remembers the labels it has given.

    Of those that are not among the watched `subjects` a page only says so, and only where they are `tracked` (None:
    all are). What is neither tracked nor behind `reach` is left out.
    """

    def __init__(
        self,
        client: SparqlClient,
        relation: str,
        settings: SourceSettings,
        known_labels: Container[str],
        *,
        baseline: bool = False,
        subjects: Subjects = ALL,
        tracked: Container[str] | None = None,
        reach: str | None = None,
    ) -> None:
        self.client, self.relation, self.settings = client, relation, settings
        self.subjects, self.tracked, self.reach = subjects, tracked, reach
        self.known_labels, self.baseline = known_labels, baseline
        self.given: set[str] = set()

    def read(self, items: Sequence[str], cursor: Cursor | None) -> Page:
        """All statements of `items`, which may turn out to have none."""
        counts: Counter[str] = Counter()
        inside, outside = self._split(items, counts)
        parsed = self._statements(inside)
        parsed.counts += counts
        page = self.page(parsed, [*inside, *outside], cursor)
        return replace(page, outside=frozenset(outside - page.fates.keys())) if outside else page

    def read_picked(self, picked: Picked) -> Page:
        """All statements of subjects that are known to have some; one that has lost them meanwhile is left out."""
        parsed = self._statements(picked.items)
        if picked.others:
            parsed.counts["filtered: subject is not an item"] += picked.others
        return self.page(parsed, (), None)

    def _statements(self, items: Sequence[str]) -> parse.Parsed:
        parsed = parse.Parsed()
        of = self.relation
        for _, rows in select_chunks(self.client, items, CHUNK, lambda ids: queries.statements_of(of, ids)):
            part = parse.statements(of, rows, self.settings.language)
            parsed.versions |= part.versions
            parsed.statements += part.statements
            parsed.counts += part.counts
        return parsed

    def _split(self, items: Sequence[str], counts: Counter[str]) -> tuple[Sequence[str], set[str]]:
        """Those of `items` to read, and those of which to say that they are no longer watched."""
        tracked = self.tracked
        if self.reach is not None and tracked is not None:
            ahead = {one for one in items if one not in tracked and queries.ENTITY + one > self.reach}
            counts["left to the first pull"] += len(ahead)
            items = [one for one in items if one not in ahead]
        if self.subjects.everything:
            return items, set()
        inside = members(self.client, self.subjects, items)
        outside = {one for one in items if one not in inside}
        told = outside if tracked is None else {one for one in outside if one in tracked}
        counts["filtered: not among the watched subjects"] += len(outside) - len(told)
        return [one for one in items if one in inside], told

    def read_all(self, subjects: Sequence[str], already: Collection[str] = ()) -> Iterator[Page]:
        """Pages without a cursor of all statements of `subjects`, whatever became of them, and then of what they
        were merged into, but for items that were read `already`."""
        size = min(self.settings.page_size, CHUNK)
        targets: set[str] = set()
        for chunk in chunks(subjects, size):
            page = self.read(chunk, None)
            targets |= page.targets
            yield page
        for chunk in chunks(sorted(targets.difference(already, subjects)), size):
            yield self.read(chunk, None)

    def page(self, parsed: parse.Parsed, asked: Sequence[str], cursor: Cursor | None) -> Page:
        """Add labels, revisions and fates to parsed statements; `asked` are subjects that may have none."""
        subjects = sorted({*parsed.versions, *asked})
        objects = {one for s in parsed.statements for one in s.value.entities} - {*subjects}
        wanted = sorted(one for one in objects if one not in self.given and one not in self.known_labels)
        named = fetch_labels(self.client, [*subjects, *wanted], self.settings.language)
        moved = self._moved_objects([one for one in wanted if _is_nothing(named[one])], named)
        self.given.update(set(wanted) - moved.keys())  # where those went to, the next page asks again
        items = {one: self._item(named[one], parsed) for one in subjects}
        missing = [one for one in subjects if items[one].revision is None and items[one].modified is None]
        missing = [one for one in missing if one not in parsed.versions]
        fates = self._fates(missing)
        moved |= {one: f.removeprefix(REDIRECTED) for one, f in fates.items() if f.startswith(REDIRECTED)}
        statements = tuple(_with_object(s, moved) for s in parsed.statements)
        counts = parsed.counts
        counts["redirected"] += sum(fate.startswith(REDIRECTED) for fate in fates.values())
        counts["object redirected"] += sum(a is not b for a, b in zip(statements, parsed.statements, strict=True))
        return Page(
            relation=self.relation,
            baseline=self.baseline,
            cursor=cursor,
            subjects=tuple(subjects),
            items=tuple(items[one] for one in subjects if one not in fates),
            statements=statements,
            labels=tuple(named[one] for one in sorted({*wanted, *moved.values()} & named.keys() - moved.keys())),
            fates=fates,
            counts=dict(counts),
            moved=moved,
        )

    def _moved_objects(self, missing: Sequence[str], named: dict[str, Item]) -> dict[str, str]:
        """What objects of which the source has nothing were merged into. `named` gets the labels of those."""
        targets: dict[str, str] = {}
        asked = list(missing)
        for _ in range(_HOPS):
            found = self._redirects(asked)
            targets |= found
            named |= fetch_labels(self.client, sorted({*found.values()} - named.keys()), self.settings.language)
            asked = sorted({one for one in found.values() if _is_nothing(named[one])} - targets.keys())
        return {one: _end_of(one, targets) for one in missing if one in targets}

    def _item(self, item: Item, parsed: parse.Parsed) -> Item:
        """The subject with the revision that stood beside its statements; the label query may be past it."""
        revision, modified = parsed.versions.get(item.id, (item.revision, item.modified))
        return Item(item.id, item.label, item.language, revision, modified)

    def _fates(self, missing: Sequence[str]) -> dict[str, str]:
        """What became of items that the source has nothing about."""
        targets = self._redirects(missing)
        return {one: REDIRECTED + targets[one] if one in targets else "item deleted" for one in missing}

    def _redirects(self, items: Sequence[str]) -> dict[str, str]:
        """Those of `items` that are `owl:sameAs` another, and which."""
        targets: dict[str, str] = {}
        for _, rows in select_chunks(self.client, items, CHUNK, queries.redirects):
            for row in rows:
                item, target = parse.entity_id(row.get("item")), parse.entity_id(row.get("target"))
                if item is not None and target is not None and target != item:
                    targets[item] = min(target, targets.get(item, target))
        return targets


def _is_nothing(item: Item) -> bool:
    """Whether the source says nothing of the item: it was deleted or merged, if it ever was there."""
    return item.label is None and item.revision is None and item.modified is None


def _end_of(item: str, targets: Mapping[str, str]) -> str:
    """Where the redirects that begin at `item` lead; a circle is left after one round."""
    seen: set[str] = set()
    while item in targets and item not in seen:
        seen.add(item)
        item = targets[item]
    return item


def _with_object(statement: Statement, moved: Mapping[str, str]) -> Statement:
    """The statement about what its object was merged into; the very same one where it was not."""
    if statement.value.kind is not ValueKind.ITEM or statement.value.text not in moved:
        return statement
    return replace(statement, value=Value(ValueKind.ITEM, moved[statement.value.text]))
