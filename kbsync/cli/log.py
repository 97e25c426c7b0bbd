"""Logs on stderr: lines for people on a terminal, JSON lines for everything else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import structlog

from kbsync.cli.show import printable
from kbsync.redact import mask


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at that moment: a progress bar replaces it to keep lines above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _harmless(hide: Callable[[str], str]) -> structlog.typing.Processor:
    """Every text of a line without secrets, and without characters that could steer the terminal it may end on."""

    def spelt(value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {spelt(key): spelt(one) for key, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [spelt(one) for one in value]
        return "\n".join(map(printable, hide(value if isinstance(value, str) else str(value)).split("\n")))

    def process(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {key: spelt(value) for key, value in event.items()}

    return process


def set_up(verbose: int, hide: Callable[[str], str] = mask) -> None:
    """Log warnings; with `verbose` 1 also what kbsync does, with 2 everything, the libraries' words included.

    `hide` takes the secrets out of a text.
    """
    harmless = _harmless(hide)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor]  # tracebacks without the values of local variables, maybe secrets
    if sys.stderr.isatty():
        render = [structlog.processors.format_exc_info, harmless, structlog.dev.ConsoleRenderer()]
    else:
        told = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        render = [
            structlog.processors.ExceptionRenderer(told),
            harmless,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    structlog.configure(
        processors=[*steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
            foreign_pre_chain=[*steps, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(level=logging.DEBUG if verbose > 1 else logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("kbsync").setLevel(level)
