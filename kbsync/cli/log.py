"""Logs on stderr: lines for people on a terminal, JSON lines for everything else."""

from __future__ import annotations

import logging
import sys

import structlog

from kbsync.cli.show import printable


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at that moment: a progress bar replaces it to keep lines above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _plain(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Every text of a line without characters that could steer a terminal, which a log may end on."""
    return {key: _spelt(value) for key, value in event.items()}


def _spelt(value: object) -> object:
    if isinstance(value, str):
        return "\n".join(map(printable, value.split("\n")))
    if isinstance(value, dict):
        return {_spelt(key): _spelt(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_spelt(one) for one in value]
    return value


def set_up(verbose: int) -> None:
    """Log warnings; with `verbose` 1 also what kbsync does, with 2 everything, the libraries' words included."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor]  # tracebacks without the values of local variables, maybe secrets
    if sys.stderr.isatty():
        render = [structlog.processors.format_exc_info, _plain, structlog.dev.ConsoleRenderer()]
    else:
        told = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        render = [
            structlog.processors.ExceptionRenderer(told),
            _plain,
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
