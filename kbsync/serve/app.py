"""The routes. Each is a few lines: what it answers is worked out in `kbsync/sync/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException

from kbsync import __version__
from kbsync.errors import ConfigError, KbsyncError, LeaseHeld, NotRunning, StoreError
from kbsync.plain import plain
from kbsync.serve.exposition import Exposition
from kbsync.serve.guard import Application, Guard
from kbsync.serve.health import hung, reasons
from kbsync.serve.view import View
from kbsync.settings import secrets_of
from kbsync.store import daemons, triggers
from kbsync.store.tables import Wants
from kbsync.sync import deciding, overview
from kbsync.sync.clock import now

T = TypeVar("T")

log = structlog.get_logger("kbsync")

_CODES: tuple[tuple[type[KbsyncError], int], ...] = (
    (ConfigError, 400), (LeaseHeld, 409), (NotRunning, 503), (StoreError, 503),
)  # fmt: skip


_WORDS = {400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed"}


class Decision(BaseModel):
    """What `kbsync approve` and `kbsync reject` take."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=1000)
    why: str | None = Field(None, max_length=2000)


def make_app(view: View) -> Application:
    """The application with its guard. Everything is read from `view` when it is asked for."""
    app = FastAPI(title="kbsync", version=__version__, docs_url=None, redoc_url=None)
    _add_health(app, view)
    _add_reads(app, view)
    _add_writes(app, view)
    _add_errors(app, secrets_of(view.settings).mask)
    return Guard(app, view)


def _add_health(app: FastAPI, view: View) -> None:
    exposition = Exposition(view)

    @app.get("/healthz")
    def healthz(request: Request) -> Response:
        """200 while the process works, 503 when its work stands still."""
        why = hung(view)
        return _state("alive" if why is None else "hung", [] if why is None else [why], request)

    @app.get("/readyz")
    def readyz(request: Request) -> Response:
        """200 while the store and the live model are in order, 503 with the reasons otherwise."""
        found = reasons(view)
        return _state("not ready" if found else "ready", found, request)

    @app.get("/metrics")
    def metrics() -> Response:
        """All figures, for Prometheus."""
        return Response(exposition.text(), media_type=CONTENT_TYPE_LATEST)


def _state(word: str, why: list[str], request: Request) -> Response:
    """Strangers are told whether, and those who may read are told why."""
    told = {"reasons": why} if request.state.may_read else {}
    return JSONResponse({"status": word, **told}, 503 if why else 200)


def _add_reads(app: FastAPI, view: View) -> None:
    @app.get("/status")
    def status(runs: int = Query(5, ge=0, le=1000)) -> Response:
        """What `kbsync status --json` prints, without the store's address, and this process's role."""
        with view.door.read() as tx:
            return _json({"role": view.role, **overview.as_data(overview.status(tx, view.settings, runs))})

    @app.get("/runs")
    def runs(limit: int = Query(20, ge=1, le=1000)) -> Response:
        """The last runs, newest first."""
        with view.door.read() as tx:
            return _json({"runs": overview.newest_runs(tx, limit)})

    @app.get("/runs/{run}")
    def run(run: int) -> Response:
        """One run with its stages, metrics and verdicts."""
        return _json(_numbered(view, "run", run, overview.run_in_full))

    @app.get("/held")
    def held(reason: str | None = None) -> Response:
        """What waits, why, and until when."""
        with view.door.read() as tx:
            return _json(overview.held(tx, reason))

    @app.get("/triggers/{trigger}")
    def trigger(trigger: int) -> Response:
        """What became of a request for a run."""
        found = _numbered(view, "trigger", trigger, triggers.find)
        return _json({"trigger": found.id, "wants": found.wants, "run": found.taken_run, "done_at": found.done_at})


def _numbered(view: View, kind: str, number: int, look: Callable[[Session, int], T | None]) -> T:
    """What the store has of this number. Raises HTTPException where there is nothing, or no id is so large."""
    with view.door.read() as tx:
        found = look(tx, number) if 0 < number < 2**31 else None
    if found is None:
        raise HTTPException(404, f"there is no {kind} {number}")
    return found


def _add_writes(app: FastAPI, view: View) -> None:
    def ask(request: Request, wants: Wants) -> Response:
        with view.door.write() as tx:
            if not daemons.up(tx, now()):
                raise NotRunning("no daemon is up on the store; `kbsync run` starts one")
            number = triggers.request(tx, _who(request), now(), wants)
        return _json({"trigger": number}, 202)

    @app.post("/trigger", status_code=202)
    def trigger(request: Request) -> Response:
        """Ask the daemon for a sync now."""
        return ask(request, Wants.SYNC)

    @app.post("/reconcile", status_code=202)
    def reconcile(request: Request) -> Response:
        """Ask the daemon for a full comparison with Wikidata."""
        return ask(request, Wants.RECONCILE)

    @app.post("/approve")
    def approve(request: Request, decision: Decision = Body()) -> Response:  # noqa: B008  the framework's way
        """Let held changes, or a run that asks, go on."""
        with view.door.write() as tx:
            done = deciding.approve(tx, decision.ids, _who(request), decision.why, now())
        return _json({"approved": done})

    @app.post("/reject")
    def reject(request: Request, decision: Decision = Body()) -> Response:  # noqa: B008
        """Keep held changes out for good."""
        with view.door.write() as tx:
            done = deciding.reject(tx, decision.ids, _who(request), decision.why, now())
        return _json({"rejected": done})


def _who(request: Request) -> str:
    """Who asks, for the ledger."""
    return f"token {request.state.token}"


def _json(value: object, status: int = 200) -> Response:
    return JSONResponse(plain(value), status)


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"kind": kind, "message": message}}, status)


def _add_errors(app: FastAPI, hide: Callable[[str], str]) -> None:
    """One shape for all errors, and nothing of the inside of a failure that has no name."""

    @app.exception_handler(KbsyncError)
    def named(_request: Request, error: KbsyncError) -> Response:
        code = next((code for cls, code in _CODES if isinstance(error, cls)), 500)
        return _error(code, type(error).__name__, hide(" ".join(str(error).split())))

    @app.exception_handler(HTTPException)
    def plain_http(_request: Request, error: HTTPException) -> Response:
        return _error(error.status_code, _WORDS.get(error.status_code, "HTTPError"), str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _error(422, "BadRequest", f"{where}: {first['msg']}")

    @app.exception_handler(Exception)
    def unnamed(request: Request, error: Exception) -> Response:
        log.error("a request failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
        return _error(500, "InternalError", "something unexpected failed; the log has it")
