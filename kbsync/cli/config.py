"""`kbsync config`: the settings in force, and files to start from."""

from __future__ import annotations

import click

from kbsync.cli import show
from kbsync.cli.state import State, json_option, pass_state

EXAMPLES = {
    "wikidata": "wikidata.toml",
    "embedded": "embedded.toml",
    "relations": "relations.toml",
    "systemd": "kbsync.service",
}


@click.group("config", short_help="Show the settings; print files to start from.")
def command() -> None:
    """Show the settings, and print files to start from.

    \b
    Example:
      kbsync config example wikidata > kbsync.toml
    """


@command.command("show", short_help="Every setting in force, and where it comes from.")
@json_option
@pass_state
def show_settings(state: State) -> None:
    """Show every setting in force and where it comes from: the default, the file, or the environment.

    The output is a TOML file by itself. Passwords are masked, and relative paths resolved.

    \b
    Example:
      KBSYNC_EDIT__STEPS=20 kbsync -c kbsync.toml config show
    """
    from kbsync.cli.origins import as_toml, effective

    found = list(effective(state.settings(), state.config))
    if not state.as_json:
        click.echo(as_toml(found))
        return
    sections: dict[str, dict[str, object]] = {}
    for one in found:
        sections.setdefault(one.section, {})[one.key] = {"value": one.value, "origin": one.origin}
    show.as_json(sections)


@command.command("example", short_help="Print a file to start from.")
@click.argument("name", type=click.Choice(list(EXAMPLES)))
def example(name: str) -> None:
    """Print a file that ships with kbsync, to save and change.

    `wikidata` are settings for the public query service, `embedded` those of the demo, `relations` is the
    catalogue of prompts (docs/relations.md), `systemd` a unit for the daemon.

    \b
    Example:
      kbsync config example wikidata > kbsync.toml
    """
    from kbsync.settings import share

    click.echo(share(f"config/{EXAMPLES[name]}").read_text(encoding="utf-8"), nl=False)
