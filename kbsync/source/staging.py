"""Where a dump's triples wait until the last one is read: a scratch SQLite file, not the store.

A dump tells a statement's value, rank and end in separate triples, in no promised order, and an object's label
anywhere. So they are written down as they come, put in order by SQLite, which needs little memory for it, and
read back as pages of whole subjects in the shape of a SPARQL answer. Each batch commits with the place in the
dump where it ended: a load that was killed goes on there.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kbsync.errors import StoreError
from kbsync.facts import Item, Subjects, truthy_id
from kbsync.source import parse, triples
from kbsync.source.client import Row, Term, TermKind
from kbsync.source.dump import Batch, Position, Wanted
from kbsync.source.queries import ENTITY, STATEMENT, WIKIBASE
from kbsync.source.triples import NORMAL, Stored

_TERM = "kind TEXT, value TEXT, datatype TEXT, language TEXT"
_TABLES = {
    "truthy": f"relation TEXT, subject TEXT, {_TERM}",
    "said": "relation TEXT, subject TEXT, statement TEXT",
    "object": f"relation TEXT, statement TEXT, {_TERM}",
    "node": "relation TEXT, statement TEXT, node TEXT",
    "detail": f"node TEXT, {_TERM}",
    "rank": "statement TEXT, rank TEXT",
    "span": f"which TEXT, statement TEXT, {_TERM}",
    "label": "item TEXT, text TEXT, language TEXT",
    "version": "item TEXT, revision TEXT",
    "kind": "relation TEXT, item TEXT, class TEXT",
}
_INDEXES = {
    "truthy": "relation, subject",
    "said": "relation, subject",
    "object": "statement",
    "node": "statement",
    "detail": "node",
    "rank": "statement",
    "span": "statement",
    "kind": "relation, class",
}
_IS_ENTITY = f"kind = 'uri' AND substr(value, 1, {len(ENTITY)}) = '{ENTITY}'"
_IN_ORDER = f"""
DROP TABLE IF EXISTS want; DROP TABLE IF EXISTS named; DROP TABLE IF EXISTS revision;
CREATE TABLE want (item TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT OR IGNORE INTO want SELECT subject FROM truthy;
INSERT OR IGNORE INTO want SELECT subject FROM said;
INSERT OR IGNORE INTO want SELECT substr(value, {len(ENTITY) + 1}) FROM truthy WHERE {_IS_ENTITY};
INSERT OR IGNORE INTO want SELECT substr(value, {len(ENTITY) + 1}) FROM object WHERE {_IS_ENTITY};
INSERT OR IGNORE INTO want SELECT substr(value, {len(ENTITY) + 1}) FROM detail WHERE {_IS_ENTITY};
INSERT OR IGNORE INTO want SELECT relation FROM (SELECT value AS relation FROM meta WHERE key LIKE 'watched %');
CREATE TABLE named AS SELECT label.* FROM label JOIN want USING (item);
CREATE TABLE revision AS SELECT version.* FROM version JOIN want USING (item);
CREATE INDEX named_item ON named (item);
CREATE INDEX revision_item ON revision (item);
"""  # noqa: S608 -- our own text
_EDGES = f"""
SELECT item, class FROM kind WHERE relation = :edge
UNION ALL SELECT subject, substr(value, {len(ENTITY) + 1}) FROM truthy WHERE relation = :edge AND {_IS_ENTITY}"""  # noqa: S608 -- our own text
_BELOW = """
INSERT OR IGNORE INTO below SELECT edges.item FROM ({edges}) AS edges JOIN below ON below.class = edges.class"""
_OTHERS = """
DELETE FROM {table} WHERE relation = :relation AND subject NOT IN (
    SELECT edges.item FROM ({edges}) AS edges JOIN below ON below.class = edges.class
)"""
_OF_OBJECTS = """
SELECT DISTINCT said.subject, said.statement, object.kind, object.value, object.datatype, object.language
FROM said LEFT JOIN object ON object.statement = said.statement AND object.relation = said.relation"""
_OF_RANKS = """
SELECT said.subject, said.statement, rank.rank FROM said JOIN rank ON rank.statement = said.statement"""
_OF_SPANS = """
SELECT DISTINCT said.subject, said.statement, span.which, span.kind, span.value, span.datatype, span.language
FROM said JOIN span ON span.statement = said.statement"""
_OF_DETAILS = """
SELECT DISTINCT said.subject, said.statement, 'detail', detail.kind, detail.value, detail.datatype, detail.language
FROM said JOIN node ON node.statement = said.statement AND node.relation = said.relation
JOIN detail ON detail.node = node.node"""
_CHUNK = 500  # ids of one IN


@dataclass(frozen=True, slots=True)
class StagedPage:
    """All that the dump says of the next subjects of one relation, as rows of a SPARQL answer."""

    subjects: tuple[str, ...]
    rows: list[Row]


class Staging:
    """The scratch file of one dump, some relations with their filters and one label language; others begin anew.

    Lists and classes choose subjects here; a pattern can't be evaluated over a dump.

    Raises StoreError when the file can't be written, as when the disk is full.
    """

    def __init__(
        self,
        path: Path,
        identity: str,
        relations: Sequence[str],
        language: str,
        subjects: Mapping[str, Subjects] | None = None,
    ) -> None:
        self.path, self.language = path, language
        given = {one: filtered for one, filtered in (subjects or {}).items() if not filtered.everything}
        self._lists = {one: filtered.ids for one, filtered in given.items() if filtered.ids is not None}
        self._classes = {one: filtered.classes for one, filtered in given.items() if filtered.classes}
        self._kinds = triples.kinds(relations, classes=bool(self._classes))
        keys = {one: filtered.key for one, filtered in sorted(given.items())}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA temp_store = FILE")
            self._begin(json.dumps([identity, sorted(relations), language, *([keys] if keys else [])]), relations)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Leave the file for a later load to go on with."""
        self._db.close()

    def remove(self) -> None:
        """Close it, and delete its files."""
        self.close()
        for ending in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    @property
    def position(self) -> Position | None:
        """Where reading goes on; None at the beginning."""
        offset, lines = self._meta("offset"), self._meta("lines")
        return Position(int(offset), int(lines)) if offset is not None and lines is not None else None

    @property
    def complete(self) -> bool:
        """Whether the whole dump is in here."""
        return self._meta("complete") is not None

    @property
    def triples(self) -> int:
        """How many triples the dump has, as far as it is read."""
        return int(self._meta("triples") or 0)

    @property
    def time(self) -> datetime | None:
        """The dump's own time: the earliest, if it was put together from several."""
        return parse.moment(Term("literal", self._meta("time") or ""))

    @property
    def wanted(self) -> Wanted:
        """What to read of the dump."""
        return triples.wanted(self._kinds, self.language)

    def add(self, batch: Batch) -> None:
        """Write a batch down, with the place where it ends."""
        rows: dict[str, list[Stored]] = defaultdict(list)
        times = [self._meta("time") or ""]
        for quad in batch.quads:
            table, relation = self._kinds[quad.predicate.value]
            if table == "time":
                times += triples.dates(quad)
                continue
            row = triples.row(table, relation, quad, self.language)
            if row is not None and table in ("truthy", "said") and relation in self._lists:
                row = row if row[1] in self._lists[relation] else None
            if row is not None:
                rows[table].append(row)
        try:
            self._db.execute("BEGIN")
            for table, own in rows.items():
                places = ", ".join("?" * len(own[0]))
                self._db.executemany(f"INSERT INTO {table} VALUES ({places})", own)  # noqa: S608 -- our own names
            self._note("triples", str(batch.triples))
            if any(times):
                self._note("time", min(time for time in times if time))
            if batch.position is not None:
                self._note("offset", str(batch.position.offset))
                self._note("lines", str(batch.position.lines))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def begin_anew(self) -> None:
        """Drop what a dump of a format without places to go on from has left here."""
        for table in _TABLES:
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 -- our own names
        self._db.execute("DELETE FROM meta WHERE key IN ('offset', 'lines', 'triples', 'time')")

    def put_in_order(self) -> None:
        """The dump is read to its end: sort it by subject, and keep the labels that are needed."""
        try:
            for table, columns in _INDEXES.items():
                self._db.execute(f"CREATE INDEX IF NOT EXISTS {table}_key ON {table} ({columns})")
            self._keep_classes()
            self._db.executescript(_IN_ORDER)
            self._note("complete", "1")
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def _keep_classes(self) -> None:
        """Drop the subjects that are of none of the classes that their relation is watched for."""
        for relation, classes in self._classes.items():
            self._db.execute("DROP TABLE IF EXISTS below")
            self._db.execute("CREATE TEMP TABLE below (class TEXT PRIMARY KEY) WITHOUT ROWID")
            self._db.executemany("INSERT OR IGNORE INTO below VALUES (?)", [(one,) for one in classes])
            while self._db.execute(_BELOW.format(edges=_EDGES), {"edge": "P279"}).rowcount > 0:
                pass  # one step down the tree of classes
            for table in ("said", "truthy"):
                self._db.execute(_OTHERS.format(table=table, edges=_EDGES), {"edge": "P31", "relation": relation})

    def pages(self, relation: str, size: int) -> Iterator[StagedPage]:
        """The subjects of `relation` in the order of their ids' text, with their statements."""
        after = ""
        while True:
            keys = self._db.execute(
                "SELECT subject FROM said WHERE relation = :r AND subject > :a UNION "
                "SELECT subject FROM truthy WHERE relation = :r AND subject > :a ORDER BY 1 LIMIT :n",
                {"r": relation, "a": after, "n": size},
            ).fetchall()
            if not keys:
                return
            subjects = tuple(key[0] for key in keys)
            yield StagedPage(subjects, self._rows(relation, after, subjects))
            after = subjects[-1]

    def items(self, ids: Iterable[str]) -> dict[str, Item]:
        """Label and revision of each of `ids`; the dump may know neither."""
        wanted = sorted(set(ids))
        rows: list[Row] = []
        for chunk in (wanted[i : i + _CHUNK] for i in range(0, len(wanted), _CHUNK)):
            places = ", ".join("?" * len(chunk))
            for item, text, language in self._db.execute(
                f"SELECT item, text, language FROM named WHERE item IN ({places})",  # noqa: S608 -- places only
                chunk,
            ):
                rows.append({"item": _entity(item), "label": Term("literal", text, None, language)})
            for item, revision in self._db.execute(
                f"SELECT item, revision FROM revision WHERE item IN ({places})",  # noqa: S608 -- places only
                chunk,
            ):
                rows.append({"item": _entity(item), "version": Term("literal", revision)})
        named = parse.named(rows, self.language)
        return {one: named.get(one, Item(one, None, None, None, None)) for one in wanted}

    def _rows(self, relation: str, after: str, subjects: Sequence[str]) -> list[Row]:
        key = {"r": relation, "a": after, "z": subjects[-1]}
        here = "said.relation = :r AND said.subject > :a AND said.subject <= :z"
        groups: dict[tuple[str, str], list[Row]] = {}
        for subject, statement, *term in self._db.execute(f"{_OF_OBJECTS} WHERE {here}", key):
            row = {"item": _entity(subject), "st": Term("uri", STATEMENT + statement)}
            if term[0] is not None:
                row["value"] = _term(term)
            groups.setdefault((subject, statement), []).append(row)
        self._add_ranks(here, key, groups)
        for query in (_OF_SPANS, _OF_DETAILS):
            for subject, statement, which, *term in self._db.execute(f"{query} WHERE {here}", key):
                group = groups[subject, statement]
                group.append({**group[0], which: _term(term)})
        rows = [row for group in groups.values() for row in group]
        told = {subject for subject, _ in groups}
        return rows + self._bare(relation, after, subjects[-1], told)

    def _add_ranks(self, here: str, key: dict[str, str], groups: dict[tuple[str, str], list[Row]]) -> None:
        """Each statement's rank, and which of a subject's are the best: the preferred ones, or else the normal."""
        ranks = {
            (subject, statement): rank
            for subject, statement, rank in self._db.execute(f"{_OF_RANKS} WHERE {here}", key)
        }
        preferred = {subject for (subject, _), rank in ranks.items() if rank == f"{WIKIBASE}PreferredRank"}
        for (subject, statement), group in groups.items():
            rank = ranks.get((subject, statement), NORMAL)
            best = rank == (f"{WIKIBASE}PreferredRank" if subject in preferred else NORMAL)
            for row in group:
                row["rank"] = Term("uri", rank)
                if best:
                    row["best"] = Term("uri", f"{WIKIBASE}BestRank")

    def _bare(self, relation: str, after: str, last: str, told: set[str]) -> list[Row]:
        """Rows for `wdt:` triples of subjects without a statement: each a statement with a made-up id."""
        rows: list[Row] = []
        for subject, *term in self._db.execute(
            "SELECT DISTINCT subject, kind, value, datatype, language FROM truthy "
            "WHERE relation = ? AND subject > ? AND subject <= ?",
            (relation, after, last),
        ):
            if subject in told:
                continue
            value = _term(term)
            name = "" if value.kind == "bnode" else json.dumps(term)  # a blank node has another name in each dump
            rows.append(
                {
                    "item": _entity(subject),
                    "st": Term("uri", STATEMENT + truthy_id(subject, relation, name)),
                    "value": value,
                    "rank": Term("uri", NORMAL),
                    "best": Term("uri", f"{WIKIBASE}BestRank"),
                }
            )
        return rows

    def _begin(self, identity: str, relations: Sequence[str]) -> None:
        """Lay the file out, unless it is of the same load."""
        self._db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)")
        if self._meta("identity") == identity:
            return
        self._db.execute("BEGIN")
        for table in (*_TABLES, "want", "named", "revision"):
            self._db.execute(f"DROP TABLE IF EXISTS {table}")
        for table, columns in _TABLES.items():
            self._db.execute(f"CREATE TABLE {table} ({columns})")
        self._db.execute("DELETE FROM meta")
        for relation in relations:
            self._note(f"watched {relation}", relation)
        self._note("identity", identity)
        self._db.execute("COMMIT")

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _note(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(f"the scratch file {self.path} can't be written: {error}; is there room on its disk?")


def _term(columns: Sequence[str | None]) -> Term:
    kind, value, datatype, language = columns
    kinds: dict[str | None, TermKind] = {"uri": "uri", "bnode": "bnode"}
    return Term(kinds.get(kind, "literal"), value or "", datatype, language)


def _entity(item: str) -> Term:
    return Term("uri", ENTITY + item)
