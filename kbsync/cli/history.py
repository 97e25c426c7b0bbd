"""`kbsync history`: what happened to one subject, from Wikidata's changes to the model that says them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import show
from kbsync.cli.state import State, Utf8, json_option, pass_state
from kbsync.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_CHANGES = """
SELECT run, at, kind, relation, relation_label, old_object, old_label, new_object, new_label, reason, outcome
FROM fact_changes WHERE subject = :subject ORDER BY change
"""
_EDITS = """
SELECT request, relation, relation_label, old_object, new_object, status, reason, p_new_before, p_new_after,
       success_after, accuracy_after, said_before, said_after, checkpoint, live_from, live_until
FROM edit_history WHERE subject = :subject ORDER BY request
"""
_KNOWN = """
SELECT DISTINCT subject FROM facts WHERE subject = :subject
UNION SELECT subject FROM changes WHERE subject = :subject
UNION SELECT subject FROM edit_requests WHERE subject = :subject
"""
_NAMED = """
SELECT DISTINCT e.id FROM entities e
WHERE {match} AND EXISTS (SELECT 1 FROM statements s WHERE s.subject = e.id) ORDER BY e.id LIMIT 12
"""


@click.command("history", short_help="What happened to one subject.")
@click.argument("subject", type=Utf8())
@json_option
@pass_state
def command(state: State, subject: str) -> None:
    """Show what happened to one subject.

    SUBJECT is a Wikidata id, or a label that only one subject has. First the changes that the pulls found and
    what became of each; then the edits with the new object's probability before and after, and when models
    with the edit were live.

    \b
    Examples:
      kbsync history Q30
      kbsync history "President of Chile"
    """
    from kbsync.store.viewed import rows

    with state.store() as store, store.read() as tx:
        one = _find(tx, subject.strip())
        label = rows(tx, "SELECT label FROM entities WHERE id = :id", id=one)
        changes = rows(tx, _CHANGES, subject=one)
        edits = rows(tx, _EDITS, subject=one)
    name = label[0]["label"] if label else None
    if state.as_json:
        show.as_json({"subject": one, "label": name, "changes": changes, "edits": edits})
        return
    show.line(f"{one} {name or ''}".rstrip(), "bold")
    _print_changes(changes)
    _print_edits(edits)


def _find(tx: Session, subject: str) -> str:
    """The id that the user means. Raises ConfigError when there is none, or more than one."""
    from kbsync.facts import is_entity_id
    from kbsync.store.viewed import rows

    if is_entity_id(subject):
        if not rows(tx, _KNOWN, subject=subject):
            raise ConfigError(f"the store knows no fact of {subject}")
        return subject
    for match in ("e.label = :label", "LOWER(e.label) = LOWER(:label)"):
        ids = [row["id"] for row in rows(tx, _NAMED.replace("{match}", match), label=subject)]
        if len(ids) > 1:
            shown = ", ".join(ids[:10]) + (", …" if len(ids) > 10 else "")
            raise ConfigError(f"several subjects are called {subject!r}: {shown}; give one of the ids")
        if ids:
            return str(ids[0])
    raise ConfigError(f"the store knows no subject called {subject!r}; try its Wikidata id, such as Q30")


def _print_changes(changes: list[dict[str, Any]]) -> None:
    if not changes:
        show.line("No changes.")
        return
    show.table(
        ["found (UTC)", "run", "change", "relation", "old", "new", "how", "outcome"],
        [
            [
                row["at"],
                row["run"],
                row["kind"],
                row["relation_label"] or row["relation"],
                row["old_label"] or row["old_object"],
                row["new_label"] or row["new_object"],
                row["reason"],
                row["outcome"],
            ]
            for row in changes
        ],
        title="Changes",
    )


def _print_edits(edits: list[dict[str, Any]]) -> None:
    if not edits:
        show.line("No edits.")
        return
    show.table(
        ["relation", "old", "new", "status", "p(new)", "the base model says", "the edited one says", "live (UTC)"],
        [
            [
                row["relation_label"] or row["relation"],
                row["old_object"],
                row["new_object"],
                f"{row['status']}: {row['reason']}" if row["reason"] else row["status"],
                _step(row["p_new_before"], row["p_new_after"]),
                row["said_before"],
                row["said_after"],
                _span(row),
            ]
            for row in edits
        ],
        title="Edits",
    )


def _step(before: float | None, after: float | None) -> str:
    return f"{show.words(before) or '?'} → {show.words(after) or '?'}"


def _span(row: dict[str, Any]) -> str:
    if row["live_from"] is None:
        return "never"
    until = show.words(row["live_until"]) or f"now ({row['checkpoint']})"
    return f"{show.words(row['live_from'])} – {until}"
