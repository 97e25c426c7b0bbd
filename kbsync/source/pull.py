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

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from kbsync.errors import BadAnswer
from kbsync.facts import Cursor, Subjects
from kbsync.settings import SourceSettings
from kbsync.source import parse, queries
from kbsync.source.client import TOO_LARGE, Row, SparqlClient
from kbsync.source.page import Page
from kbsync.source.paging import CHUNK, chunks, select_chunks, select_page
from kbsync.source.picking import pick
from kbsync.source.reader import ALL, Reader
from kbsync.source.subjects import pattern_of

ASK_EACH = CHUNK  # up to so many subjects their revisions are asked for at once, not their sum first
LOSS_FLOOR = 20  # more than this and than `source.max_shrink` gone at once is an endpoint's fault
LOSS_OF_ALL = 5  # and so is the loss of all, when there were at least as many


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
        if len(rows) >= size and (not keys or max(keys) <= since):
            raise BadAnswer(f"{settings.endpoint} gives a page of {relation} that does not go on after {since[0]}")
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
