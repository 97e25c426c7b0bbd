"""A store in a dict: just enough of one to drive the pulls the way that the program does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kbsync.facts import Change, Cursor, Item, Pulled, Reading, Statement, Value
from kbsync.settings import SourceSettings
from kbsync.source import pull
from kbsync.source.client import SparqlClient
from kbsync.source.diff import truthy
from kbsync.source.page import Page, assemble, newest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Mirror:
    """Live statements by subject, revisions, labels and the cursor of one relation."""

    relation: str
    cursor: Cursor | None = None
    statements: dict[str, dict[str, Statement]] = field(default_factory=dict)
    versions: dict[str, int | None] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)
    labels: dict[str, Item] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def pull(
        self, client: SparqlClient, settings: SourceSettings, *, stop_after: int | None = None
    ) -> list[Change]:
        """One pull, committed page by page; `stop_after` pages it is as if the program had been killed."""
        until = pull.window_end(client, self.relation, self.cursor)
        if self.cursor is None:
            pages = pull.first_pull(client, self.relation, until, settings, known_labels=self.labels)
        else:
            pages = pull.tail(
                client, self.relation, self.cursor, until, self.tracked, settings, known_labels=self.labels
            )
        changes: list[Change] = []
        for number, page in enumerate(pages, 1):
            pulled = self.take(page, until or EPOCH)
            changes += pulled.changes
            if number == stop_after:
                break
        return changes

    def take(self, page: Page, now: datetime) -> Pulled:
        """One page of the source, read at its time `now`: compared, stored, and what was stored."""
        page = newest(page, self.readings, now)
        known = {subject: tuple(self.statements.get(subject, {}).values()) for subject in page.subjects}
        pulled = assemble(page, known, now)
        self.commit(pulled)
        return pulled

    def commit(self, pulled: Pulled) -> None:
        """Apply one page's rows together with its cursor."""
        gone = {key for key, _ in pulled.gone}
        for rows in self.statements.values():
            for key in gone & rows.keys():
                del rows[key]
        for statement in pulled.statements:
            self.statements.setdefault(statement.subject, {})[statement.id] = statement
        for item in pulled.items:
            self._note(item.id, Reading(item.revision, pulled.at))
            self.versions[item.id] = self.readings[item.id].revision
        for absent in pulled.absent:
            self._note(absent, Reading(absent_at=pulled.at))
        self.labels |= {item.id: item for item in (*pulled.items, *pulled.labels)}
        self.counts.update(pulled.counts)
        self.cursor = max((one for one in (self.cursor, pulled.cursor) if one is not None), default=None)

    def _note(self, item: str, reading: Reading) -> None:
        self.readings[item] = self.readings.get(item, Reading()).merged(reading)

    @property
    def tracked(self) -> dict[str, int | None]:
        """Subjects with a live statement, at the revision that was read."""
        return {subject: self.versions.get(subject) for subject, rows in self.statements.items() if rows}

    def facts(self) -> set[tuple[str, Value]]:
        """The truthy (subject, value) pairs."""
        return {(subject, value) for subject, rows in self.statements.items() for value in truthy(rows.values())}
