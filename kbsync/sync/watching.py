"""What is watched now: the config file's relations, then those that commands have added.

Looked up whenever it is needed, so a relation that is added, removed or given another filter counts from the next
sync on, also in a daemon. Where both name a relation, the file's words hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy.orm import Session

from kbsync.errors import ConfigError
from kbsync.facts import Subjects, Watch, is_item_id
from kbsync.settings import Settings
from kbsync.store import watches as stored


def relations(tx: Session, settings: Settings) -> tuple[str, ...]:
    """The ids of all watched relations."""
    return effective(tx, settings).watch.relations


def watches(tx: Session, settings: Settings) -> dict[str, Watch]:
    """All watched relations with their filters. Raises ConfigError for a filter's file that can't be read."""
    mine = of_file(settings)
    return {**mine, **{one: watch for one, watch in stored.added(tx).items() if one not in mine}}


def of_file(settings: Settings) -> dict[str, Watch]:
    """Those of the config file. Raises ConfigError."""
    return {one: _of_file(one, settings) for one in settings.watch.relations}


def watch_of(tx: Session, settings: Settings, relation: str) -> Watch | None:
    """One relation, or None where it is not watched (any more)."""
    if relation in settings.watch.relations:
        return _of_file(relation, settings)
    return stored.added(tx).get(relation)


def effective(tx: Session, settings: Settings) -> Settings:
    """The settings with `watch.relations` and `watch.priority` as they are in effect."""
    mine = settings.watch
    added = {one: watch for one, watch in stored.added(tx).items() if one not in mine.relations}
    update = {
        "relations": (*mine.relations, *added),
        "priority": {**mine.priority, **{one: watch.priority for one, watch in added.items() if watch.priority}},
    }
    return settings.model_copy(update={"watch": mine.model_copy(update=update)})


def check(watched: Iterable[Watch]) -> None:
    """Raise ConfigError for a pattern that is not allowed, with the relation that it is of."""
    for one in watched:
        if one.subjects.where:
            from kbsync.source import patterns

            try:
                patterns.check(one.subjects.where)
            except ConfigError as error:
                where = f"watch.where.{one.relation}" if one.source == "file" else f"the filter of {one.relation}"
                raise ConfigError(f"{where}: {error}") from None


def _of_file(relation: str, settings: Settings) -> Watch:
    """Raises ConfigError for a filter's file that can't be read."""
    return Watch(relation, "file", _subjects(relation, settings), settings.watch.priority.get(relation, 0))


def _subjects(relation: str, settings: Settings) -> Subjects:
    """The filter that the config file has for a relation. Raises ConfigError."""
    watch = settings.watch
    if relation in watch.subjects_file:
        return Subjects(ids=read_ids(watch.subjects_file[relation]))
    if relation in watch.subjects:
        return Subjects(ids=frozenset(watch.subjects[relation]))
    return Subjects(tuple(sorted(set(watch.classes.get(relation, ())))), where=watch.where.get(relation, ""))


def read_ids(path: Path) -> frozenset[str]:
    """The item ids in a file: one on each line; empty lines, and what follows a `#`, count for nothing.

    Raises ConfigError for a file that can't be read, that has something else, or nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"the list of subjects {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the list of subjects {path} is not UTF-8 text") from None
    found = set()
    for number, line in enumerate(lines, 1):
        one = line.partition("#")[0].strip()
        if one and not is_item_id(one):
            raise ConfigError(f"{path}: line {number}: {one[:40]!r} is not an item id such as Q42")
        if one:
            found.add(one)
    if not found:
        raise ConfigError(f"the list of subjects {path} names none")
    return frozenset(found)
