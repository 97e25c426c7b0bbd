"""The two pulls of one relation: all of it once, then what changed since, page by page.

A page carries ALL statements of the relation on its subjects, so that a statement missing from it is gone.
The tail reads, in this order:

1. the subjects edited in the window [cursor - overlap, until), in the order of (time, item);
2. the tracked subjects whose revision moved without showing in the window, and those that have no statement
   of the relation any more: their last value was deleted, or they were deleted or merged. No "modified since"
   query can show these;
3. what merged subjects were merged into.

`until` is the endpoint's own lag time, never this machine's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from kbsync.errors import BadAnswer
from kbsync.facts import Cursor, Item, Pulled, Reading, Statement, Subjects, Value, ValueKind
from kbsync.settings import SourceSettings
from kbsync.source import parse, queries
from kbsync.source.client import TOO_LARGE, Row, SparqlClient
from kbsync.source.diff import diff, first_seen
from kbsync.source.paging import CHUNK, chunks, select_chunks, select_page
from kbsync.source.picking import Picked, pick
from kbsync.source.subjects import NO_LONGER, members, pattern_of

ASK_EACH = CHUNK  # up to so many subjects their revisions are asked for at once, not their sum first
LOSS_FLOOR = 20  # more than this and than `source.max_shrink` gone at once is an endpoint's fault
LOSS_OF_ALL = 5  # and so is the loss of all, when there were at least as many
ALL = Subjects()
_HOPS = 5  # redirects of redirects that are followed; Wikidata's bots resolve them within days
_REDIRECTED = "redirected to "


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
        return {f.removeprefix(_REDIRECTED) for f in self.fates.values() if f.startswith(_REDIRECTED)}


def window_end(client: SparqlClient, relation: str, cursor: Cursor | None = None) -> datetime | None:
    """The time up to which the endpoint can be read: its lag triple, the earliest if there are several.

    Without one, a second past the newest edit of an item of `relation`, but not before `cursor`, since the
    newest item may be the one that was deleted; None when there is neither.
    """
    lags = _times(client.select(queries.lag()))
    if lags:
        return min(lags)
    newest = [at + timedelta(seconds=1) for at in _times(client.select(queries.newest(relation)))]
    return max(newest + ([cursor.modified] if cursor is not None else []), default=None)


def _times(rows: Sequence[Row]) -> list[datetime]:
    return [at for row in rows if (at := parse.moment(row.get("modified"))) is not None]


def first_pull(
    client: SparqlClient,
    relation: str,
    until: datetime | None,
    settings: SourceSettings,
    *,
    known_labels: Container[str] = (),
    subjects: Subjects = ALL,
    after: str = "",
) -> Iterator[Page]:
    """All statements of `relation`, in pages of `settings.page_size` subjects, from the one behind `after` on.

    Each page says where to go on behind it (`after`); only the last one, which has none, carries a cursor, `until`
    (from `window_end`, asked before the first query). What is edited behind the pages is the tail's.
    """
    reader = Reader(client, relation, settings, known_labels, baseline=True, subjects=subjects)
    yield from everything(reader, after)
    yield Page(relation, True, Cursor(until, "") if until is not None else None)


def everything(reader: Reader, after: str = "") -> Iterator[Page]:
    """All statements of the relation on the watched subjects from the one behind `after` on, in the order of their
    IRIs; of a list also what there is of subjects that have none."""
    most = min(reader.settings.page_size, CHUNK)
    if reader.subjects.ids is not None:
        left = sorted(one for one in reader.subjects.ids if queries.ENTITY + one > after)
        for ids in chunks(left, most):
            yield replace(reader.read(ids, None), after=queries.ENTITY + ids[-1])
        return
    for page in pick(reader.client, reader.relation, reader.subjects, reader.settings, most, after):
        yield replace(reader.read_picked(page), after=page.after)


def tail(
    client: SparqlClient,
    relation: str,
    cursor: Cursor,
    until: datetime | None,
    known_versions: Mapping[str, int | None],
    settings: SourceSettings,
    *,
    known_labels: Container[str] = (),
    subjects: Subjects = ALL,
    reach: str | None = None,
) -> Iterator[Page]:
    """What changed in `relation` since `cursor`, up to `until` (from `window_end`).

    While the first pull is under way `reach` is how far it has come: subjects behind that IRI which are not tracked
    are left to it.

    `known_versions` maps each subject with a stored statement of `relation` to the revision at which its
    statements OF THIS RELATION were last read. Nothing is yielded when `until` lies before the cursor: the
    answering server is behind one that was read before. Raises BadAnswer when the endpoint has lost so many
    of the tracked subjects that it must be broken.
    """
    if until is not None and until < cursor.modified:
        return
    reader = Reader(
        client, relation, settings, known_labels, subjects=subjects, tracked=known_versions.keys(), reach=reach
    )
    read: set[str] = set()
    told: dict[str, int | None] = {}
    if until is not None:
        for items, at in _window(client, relation, cursor, until, settings):
            page = reader.read(items, at)
            read.update(items)
            told |= page.revisions
            yield page
    left = {one: version for one, version in known_versions.items() if one not in read}
    if reach is None and _nothing_moved(client, relation, subjects, left, told):
        stale, lost = set[str](), set[str]()
    else:
        stale, lost = _moved(client, relation, left)
    if too_many(len(lost), len(known_versions), settings.max_shrink):
        raise BadAnswer(
            f"{client.settings.endpoint} has lost {len(lost)} of {len(known_versions)} known subjects of "
            f"{relation}; nothing was retired: check that it has loaded all its data"
        )
    yield from reader.read_all(sorted(stale | lost), read)
    counts = {"unchanged": len(left.keys() - stale - lost)}
    yield Page(relation, False, Cursor(until, "") if until is not None else None, counts=counts)


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
        moved |= {one: f.removeprefix(_REDIRECTED) for one, f in fates.items() if f.startswith(_REDIRECTED)}
        statements = tuple(_with_object(s, moved) for s in parsed.statements)
        counts = parsed.counts
        counts["redirected"] += sum(fate.startswith(_REDIRECTED) for fate in fates.values())
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
        return {one: _REDIRECTED + targets[one] if one in targets else "item deleted" for one in missing}

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


def _window(
    client: SparqlClient, relation: str, cursor: Cursor, until: datetime, settings: SourceSettings
) -> Iterator[tuple[list[str], Cursor]]:
    """Pages of the subjects edited in the window, each with the cursor that it brings."""
    since = (cursor.modified, queries.ENTITY + cursor.item if cursor.item else "")
    if settings.overlap_s:
        earliest = datetime(1, 1, 2, tzinfo=UTC)
        overlap = min(timedelta(seconds=settings.overlap_s), cursor.modified - earliest)
        since = (cursor.modified - overlap, "")
    while True:
        rows, size = select_page(client, settings.page_size, partial(queries.changed, relation, since, until))
        keys = [
            (modified, row["item"].value)
            for row in rows
            if "item" in row and (modified := parse.moment(row.get("modified"))) is not None
        ]
        if keys:
            since = max(keys)
            found = {one for row in rows if (one := parse.entity_id(row.get("item"))) and one.startswith("Q")}
            last = max(Cursor(since[0], ""), cursor)
            item = since[1].removeprefix(queries.ENTITY)
            if item in found and last.modified == since[0]:
                last = max(Cursor(since[0], item), cursor)
            yield sorted(found), last
        if len(rows) < size:
            return


def _nothing_moved(
    client: SparqlClient,
    relation: str,
    subjects: Subjects,
    left: Mapping[str, int | None],
    told: Mapping[str, int | None],
) -> bool:
    """Whether the endpoint has just the subjects `left`, which were not read, and `told`, which were, at these
    revisions, as far as their number and the sum of their revisions say.

    Revisions only grow and no two items share one, so what moved shows in the sums, but for a coincidence (some
    gone, as many come late, with equal sums), which the next reconcile finds. False also when it isn't worth the
    question, or the endpoint has no time for it.
    """
    if len(left) <= ASK_EACH or subjects.ids is not None:
        return False
    try:
        rows = client.select(queries.totals(relation, pattern_of(subjects)), can_shrink=True)
    except TOO_LARGE:
        return False
    known = {**left, **told}
    totals = [(parse.integer(row.get("subjects")), parse.integer(row.get("versions"))) for row in rows]
    return totals == [(len(known), sum(version or 0 for version in known.values()))]


def _moved(client: SparqlClient, relation: str, left: Mapping[str, int | None]) -> tuple[set[str], set[str]]:
    """Of the tracked subjects that were not read: those at another revision, and those without a statement."""
    stale: set[str] = set()
    lost: set[str] = set()
    for chunk, rows in select_chunks(client, sorted(left), CHUNK, lambda ids: queries.versions(relation, ids)):
        seen: dict[str, int | None] = {}
        for row in rows:
            if (item := parse.entity_id(row.get("item"))) is not None:
                seen[item] = parse.integer(row.get("version"))
        lost.update(one for one in chunk if one not in seen)
        stale.update(one for one, version in seen.items() if version != left.get(one))
    return stale, lost


def too_many(gone: int, known: int, share: float) -> bool:
    """Whether so many of `known` are gone at once that the endpoint must be broken; `share` 1 believes anything."""
    return share < 1 and (gone > max(LOSS_FLOOR, share * known) or gone == known >= LOSS_OF_ALL)
