"""How a command ends when it fails: one line on stderr, one error shape in JSON, one exit code per kind."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Sequence

import click

from kbsync.cli import show
from kbsync.cli.state import State
from kbsync.errors import KbsyncError, Stopped

UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h: a failure that kbsync has no name for


def exit_code_of(call: Callable[[], object], state: State, words: Sequence[str]) -> int:
    """Run `call` and tell of its failure, if it fails. An int that it returns is the exit code.

    Nothing of what is told holds a secret that `state` knows of.
    """
    hide = state.secrets.mask
    try:
        result = call()
    except KbsyncError as error:
        if state.verbose:
            _print_traceback(hide)
        return tell(type(error).__name__, hide(_one_line(error)), error.exit_code, as_json=state.as_json)
    except click.Abort:
        return tell("Stopped", "stopped; nothing was started", Stopped.exit_code, as_json=state.as_json)
    except click.ClickException as error:
        as_json = state.as_json or "--json" in words  # a faulty line may end before --json is read
        return tell("UsageError", hide(_usage(error)), error.exit_code, as_json=as_json)
    except Exception as error:  # the last resort: whatever nobody has named
        if state.verbose:
            _print_traceback(hide)
        hint = "" if state.verbose else "; `kbsync -v` and the same command shows the traceback"
        message = f"unexpected {type(error).__name__}: {hide(_one_line(error)) or 'no message'}{hint}"
        return tell(type(error).__name__, message, UNEXPECTED, as_json=state.as_json)
    return result if isinstance(result, int) else 0


def tell(kind: str, message: str, exit_code: int, *, as_json: bool) -> int:
    """Print the failure; returns `exit_code`."""
    sys.stdout.flush()
    show.error_line(message)
    if as_json:
        click.echo(show.json_text({"error": error_object(kind, message, exit_code)}))
    return exit_code


def error_object(kind: str, message: str, exit_code: int) -> dict[str, str | int]:
    """The one shape of an error in JSON."""
    return {"kind": kind, "message": message, "exit_code": exit_code}


def exit_code_lines() -> str:
    """All exit codes, a line each, from the error tree."""
    lines = ["    0  done"]
    kinds: list[type[KbsyncError]] = [KbsyncError, *KbsyncError.__subclasses__()]
    for cls in sorted(kinds, key=lambda one: one.exit_code):
        lines.append(f"  {cls.exit_code:>3}  {cls.__name__}: {_first_sentence(cls)}")
    lines.insert(-1, f"  {UNEXPECTED:>3}  Something unexpected, which is a defect of kbsync: please report it.")
    return "\n".join(lines)


def _first_sentence(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").partition(". ")[0].rstrip(".") + "."


def _print_traceback(hide: Callable[[str], str]) -> None:
    """The traceback of the exception that is handled. What an error says may come from outside."""
    lines = hide(traceback.format_exc()).splitlines()
    click.echo("\n".join(map(show.printable, lines)), err=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _usage(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    ctx = getattr(error, "ctx", None)
    return text if ctx is None else f"{text} See `{ctx.command_path} --help`."
