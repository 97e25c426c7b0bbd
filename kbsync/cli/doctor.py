"""`kbsync doctor`: is everything in place?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state, quieten
from kbsync.errors import ConfigError, KbsyncError

if TYPE_CHECKING:
    from kbsync.cli.checks import Check

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("fail", "bold red")}


@click.command("doctor", short_help="Check that everything is in place.")
@click.option("--offline", is_flag=True, help="Don't ask the endpoint.")
@json_option
@pass_state
def command(state: State, offline: bool) -> None:
    """Check everything that a sync needs, and say what to do about what is missing.

    What is asked for (relations, schedule), the store, this machine (packages, disk, port, service), the source
    and its clock, models and memory, and how syncs go: the daemon, a pause, the last run, what is overdue, what
    waits for you. Changes nothing. Ends with code 1 if something fails; warnings are no failure.

    \b
    Example:
      kbsync -c kbsync.toml doctor
    """
    quieten()
    found = []
    for check in _checks(state, offline):
        found.append(check)
        if not state.as_json:
            _print(check)
    failed = sum(check.level == "fail" for check in found)
    if state.as_json:
        show.as_json({"ok": not failed, "checks": found})
    elif not failed:
        show.line("ready to sync")
    if failed:
        show.error_line(f"{failed} of {len(found)} checks failed")
        click.get_current_context().exit(KbsyncError.exit_code)


def _checks(state: State, offline: bool) -> Iterator[Check]:
    from kbsync.cli.checks import Check, run_checks

    try:
        settings = state.settings()
    except ConfigError as error:
        yield Check("config", "fail", str(error), "correct it; docs/configuration.md has every setting")
        return
    yield Check("config", "ok", str(state.config) if state.config else "no file: defaults and environment")
    yield from run_checks(settings, offline)


def _print(check: Check) -> None:
    mark, style = _MARKS[check.level]
    show.line(f"{mark}  {check.name}: {check.text}", style if check.level != "ok" else "")
    if check.then:
        show.line(f"      → {check.then}")
