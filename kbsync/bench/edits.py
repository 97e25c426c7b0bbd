"""Where a benchmark's edits come from: the demo's real changes, and counterfactual edits.

Both ship with kbsync, and both are put into words by the relation catalogue.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from kbsync.errors import ConfigError
from kbsync.facts import EditRequest, Fact, KnownFact, Value, ValueKind
from kbsync.request.catalogue import Catalogue
from kbsync.request.neighborhood import Neighborhood
from kbsync.request.verbalise import verbalise
from kbsync.settings import share

_SEEN = datetime(2022, 2, 10, tzinfo=UTC)  # when CounterFact came out; a neighbor's age plays no part


def real_changes(catalogue: Catalogue, count: int) -> list[EditRequest]:
    """The first `count` real changes of the demo's windows that can be said, each subject and relation once.

    Raises ConfigError when the demo has fewer.
    """
    requests: dict[tuple[str, str], EditRequest] = {}
    words: set[str] = set()
    for row in _table("data/demo/expected.tsv"):
        request = _real_change(row, catalogue)
        if request is None or request.rewrite.text in words:
            continue
        words.add(request.rewrite.text)
        requests.setdefault((row["subject"], row["property"]), request)
    _enough(len(requests), count, "the demo", "changes")
    return list(requests.values())[:count]


def _real_change(row: dict[str, str], catalogue: Catalogue) -> EditRequest | None:
    if row["kind"] not in ("replaced", "added"):
        return None
    fact = Fact(row["subject"], row["property"], Value(ValueKind.ITEM, row["new"]))
    labels: dict[str, str | None] = {
        row["subject"]: row["label"],
        row["property"]: row["property_label"],
        row["new"]: row["new_label"],
    }
    previous = None
    if row["old"]:
        previous = Value(ValueKind.ITEM, row["old"])
        labels[row["old"]] = row["old_label"]
    request = verbalise(fact, labels, catalogue, previous)
    return request if isinstance(request, EditRequest) else None


def counterfactual(catalogue: Catalogue, count: int, seed: int, neighbors: int) -> list[EditRequest]:
    """The first `count` counterfactual edits in the order that `seed` shuffles them into: fewer are the first of
    more. Each has up to `neighbors` neighbors, which all have its old object and are edited by no seed.

    An edit that the catalogue can't say is left out. Raises ConfigError when there are fewer than `count`.
    """
    rows = list(_table("data/bench/counterfact.tsv"))
    labels: dict[str, str | None] = {}
    for row in rows:
        labels |= {row["subject"]: row["label"], row["old"]: row["old_label"], row["new"]: row["new_label"]}
    edited = frozenset(row["subject"] for row in rows if row["new"])
    hood = Neighborhood.build(
        [_known(row) for row in rows if not row["new"] and row["relation"] in catalogue], edited, labels, catalogue
    )
    order = sorted((row for row in rows if row["new"]), key=lambda row: _draw(seed, row))
    _enough(len(order), count, "data/bench/counterfact.tsv", "counterfactual edits")
    requests = []
    for row in order[:count]:
        old = Value(ValueKind.ITEM, row["old"])
        fact = Fact(row["subject"], row["relation"], Value(ValueKind.ITEM, row["new"]))
        request = verbalise(fact, labels, catalogue, old) if row["relation"] in catalogue else None
        if isinstance(request, EditRequest):
            near = tuple(one for one in hood.choose(request, old, neighbors) if one.same_object)
            requests.append(replace(request, neighborhood=near))
    return requests


def _known(row: dict[str, str]) -> KnownFact:
    fact = Fact(row["subject"], row["relation"], Value(ValueKind.ITEM, row["old"]))
    return KnownFact(fact, baseline=True, preferred=False, start=None, end=None, seen=_SEEN)


def _draw(seed: int, row: dict[str, str]) -> str:
    """A row's place in the shuffle: a hash, so that it is the same under every Python."""
    return hashlib.sha256(f"{seed}\t{row['relation']}\t{row['subject']}".encode()).hexdigest()


def _table(path: str) -> Iterator[dict[str, str]]:
    with share(path).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def _enough(there: int, count: int, where: str, what: str) -> None:
    if there < count:
        raise ConfigError(f"{where} has only {there} {what} to measure with; ask for that many or fewer")
