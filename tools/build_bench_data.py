"""Build data/bench/counterfact.tsv: counterfactual edits, and the facts that they must leave alone.

    python tools/build_bench_data.py COUNTERFACT_JSONL_GZ OUT_TSV

The input has a JSON object per line with relation_id, subject, subject_qid, target_true, target_true_qid and
target_new; no sentence of it is taken over. Everything is decided by hashes, so the same input gives the same
bytes, and a record that is added or taken away moves few others. The rule stands in data/bench/README.md.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kbsync.facts import EditRequest, Fact, Value, ValueKind
from kbsync.request.catalogue import Catalogue, load_catalogue
from kbsync.request.verbalise import fold, verbalise
from kbsync.settings import share

EDITS = 2400
NEIGHBORS = (2, 8)  # fewest facts that an edit's old object must have beside it, and most that are kept of one
COLUMNS = ("relation", "subject", "label", "old", "old_label", "new", "new_label")

Record = Mapping[str, str]
ObjectIds = Mapping[tuple[str, str], str]


@dataclass(frozen=True, order=True)
class Row:
    """One line of the file; a fact that is only a neighbor has no new object."""

    relation: str
    subject: str
    label: str
    old: str
    old_label: str
    new: str = ""
    new_label: str = ""

    @property
    def rank(self) -> str:
        """Where it stands in the queue of its relation."""
        return _hash("rank", self.relation, self.subject)

    @property
    def edits(self) -> bool:
        """Whether its subject is one of those that are edited; all facts of a name are on one side."""
        return _hash("side", fold(self.label)) < "8"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\t".join(parts).encode()).hexdigest()


def read(path: Path) -> list[Record]:
    """The records of the input."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def object_ids(records: Iterable[Record]) -> dict[tuple[str, str], str]:
    """(relation, label) → the id that the label most often has as an object of the relation."""
    seen: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for one in records:
        if one.get("target_true_qid"):
            seen[one["relation_id"], one["target_true"]][one["target_true_qid"]] += 1
    return {key: min(ids, key=lambda i: (-ids[i], i)) for key, ids in seen.items()}


def rows_of(records: Iterable[Record], ids: ObjectIds, catalogue: Catalogue) -> Iterator[Row]:
    """The records that have all ids and can be said with the catalogue's own words."""
    for one in records:
        relation, subject = one["relation_id"], one.get("subject_qid")
        old, new = ids.get((relation, one["target_true"])), ids.get((relation, one["target_new"]))
        if relation not in catalogue.relations or not (subject and old and new) or old == new:
            continue
        row = Row(relation, subject, one["subject"], old, one["target_true"], new, one["target_new"])
        labels = {subject: row.label, old: row.old_label, new: row.new_label}
        one_way = _said(row, row.new, row.old, labels, catalogue)
        if one_way and _said(row, row.old, row.new, labels, catalogue):  # a neighbor says the old one
            yield row


def _said(row: Row, new: str, old: str, labels: Mapping[str, str], catalogue: Catalogue) -> bool:
    """Whether `new` in the place of `old` can be said."""
    fact = Fact(row.subject, row.relation, Value(ValueKind.ITEM, new))
    request = verbalise(fact, labels, catalogue, Value(ValueKind.ITEM, old))
    return isinstance(request, EditRequest) and request.target_old is not None


def choose(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """(edits, neighbors)."""
    queues: dict[str, list[Row]] = defaultdict(list)
    pools: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: (row.rank, row)):
        if row.edits:
            queues[row.relation].append(row)
        else:
            pools[row.relation, row.old].setdefault(fold(row.label), row)
    edits: dict[str, Row] = {}  # by name: none is edited twice
    for queue in queues.values():
        queue[:] = [row for row in queue if len(pools[row.relation, row.old]) >= NEIGHBORS[0]]
    while len(edits) < EDITS and any(queues.values()):
        for relation in sorted(queues):  # in turns, so that the relations are spread
            while queues[relation] and len(edits) < EDITS:
                row = queues[relation].pop(0)
                if edits.setdefault(fold(row.label), row) is row:
                    break
    wanted = sorted({(row.relation, row.old) for row in edits.values()})
    kept = [row for key in wanted for row in list(pools[key].values())[: NEIGHBORS[1]]]
    return sorted(edits.values()), [Row(r.relation, r.subject, r.label, r.old, r.old_label) for r in sorted(kept)]


def main(source: Path, out: Path) -> None:
    """Write the file and say what is in it."""
    records = read(source)
    catalogue = load_catalogue(share("config/relations.toml"))
    edits, neighbors = choose(rows_of(records, object_ids(records), catalogue))
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerow(COLUMNS)
        for row in (*edits, *neighbors):
            writer.writerow([getattr(row, column) for column in COLUMNS])
    relations = Counter(row.relation for row in edits)
    sys.stdout.write(
        f"{len(edits)} edits of {len(relations)} relations ({min(relations.values())} to "
        f"{max(relations.values())} each), {len(neighbors)} neighbors, {out.stat().st_size} bytes\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
