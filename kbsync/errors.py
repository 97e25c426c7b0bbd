"""Every error that kbsync raises on purpose.

    KbsyncError                     anything that kbsync can name; one line, no traceback
    ├── ConfigError                 a setting, file or argument is wrong
    ├── SourceError                 the SPARQL endpoint could not be read; the cursor stays where it was
    │   ├── EndpointDown            no connection, a timeout, or a 5xx after all retries
    │   ├── Throttled               429, or 403 with a ban; carries the seconds to wait
    │   │   └── CircuitOpen         it refused before, and is left alone until a time; nothing was asked
    │   ├── BadAnswer               not SPARQL JSON, cut short, or over the size cap
    │   └── BadDump                 a dump is cut short, damaged, or of another format; nothing of it was loaded
    ├── StoreError                  the database could not be used
    │   └── SchemaMismatch          the store is at an older or a newer schema than this program
    ├── ModelError                  the base model could not be loaded, or its family is not supported
    ├── EditError                   a solve failed: singular system, contradiction, non-finite numbers
    │   └── NotFinite               a z, or a weight made of it, is NaN, infinite or beyond its type
    │       └── BrokenTarget        a stored z is; it is forgotten, and the next sync solves it again
    ├── CheckpointError             a checkpoint could not be written, or is not what its manifest says
    ├── GateRefused                 the candidate failed the gate; the published model is untouched
    ├── NotRunning                  no daemon answers
    ├── LeaseHeld               another process has the lease: it runs now, or took over from this one
    ├── ApprovalNeeded              a run would change too much of the live set at once, and asks
    └── Stopped                     the user or a signal asked to stop; what was committed stays

Each class has the exit code that the command line ends with; `docs/cli.md` lists them.
"""

from __future__ import annotations


class KbsyncError(Exception):
    """Anything that kbsync can name. Its text is one line: what happened, to what, and what to do next."""

    exit_code = 1


class ConfigError(KbsyncError):
    """A setting, file or argument is wrong; nothing was started."""

    exit_code = 2


class SourceError(KbsyncError):
    """The SPARQL endpoint could not be read; no cursor has moved."""

    exit_code = 3


class EndpointDown(SourceError):
    """No connection, a timeout, or a server error after all retries."""


class Throttled(SourceError):
    """The endpoint refuses us for now (429, or 403 with a ban)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CircuitOpen(Throttled):
    """The endpoint refused us before and is left alone until a time; nothing was asked."""


class BadAnswer(SourceError):
    """The endpoint answered with something that is not whole SPARQL JSON, or is over the size cap."""


class BadDump(SourceError):
    """A dump is cut short, damaged, or not in the format that it claims."""


class StoreError(KbsyncError):
    """The database could not be used."""

    exit_code = 4


class SchemaMismatch(StoreError):
    """The store's schema is older or newer than this program's."""


class ModelError(KbsyncError):
    """The base model could not be loaded, or its family is not supported."""

    exit_code = 5


class EditError(KbsyncError):
    """A solve failed: a singular system, a contradiction, or numbers that are not finite."""

    exit_code = 6


class NotFinite(EditError):
    """A z, or a weight made of it, holds NaN or infinity, or numbers beyond what its type can hold."""


class BrokenTarget(NotFinite):
    """A stored z holds NaN or infinity; it is forgotten, and the next sync solves it again."""


class GateRefused(KbsyncError):
    """The candidate failed the gate; the published model is untouched."""

    exit_code = 7


class CheckpointError(KbsyncError):
    """A checkpoint could not be written, or is not what its manifest says."""

    exit_code = 8


class NotRunning(KbsyncError):
    """No daemon answers on this store."""

    exit_code = 9


class ApprovalNeeded(KbsyncError):
    """A run would change too much of the live set at once, and asks; the published model is untouched."""

    exit_code = 10


class LeaseHeld(KbsyncError):
    """Another process has the lease: it runs now, or it took over while this one was paused or cut off."""

    exit_code = 11


class Stopped(KbsyncError):
    """The user or a signal asked to stop; what was committed stays."""

    exit_code = 130


def one_line(text: str) -> str:
    """A text with anything that can't be printed, such as a line break, as an escape: it may come from a file."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
