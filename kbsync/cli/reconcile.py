"""`kbsync reconcile`: compare everything tracked with Wikidata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import report, show
from kbsync.cli.failures import error_object
from kbsync.cli.state import State, json_option, pass_state
from kbsync.errors import SourceError

if TYPE_CHECKING:
    from kbsync.sync.reconcile import ReconcileReport


@click.command("reconcile", short_help="Compare everything tracked with Wikidata.")
@click.argument("relations", nargs=-1)
@click.option("--alone", is_flag=True, help="Leave out the pull of what changed since the last one.")
@click.option("--anew", is_flag=True, help="Begin with the first relation, also after a pass that was cut off.")
@json_option
@pass_state
def command(state: State, relations: tuple[str, ...], alone: bool, anew: bool) -> None:
    """Compare everything tracked with Wikidata, and put the store right.

    Reads all statements of the watched relations (or of RELATIONS), not only what changed: finds what no pull of
    changes can see, such as deleted, merged and undeleted items. How much differed is counted by kind. The next
    sync edits what follows from it. Interrupted, the next one goes on with the relations that are left. Ends with
    code 3 when relations could not be compared whole; of those nothing is retired.

    \b
    Example:
      kbsync reconcile
      kbsync reconcile P6 P35
    """
    from kbsync.sync.reconcile import reconcile_once

    state.stays = "what was compared stays, and the next reconcile goes on from there"
    with state.bench() as bench:
        done = reconcile_once(bench, relations=relations, alone=alone, anew=anew)
    message = state.secrets.mask(f"reconcile {done.run_id}: {done.reason}")
    if state.as_json:
        error = error_object("SourceError", message, SourceError.exit_code)
        show.as_json({**_as_data(done), **({"error": error} if done.kept else {})})
    else:
        _print(done)
    if done.kept:
        show.error_line(message)
        click.get_current_context().exit(SourceError.exit_code)


def _as_data(done: ReconcileReport) -> dict[str, Any]:
    return {
        "run": done.run_id,
        "status": done.status,
        "reason": done.reason,
        "seconds": done.seconds,
        "divergences": {str(kind): count for kind, count in done.divergences.items()},
        "relations": [
            {
                "relation": one.relation,
                "outcome": one.outcome,
                "reason": one.reason,
                "subjects": one.subjects,
                "statements": one.statements,
                "divergences": {str(kind): count for kind, count in one.counts.items()},
            }
            for one in done.relations
        ],
        "skipped": done.skipped,
        "counts": done.counts,
    }


def _print(done: ReconcileReport) -> None:
    show.line(f"reconcile {done.run_id}: {len(done.relations)} relations ({show.duration(done.seconds)})", "bold")
    show.table(
        ["divergence", "count"],
        [[str(kind), count] for kind, count in done.divergences.items()],
        title="What differed, and was put right",
        numbers=["count"],
    )
    rows = [
        [one.relation, one.subjects, one.statements, sum(one.counts.values()), one.outcome, one.reason]
        for one in done.relations
    ]
    rows += [
        [relation, None, None, None, f"completed in run {run}", None] for relation, run in done.skipped.items()
    ]
    show.table(
        ["relation", "subjects", "statements", "divergences", "outcome", "reason"],
        rows,
        numbers=["subjects", "statements", "divergences"],
    )
    show.line(report.counts_in_words(done.counts))
