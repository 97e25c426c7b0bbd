"""`kbsync held`: what waits, why, and until when."""

from __future__ import annotations

from typing import Any

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state


@click.command("held", short_help="What waits, why, and until when.")
@click.option("--reason", default=None, metavar="WORDS", help="Only what waits for this reason.")
@json_option
@pass_state
def command(state: State, reason: str | None) -> None:
    """Show what is held back, why, and until when.

    First changes of Wikidata that the trust filter holds, each with the id that `kbsync approve` and `kbsync
    reject` take: those that wait for an edit or for you, then the others by the time at which they are looked at
    again. Then facts that the gate or a rollback keeps out, with what speaks against them and the ids that `kbsync
    release` takes; facts that can't be edited for other reasons; and a run that waits for an approval.

    \b
    Example:
      kbsync held --reason "no reference"
    """
    from kbsync.sync.overview import held

    with state.store() as store, store.read() as tx:
        found = held(tx, reason)
    if state.as_json:
        show.as_json(found)
    else:
        _print(found)


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
    if found["kept_out"]:
        show.table(
            ["id", "kept out", "subject", "relation", "object", "why", "run", "since (UTC)"],
            [
                [one["id"], one["kind"], *_names(one), one["reason"], one["run"], one["kept_out_at"]]
                for one in found["kept_out"]
            ],
            title="Facts that are kept out of the model; kbsync release lets them in",
            numbers=["run"],
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
        one["object_label"] or one["object"] or "nothing",
    ]
