"""Four windows of real changes over a real slice, against the exact net difference of its truthy triples."""

from __future__ import annotations

import copy
import csv
import lzma
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from kbsync.facts import Change, ChangeKind, Touch, Value, ValueKind
from kbsync.settings import SourceSettings
from kbsync.source.client import SparqlClient
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.guard import Guard
from kbsync.source.mutations import Known, Mutation, decode, judge
from kbsync.source.page import assemble
from kbsync.source.stream import MutationStream
from kbsync.source.touched import read_touched
from kbsync.sync.reconcile import reconcile_once
from tests.source.bench import found_by, tail, workbench
from tests.source.conftest import DATA
from tests.source.events import disordered, events_of, replay
from tests.source.mirror import EPOCH, Mirror

Diff = tuple[str, str, str, str]  # item, property, object as text, sign


def expected() -> dict[str, set[Diff]]:
    """The oracle by change file."""
    found: dict[str, set[Diff]] = {}
    with (DATA / "net-diffs.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            found.setdefault(row["change_file"], set()).add(
                (row["item"], row["property"], row["object"], row["sign"])
            )
    return found


def signed(changes: Iterable[Change]) -> list[Diff]:
    """Changes as signed facts."""
    return [
        (change.subject, change.relation, value.text, sign)
        for change in changes
        for value, sign in ((change.old, "-"), (change.new, "+"))
        if value is not None
    ]


def test_the_changes_of_four_windows_are_the_exact_net_difference(
    slice_server: EmbeddedWikidata, settings_for: Callable[..., SourceSettings]
) -> None:
    """Every truthy triple that came or went in a window is named by a change once, and nothing else is."""
    oracle = expected()
    assert sum(map(len, oracle.values())) == 863
    settings = settings_for(slice_server.endpoint, page_size=1000, overlap_s=1200)
    client = SparqlClient(settings)
    relations = sorted({diff[1] for diffs in oracle.values() for diff in diffs})
    mirrors = [Mirror(relation) for relation in relations]
    for mirror in mirrors:
        assert mirror.pull(client, settings) == []
    followers = copy.deepcopy(mirrors)  # the same first pull, then the stream alone
    for number in ("1", "2", "3", "4"):
        before = {m.relation: m.facts() for m in mirrors}
        update = lzma.decompress((DATA / f"change-{number}.ru.xz").read_bytes()).decode()
        slice_server.update(update)
        changes = [change for mirror in mirrors for change in mirror.pull(client, settings)]
        found = signed(changes)
        assert len(found) == len(set(found))
        assert set(found) == oracle[number]
        for mirror in mirrors:
            mine = [c for c in changes if c.relation == mirror.relation]
            assert mirror.facts() == applied(before[mirror.relation], mine)
        by_stream = followed(followers, client, settings_for, disordered(events_of(update, WHEN), int(number)))
        assert sorted(signed(by_stream)) == sorted(found)
        for mirror, follower in zip(mirrors, followers, strict=True):
            assert rows_of(follower) == rows_of(mirror)
    again = [change for mirror in mirrors for change in mirror.pull(client, settings)]
    assert again == []
    assert all(Mirror(m.relation).pull(client, settings) == [] for m in mirrors[:1])
    fresh = Mirror("P1308")
    fresh.pull(client, settings)
    assert fresh.facts() == next(m for m in mirrors if m.relation == "P1308").facts()


def test_reconcile_alone_finds_the_same(slice_server: EmbeddedWikidata, tmp_path: Path) -> None:
    """Without a tail, a full pass after each window writes down exactly the net difference, and nothing is left."""
    oracle = expected()
    relations = sorted({diff[1] for diffs in oracle.values() for diff in diffs})
    with workbench(tmp_path, slice_server.endpoint, relations, page_size=1000, overlap_s=1200) as bench:
        assert tail(bench) == []
        for number in ("1", "2", "3", "4"):
            slice_server.update(lzma.decompress((DATA / f"change-{number}.ru.xz").read_bytes()).decode())
            done = reconcile_once(bench, alone=True)
            assert done.kept == []
            found = signed(found_by(bench, done.run_id))
            assert len(found) == len(set(found))
            assert set(found) == oracle[number]
            assert sum(done.divergences.values()) > 0
        again = reconcile_once(bench)
        assert sum(again.divergences.values()) == 0
        assert found_by(bench, again.run_id) == []


def applied(facts: set[tuple[str, Value]], changes: Iterable[Change]) -> set[tuple[str, Value]]:
    """The facts after the changes, each of which must fit."""
    facts = set(facts)
    for change in changes:
        if change.old is not None:
            facts.remove((change.subject, change.old))
        if change.new is not None:
            assert (change.subject, change.new) not in facts
            facts.add((change.subject, change.new))
        assert (change.kind is ChangeKind.REPLACED) == (change.old is not None and change.new is not None)
        assert change.new is None or change.new.kind is not ValueKind.UNKNOWN
    return facts


WHEN = "2024-06-01T00:00:00Z"


def rows_of(mirror: Mirror) -> set[object]:
    """Every live statement with all its parts."""
    return {statement for rows in mirror.statements.values() for statement in rows.values()}


def followed(
    mirrors: list[Mirror], client: SparqlClient, settings_for: Callable[..., SourceSettings], events: list[str]
) -> list[Change]:
    """What a stream of these events changes, over HTTP, with cuts."""
    by_relation = {mirror.relation: mirror for mirror in mirrors}
    pending: dict[tuple[str, str], Touch] = {}
    outcomes: Counter[str] = Counter()
    tracked_by = {relation: mirror.tracked for relation, mirror in by_relation.items()}
    with replay(events, [100, 1, 37]) as server:
        settings = settings_for(client.settings.endpoint, stream_url=server.url, page_size=200)
        stream = MutationStream(settings, Guard(settings), lambda _seconds: None)
        until = time.monotonic() + 60
        for message in stream.read(None, EPOCH, until, lambda: sum(outcomes.values()) < len(events)):
            if message is None:
                continue
            one = decode(message.data)
            if not isinstance(one, Mutation):
                outcomes[one] += 1
                continue
            tracked = frozenset(relation for relation, items in tracked_by.items() if one.item in items)
            read = {
                (relation, one.item): version
                for relation, mirror in by_relation.items()
                if (version := mirror.versions.get(one.item)) is not None
            }
            mine = {key: touch for key, touch in pending.items() if key[1] == one.item}
            outcome, touches = judge(one, by_relation, Known({one.item: tracked}, read, mine), EPOCH)
            outcomes[outcome] += 1
            pending |= {(touch.relation, touch.item): touch for touch in touches}
    assert outcomes.total() == len(events)
    assert outcomes["filtered: canary"] == outcomes["filtered: malformed event"] == 3
    assert outcomes["duplicate"] + outcomes["older"] > 0
    changes: list[Change] = []
    for relation, mirror in by_relation.items():
        touched = [touch for touch in pending.values() if touch.relation == relation]
        pages = read_touched(client, relation, touched, settings, known_labels=mirror.labels)
        for page, settled in pages:
            known = {subject: tuple(mirror.statements.get(subject, {}).values()) for subject in page.subjects}
            pulled = assemble(page, known, EPOCH)
            mirror.commit(pulled)
            changes += pulled.changes
            for touch in settled:
                del pending[touch.relation, touch.item]
    assert pending == {}
    return changes
