"""What is watched, and how far each relation has come: for `kbsync watch list` and `kbsync status`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.facts import Watch
from kbsync.settings import Settings
from kbsync.store import backfills, holds, known, trust, watches
from kbsync.sync import watching

Progress = Literal["to come", "under way", "filter changed", "done"]


@dataclass(frozen=True, slots=True)
class Watched:
    """One relation: who says so, which subjects, how far its first pull is, and what the store has of it.

    `priority` is the one in effect. `also`: the file names it, and a command has added it too. `subjects_read` is
    None where the first pull was made by a program that did not count them.
    """

    relation: str
    label: str | None
    source: Literal["file", "command"]
    also: bool
    filter: str
    priority: int
    backfill: Progress
    subjects_read: int | None
    facts: int
    held: int


def watches_of(tx: Session, settings: Settings) -> list[Watched]:
    """All watched relations, those of the file first. A filter whose file can't be read is shown as that."""
    effective, added = watching.effective(tx, settings).watch, watches.added(tx)
    names = effective.relations
    progress, facts, held = backfills.backfills(tx), dict(known.counted(tx)), _held(tx)
    labels = known.labels(tx, names)
    found = []
    for one in names:
        watch, fault = None, ""
        try:
            watch = watching.watch_of(tx, settings, one)
        except ConfigError as error:
            fault = str(error)
        came = progress.get(one)
        in_file = one in settings.watch.relations
        found.append(
            Watched(
                relation=one,
                label=labels.get(one),
                source="file" if in_file else "command",
                also=in_file and one in added,
                filter=watch.subjects.words if watch is not None else fault,
                priority=effective.priority.get(one, 0),
                backfill=_progress(tx, watch, one),
                subjects_read=came.subjects if came is not None else None if facts.get(one) else 0,
                facts=facts.get(one, 0),
                held=held[one],
            )
        )
    return found


def _progress(tx: Session, watch: Watch | None, relation: str) -> Progress:
    key = backfills.filter_key(tx, relation)
    if key is None:
        return "to come"
    if watch is not None and key != watch.subjects.key:
        return "filter changed"
    return "done" if known.first_pull_complete(tx, relation) is not None else "under way"


def _held(tx: Session) -> Counter[str]:
    """By relation: facts that are held, by the planner or by the trust filter, each once."""
    facts = {one.fact for one in holds.held_now(tx)}
    facts |= {one.fact for one in trust.open_verdicts(tx) if not one.passed}
    return Counter(fact.relation for fact in facts)
