"""The root of the command line: which commands there are, and where their modules lie.

`kbsync --help` must answer at once, so this module and the top level of every command's module import nothing
but click, the standard library and the error tree. What a command works with is imported inside it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from kbsync import __version__
from kbsync.cli.failures import exit_code_lines, exit_code_of
from kbsync.cli.state import State
from kbsync.errors import Stopped

COMMANDS = {
    "demo": "kbsync.cli.demo",
    "doctor": "kbsync.cli.doctor",
    "config": "kbsync.cli.config",
    "watch": "kbsync.cli.watch",
    "load": "kbsync.cli.load",
    "sync": "kbsync.cli.sync",
    "reconcile": "kbsync.cli.reconcile",
    "run": "kbsync.cli.run",
    "serve": "kbsync.cli.serve",
    "trigger": "kbsync.cli.trigger",
    "pause": "kbsync.cli.pause",
    "resume": "kbsync.cli.resume",
    "status": "kbsync.cli.status",
    "history": "kbsync.cli.history",
    "held": "kbsync.cli.held",
    "approve": "kbsync.cli.approve",
    "reject": "kbsync.cli.reject",
    "release": "kbsync.cli.release",
    "sql": "kbsync.cli.sql",
    "ask": "kbsync.cli.ask",
    "checkpoint": "kbsync.cli.checkpoint",
    "covariance": "kbsync.cli.covariance",
    "trace": "kbsync.cli.trace",
    "prune": "kbsync.cli.prune",
    "db": "kbsync.cli.db",
    "token": "kbsync.cli.token",
    "tune": "kbsync.cli.tune",  # like the next one
    "bench": "kbsync.cli.bench",  # left out of installations without it
}


class Root(click.Group):
    """`kbsync` itself: imports a command when it is asked for, and turns every failure into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a new user meets them."""
        del ctx
        return [name for name, module in COMMANDS.items() if importlib.util.find_spec(module) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The module's `command`."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an interrupt says what stays."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(f"stopped; {ctx.ensure_object(State).stays}") from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse, run and exit with the code of whatever happened (returned, without `standalone_mode`)."""
        words = list(sys.argv[1:] if args is None else args)
        state = State()

        def run() -> object:
            return super(Root, self).main(
                words, prog_name or "kbsync", complete_var, standalone_mode=False, obj=state, **extra
            )

        code = exit_code_of(run, state, words)
        if standalone_mode:
            sys.exit(code)
        return code


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExit codes:\n" + exit_code_lines(),
)
@click.version_option(__version__, message="kbsync %(version)s")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with the settings. Without one: the defaults, and KBSYNC_<SECTION>__<KEY> in the environment.",
    envvar="KBSYNC_CONFIG",
    show_envvar=True,
)
@click.option("-v", "--verbose", count=True, help="Log more to stderr; -vv for all. Shows tracebacks too.")
@click.pass_obj
def cli(state: State, config: Path | None, verbose: int) -> None:
    """Keep a language model's facts in line with Wikidata.

    \b
    Try it without a network:
      kbsync demo
    Use it:
      kbsync config example wikidata > kbsync.toml
      kbsync -c kbsync.toml doctor
      kbsync -c kbsync.toml sync
      kbsync -c kbsync.toml ask "The prime minister of Japan is"
    """
    state.config, state.verbose = config, verbose


def main() -> NoReturn:
    """The entry point of the `kbsync` program. SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a stream that was replaced
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # ASCII terminals
    cli.main()
    raise AssertionError("click exits")


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
