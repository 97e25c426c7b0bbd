"""What the commands share: which settings, how much to log, and whether to print for a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kbsync.redact import Secrets, secrets_in

if TYPE_CHECKING:
    from kbsync.settings import Settings
    from kbsync.store.engine import Store
    from kbsync.sync.progress import Progress
    from kbsync.sync.workbench import Workbench

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class State:
    """One call of `kbsync`. `stays` ends the line that an interrupt prints; `secrets` are what nothing may tell."""

    config: Path | None = None
    verbose: int = 0
    as_json: bool = False
    stays: str = "nothing was changed"
    secrets: Secrets = field(default_factory=lambda: Secrets(secrets_in(os.environ)))

    def settings(self) -> Settings:
        """Read the settings, and begin to log. Raises ConfigError."""
        from kbsync.settings import load_settings, secrets_of

        self.log()
        settings = load_settings(self.config)
        self.secrets.learn(secrets_of(settings))
        return settings

    def log(self, level: int = 0) -> None:
        """Log to stderr: warnings, or more with -v. `level` counts as so many -v."""
        from kbsync.cli.log import set_up

        set_up(max(self.verbose, level), self.secrets.mask)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, for commands that only look: one that isn't there is an error. Raises StoreError."""
        from kbsync.store.engine import open_store

        with open_store(self.settings().store.url, create=False) as store:
            yield store

    @contextmanager
    def bench(self) -> Iterator[Workbench]:
        """Everything that needs the model. Raises the KbsyncError of whatever can't be opened."""
        from kbsync.errors import Stopped
        from kbsync.sync.stopping import ending_in_time
        from kbsync.sync.workbench import Workbench

        quieten()
        settings = self.settings()
        with (
            ending_in_time(settings.store.url, Stopped.exit_code),
            Workbench(settings, self.progress()) as bench,
        ):
            yield bench

    def progress(self) -> Progress:
        """Bars on a terminal; lines elsewhere, where a program that reads JSON gets none."""
        from kbsync.cli.progress import Bars, Lines
        from kbsync.sync.progress import Silent

        if sys.stderr.isatty():
            return Bars()
        return Silent() if self.as_json else Lines()


def quieten() -> None:
    """Keep the libraries' own progress bars off stderr, unless the user has asked for them."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")  # reading a GGUF file draws a bar that nothing else turns off
    if "transformers" in sys.modules:  # which has read the environment by then
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]


pass_state = click.make_pass_decorator(State)


class Utf8(click.ParamType[str]):
    """A text for a database or a tokenizer, which take no others; a shell passes on whatever bytes it is given."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value, if it is one. Raises BadParameter."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail("it has bytes that are not UTF-8.", param, ctx)
        return value


def json_option(command: Command) -> Command:
    """`--json`: one JSON document on stdout, and errors in the same place."""

    def note(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        ctx.ensure_object(State).as_json = value

    option = click.option(
        "--json", is_flag=True, is_eager=True, expose_value=False, callback=note, help="Print JSON, errors too."
    )
    return option(command)
