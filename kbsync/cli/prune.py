"""`kbsync prune`: remove what is beyond its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state
from kbsync.cli.trigger import whoami

if TYPE_CHECKING:
    from kbsync.sync.pruning import Pruned


@click.command("prune", short_help="Remove what is beyond its limits.")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and what that frees.")
@json_option
@pass_state
def command(state: State, dry_run: bool) -> None:
    """Remove checkpoints, outcomes, z and runs that are beyond the limits of [retention].

    What the live model, a rollback, or the rebuild of a checkpoint that stays needs is never removed, and neither
    is what Wikidata said. The daemon does this by itself, once a day.

    \b
    Example:
      kbsync prune --dry-run
    """
    from kbsync.sync.pruning import look, prune

    settings = state.settings()
    with state.store() as store:
        found = look(store, settings) if dry_run else prune(store, settings, whoami())
    if state.as_json:
        show.as_json({"dry_run": dry_run, **as_data(found)})
    else:
        _print(found, dry_run)


def as_data(found: Pruned) -> dict[str, Any]:
    """What went, for programs."""
    survey = found.survey
    statuses = [str(status) for status in survey.runs.values()]
    return {
        "checkpoints": [one.name for one in survey.checkpoints],
        "outcomes": survey.outcome_rows,
        "targets": len(survey.targets),
        "runs": {status: statuses.count(status) for status in sorted(set(statuses))},
        "thinned": len(survey.thinned) - len(survey.runs),
        "strays": [str(path) for path in found.strays],
        "bytes": found.bytes,
    }


def _print(found: Pruned, dry_run: bool) -> None:
    survey = found.survey
    names = ", ".join(one.name for one in survey.checkpoints)
    strays = ", ".join(path.name for path in found.strays)
    on_disk = sum(one.bytes for one in survey.checkpoints)
    outcome_bytes = sum(size for _, size in survey.outcomes.values())
    show.table(
        ["what", "how many", "frees", "which"],
        [
            ["checkpoints", len(survey.checkpoints), show.size(on_disk), names],
            ["folders without a row", len(found.strays), show.size(found.stray_bytes), strays],
            ["outcomes", survey.outcome_rows, show.size(outcome_bytes), f"of {len(survey.outcomes)} runs"],
            ["z", len(survey.targets), show.size(sum(one.bytes for one in survey.targets)), ""],
            ["runs", len(survey.runs), show.size(survey.run_bytes), _thinned(found)],
        ],
        numbers=["how many", "frees"],
        title="What would go" if dry_run else "Pruned",
    )
    show.line(f"{'would free' if dry_run else 'freed'} {show.size(found.bytes)}, what lies in the database about")


def _thinned(found: Pruned) -> str:
    more = len(found.survey.thinned) - len(found.survey.runs)
    return f"and the details of {more} that are referred to" if more else ""
