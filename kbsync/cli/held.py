"""`kbsync held`: what waits, why, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_CHANGES = """
SELECT id, way, subject, subject_label, relation, relation_label, object, object_label, reason, detail, changed_at,
       waits_until, first_run, held_at
FROM held_changes ORDER BY CASE WHEN waits_until IS NULL THEN 0 ELSE 1 END, waits_until, id
"""
_OTHERS = """
SELECT h.subject, h.subject_label, h.relation, h.relation_label, h.object, h.object_label, h.reason, h.first_run,
       h.held_at
FROM held_facts h
WHERE NOT EXISTS (
    SELECT 1 FROM held_changes c
    WHERE c.subject = h.subject AND c.relation = h.relation AND c.object = h.object
)
ORDER BY h.reason, h.subject
"""
_RUNS = """
SELECT r.id AS run, r.reason, r.ended_at FROM runs r
WHERE r.status = 'waiting' AND r.id = (SELECT MAX(id) FROM runs WHERE status <> 'running')
AND NOT EXISTS (SELECT 1 FROM trust_decisions d WHERE d.question_run = r.id)
"""


@click.command("held", short_help="What waits, why, and until when.")
@click.option("--reason", default=None, metavar="WORDS", help="Only what waits for this reason.")
@json_option
@pass_state
def command(state: State, reason: str | None) -> None:
    """Show what is held back, why, and until when.

    First changes of Wikidata that the trust filter holds, each with the id that `kbsync approve` and `kbsync
    reject` take: those that wait for an edit or for you, then the others by the time at which they are looked at
    again. Then facts that can't be edited for other reasons, and a run that waits for an approval.

    \b
    Example:
      kbsync held --reason "no reference"
    """
    with state.store() as store, store.read() as tx:
        found = _look(tx, reason)
    if state.as_json:
        show.as_json(found)
    else:
        _print(found)


def _look(tx: Session, reason: str | None) -> dict[str, Any]:
    from kbsync.cli import ledger

    changes = [{**row, "id": f"h{row['id']}"} for row in ledger.rows(tx, _CHANGES)]
    others = ledger.rows(tx, _OTHERS)
    if reason is not None:
        changes = [one for one in changes if reason in (one["reason"], *(one["detail"] or "").split(", "))]
        others = [one for one in others if one["reason"] == reason]
    return {"changes": changes, "facts": others, "runs": ledger.rows(tx, _RUNS)}


def _print(found: dict[str, Any]) -> None:
    if found["changes"]:
        show.table(
            ["id", "change", "subject", "relation", "object", "why", "until (UTC)"],
            [
                [
                    one["id"],
                    one["way"],
                    *_names(one),
                    one["detail"] or one["reason"],
                    one["waits_until"] or "by hand",
                ]
                for one in found["changes"]
            ],
            title="Changes of Wikidata that wait",
        )
    if found["facts"]:
        show.table(
            ["subject", "relation", "object", "why", "since (UTC)"],
            [[*_names(one), one["reason"], one["held_at"]] for one in found["facts"]],
            title="Facts that can't be edited",
        )
    for run in found["runs"]:
        show.line(f"run {run['run']} waits: {run['reason']}", "yellow")
    if not any(found.values()):
        show.line("Nothing is held.")


def _names(one: dict[str, Any]) -> list[str]:
    return [
        one["subject_label"] or one["subject"],
        one["relation_label"] or one["relation"],
        one["object_label"] or one["object"],
    ]
