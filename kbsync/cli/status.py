"""`kbsync status`: what is live, what runs, what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state

if TYPE_CHECKING:
    from kbsync.sync.watched import Watched


@click.command("status", short_help="What is live, what runs, what comes next.")
@click.option(
    "--runs", default=5, show_default=True, type=click.IntRange(0, 2**31 - 1), help="How many runs to show."
)
@json_option
@pass_state
def command(state: State, runs: int) -> None:
    """Show the live model, the daemon, the last runs, and what the store holds.

    \b
    Example:
      kbsync status --runs 20
    """
    from kbsync.sync.overview import as_data, status

    settings = state.settings()
    with state.store() as store, store.read() as tx:
        found = {"store": store.place.removeprefix("the store "), **status(tx, settings, runs)}
    if state.as_json:
        show.as_json(as_data(found))
    else:
        _print(found)


def _print(found: Mapping[str, Any]) -> None:
    from kbsync.cli.pause import words as pause_words

    live, daemon, running = found["live"], found["daemon"], found["running"]
    table = [
        ["store", found["store"]],
        [
            "live model",
            f"{live['checkpoint']}, {live['facts']} facts, since {show.words(live['since'])}"
            if live
            else "the base model",
        ],
        ["daemon", _daemon_words(daemon)],
        ["running", f"run {running['run']}, stage {running['stage'] or 'start'}" if running else "nothing"],
        ["watched", _watch_words(found["watch"])],
        ["facts", f"{sum(found['facts'].values())} in {len(found['facts'])} relations"],
        ["edit requests", _counts(found["requests"]) or "none"],
        ["held", _counts(found["held"]) or "none"],
    ]
    if found["kept_out"]:
        table.append(["kept out", f"{_counts(found['kept_out'])}; `kbsync held` lists them"])
    table.insert(3, ["reconcile", _reconcile_words(found["reconcile"])])
    if found["pause"] is not None:
        table.insert(3, ["paused", pause_words(found["pause"])])
    if found["room"] is not None:
        table.insert(2, ["room", found["room"].words()])
    for one in found["endpoints"]:
        if one["next_try_at"] is not None:
            words = f"{one['host']} is left alone until {show.words(one['next_try_at'])}: {one['reason']}"
            table.append(["next try", words])
    if found["triggers_waiting"]:
        table.append(["waiting", f"{found['triggers_waiting']} triggers"])
    show.table(["", ""], table, title="kbsync, times in UTC")
    if live and live["damage"] is not None:
        whole = live["answers"]
        stands_in = f"{whole} answers" if whole else "no other model is whole"
        other = f"--to {whole}` makes that one live" if whole else "--base` makes the base model live"
        show.line(
            f"warning: {live['damage']}; {stands_in}, and the next sync builds it again; if it can't, "
            f"`kbsync checkpoint rollback --keep-syncing {other}",
            "yellow",
        )
    if found["room"] is not None:
        for warning in found["room"].warnings():
            show.line(f"warning: {warning}", "yellow")
    if found["runs"]:
        _print_runs(found["runs"])


def _daemon_words(daemon: Mapping[str, Any] | None) -> str:
    if daemon is None or (not daemon["up"] and daemon["stopped_at"] is not None):
        return "not running; `kbsync run` starts one"
    where = f"process {daemon['pid']} on {daemon['host']}"
    if not daemon["up"]:
        return f"gone without a word: {where}, last seen {show.words(daemon['beat_at'])}; `kbsync run` starts one"
    following = f", next run {show.words(daemon['next_run_at'])}" if daemon["next_run_at"] else ""
    return f"up, {where}{following}"


def _reconcile_words(last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "never; `kbsync reconcile` makes one"
    different = _counts({kind: count for kind, count in last["divergences"].items() if count})
    kept = f"; nothing retired in {', '.join(last['kept'])}" if last["kept"] else ""
    return f"run {last['run']}, {show.words(last['ended_at'])}: {different or 'no divergence'}{kept}"


_FEW = 3  # relations that are named; of more there is a number, and `kbsync watch list` has them all


def _watch_words(watched: Sequence[Watched]) -> str:
    """How many relations, and whose first pull is not complete."""
    begun = [one for one in watched if one.backfill not in ("done", "to come")]
    left = [f"{one.relation} {one.backfill}, {one.subjects_read or 0} subjects read" for one in begun]
    waiting = [one.relation for one in watched if one.backfill == "to come"]
    if waiting:
        left.append(f"{', '.join(waiting) if len(waiting) <= _FEW else len(waiting)} to come")
    rest = f"; first pull: {'; '.join(left)}" if left else ""
    return f"{len(watched)} relations{rest}" if watched else "nothing; `kbsync watch add` adds relations"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _print_runs(runs: list[dict[str, Any]]) -> None:
    show.table(
        ["run", "by", "status", "started", "time", "changes", "said", "perplexity", "facts", "reason"],
        [
            [
                run["run"],
                run["trigger"],
                run["status"],
                run["started_at"],
                show.duration(run["seconds"]) if run["seconds"] is not None else "",
                f"+{run['added'] or 0} ~{run['replaced'] or 0} -{run['retired'] or 0}",
                run["efficacy_accuracy"],
                f"×{run['perplexity_ratio']:.3f}" if run["perplexity_ratio"] is not None else "",
                run["facts"],
                run["reason"],
            ]
            for run in runs
        ],
        title="Runs (changes: + added, ~ replaced, - retired; said: share of edits that greedy decoding says)",
        numbers=["run", "time", "said", "perplexity", "facts"],
    )
