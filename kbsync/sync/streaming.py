"""The stream as a tail: events become touches, touches are read from the endpoint as the tail reads.

The events' outcomes and the position behind them commit together. What was touched is read by the next run. The
stream only makes changes come sooner: where it has a gap, is down or too far ahead of the endpoint, the tail of
each relation finds the same changes at its own time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from kbsync.facts import Touch
from kbsync.source import mutations
from kbsync.source import pull as source
from kbsync.source.client import SparqlClient
from kbsync.source.mutations import Known, Mutation
from kbsync.source.sse import Message
from kbsync.source.stream import Gap, MutationStream
from kbsync.source.touched import read_touched
from kbsync.store import backfills, known, touches
from kbsync.sync import watching
from kbsync.sync.asking import guard_of
from kbsync.sync.clock import now
from kbsync.sync.pages import take
from kbsync.sync.workbench import Workbench

log = structlog.get_logger("kbsync")

BATCH = 500  # events of one transaction
BATCH_S = 2.0  # seconds from one transaction to the next while many events come
RETENTION = timedelta(days=6)  # the public service keeps a week


def drain(
    bench: Workbench,
    seconds: float,
    wanted: Callable[[], bool] = lambda: True,
    sleep: Callable[[float], None] = time.sleep,
    on_touch: Callable[[], None] = lambda: None,
) -> Counter[str]:
    """Read the stream from where it was left, until its events are as young as the call or there are no more.

    `seconds` is the most that it may take. With endless `seconds` the stream is followed until `wanted` says no.
    `on_touch` is called after a transaction that kept touches. Returns the events by named outcome. Raises the
    SourceError of a stream that can't be read.
    """
    settings, counts = bench.settings, Counter[str]()
    begun, until = now(), time.monotonic() + seconds
    stream = MutationStream(settings.source, guard_of(bench, settings.source.stream_url), sleep)
    with bench.store.read() as tx:
        position = touches.position(tx, settings.source.stream_url)
    batch: list[Message] = []
    committed, silent = 0.0, False  # the first event, and each that comes alone, has its transaction at once
    try:
        for message in stream.read(position, _since(bench), until, wanted):
            if message is None and silent and seconds != float("inf"):
                break  # two connections in a row that brought nothing
            silent = message is None
            if message is not None:
                batch.append(message)
            if batch and (message is None or len(batch) >= BATCH or time.monotonic() - committed > BATCH_S):
                young = _commit(bench, batch, counts, on_touch)
                batch, committed = [], time.monotonic()
                if seconds != float("inf") and young is not None and young >= begun:
                    break
    except Gap as gap:
        log.warning("the stream has a gap; the tail reads what lies in it", error=str(gap))
        batch = []
        _note_gap(bench, counts)
    if batch:
        _commit(bench, batch, counts, on_touch)
    stream.guard.close()
    return counts


def _commit(
    bench: Workbench, batch: Sequence[Message], counts: Counter[str], on_touch: Callable[[], None]
) -> datetime | None:
    """Judge a batch of events and store touches, outcomes and position; the time of its youngest event."""
    decoded = [mutations.decode(message.data) for message in batch]
    found = [one for one in decoded if isinstance(one, Mutation)]
    outcomes = Counter(one for one in decoded if isinstance(one, str))
    at, items = now(), {one.item for one in found}
    with bench.store.begin() as tx:
        watched = frozenset(watching.relations(tx, bench.settings))
        waiting = touches.pending_of(tx, items)
        before, tracked, read = dict(waiting), touches.tracked(tx, items), touches.read_at(tx, items)
        for mutation in found:
            outcome, new = mutations.judge(mutation, watched, Known(tracked, read, waiting), at)
            outcomes[outcome] += 1
            waiting.update({(touch.relation, touch.item): touch for touch in new})
        kept = {key: touch for key, touch in waiting.items() if before.get(key) != touch}
        youngest = max((one.at for one in found), default=None)
        url = bench.settings.source.stream_url
        touches.note(tx, url, batch[-1].id or touches.position(tx, url), youngest, kept, outcomes, at)
    counts.update(outcomes)
    if kept:
        on_touch()
    return youngest


def read_pending(bench: Workbench, client: SparqlClient, run_id: int, seen_labels: set[str]) -> Counter[str]:
    """Read what the stream has touched, in relations whose first pull is complete; counts by named outcome.

    A touch that the endpoint does not show after `source.stream_patience_s` is given up: the tail will find it.
    """
    settings, counts, at = bench.settings, Counter[str](), now()
    url, late = settings.source.stream_url, at - timedelta(seconds=settings.source.stream_patience_s)
    with bench.store.begin() as tx:
        watched = watching.watches(tx, settings)
        touches.forget(tx, list(watched))
        touches.seen_by(tx, at)
        waiting = list(touches.pending(tx).values())
        ready = [r for r, one in watched.items() if backfills.is_complete(tx, r, one.subjects.key)]
    for relation in ready:
        mine = [touch for touch in waiting if touch.relation == relation]
        if not mine:
            continue
        until = source.window_end(client, relation) or now()
        left = {touch.item: touch for touch in mine}
        pages = read_touched(
            client, relation, mine, settings.source, known_labels=seen_labels, subjects=watched[relation].subjects
        )
        for page, settled in pages:
            with bench.store.begin() as tx:
                pulled = take(tx, run_id, page, until)
                touches.settle(tx, settled)
            counts.update(pulled.counts)
            counts["changes"] += len(pulled.changes)
            counts["touches read"] += len(settled)
            seen_labels.update(item.id for item in (*pulled.items, *pulled.labels))
            for touch in settled:
                left.pop(touch.item, None)
        _give_up(bench, url, [touch for touch in left.values() if touch.seen_at < late], counts)
    return counts


def _give_up(bench: Workbench, url: str, overdue: Sequence[Touch], counts: Counter[str]) -> None:
    if overdue:
        with bench.store.begin() as tx:
            gone = touches.settle(tx, overdue)
            touches.count(tx, url, {"given up: the endpoint does not show it": gone})
        counts["touches given up"] += len(overdue)


def _note_gap(bench: Workbench, counts: Counter[str]) -> None:
    """Forget the position: the next connection begins where the tails have got to."""
    with bench.store.begin() as tx:
        touches.note(tx, bench.settings.source.stream_url, None, None, {}, {"gap": 1}, now())
    counts["gap"] += 1


def _since(bench: Workbench) -> datetime:
    """Where a stream begins that was never read: at the relation that is furthest behind, as far as it is kept."""
    with bench.store.read() as tx:
        cursors = [known.cursor(tx, relation) for relation in watching.relations(tx, bench.settings)]
    overlap = timedelta(seconds=bench.settings.source.overlap_s)
    times = [cursor.modified - overlap for cursor in cursors if cursor is not None]
    return max(min(times, default=now()), now() - RETENTION)
