"""What `kbsync doctor` looks at: each check ends in ok, warn or fail, and says what to do next."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from kbsync.cli.show import size, words
from kbsync.errors import KbsyncError, SchemaMismatch
from kbsync.settings import Settings

if TYPE_CHECKING:
    from kbsync.facts import EndpointState

Level = Literal["ok", "warn", "fail"]

LITTLE_DISK = 2e9  # bytes: a base model, its covariances and some checkpoints need more
NO_DISK = 2e8
OLD_S = 3600.0  # seconds that the endpoint's data may lag before a warning
ENDPOINT_WAIT_S = 20.0
PUBLIC_SERVICE = "wikidata.org"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report. `then` is the next command or setting, where something is wrong."""

    name: str
    level: Level
    text: str
    then: str = ""


Looker: TypeAlias = Callable[[Settings], Iterator[Check]]


def run_checks(settings: Settings, offline: bool) -> Iterator[Check]:
    """All checks in order, each as soon as it is done. An error that a check meets is its result."""
    from kbsync.cli.model_checks import check_checkpoint, check_model

    lookers: dict[str, Looker] = {
        "watch": check_watch,
        "store": check_store,
        "folders": check_folders,
        "endpoint": check_endpoint,
        "model": check_model,
        "daemon": check_daemon,
        "room": check_room,
        "checkpoint": check_checkpoint,
    }
    for name, look in lookers.items():
        if name == "endpoint" and offline:
            yield Check(name, "ok", "not asked (--offline)")
            continue
        try:
            yield from look(settings)
        except KbsyncError as error:
            yield Check(name, "fail", " ".join(str(error).split()))


def check_watch(settings: Settings) -> Iterator[Check]:
    """The catalogue can be read, and has words for what is watched."""
    from kbsync.request.catalogue import load_catalogue

    catalogue = load_catalogue(settings.watch.catalogue)
    yield Check("catalogue", "ok", f"{len(catalogue.relations)} relations in {settings.watch.catalogue}")
    watched = _watched(settings)
    strange = [relation for relation in watched if relation not in catalogue]
    if not watched:
        then = 'set watch.relations, such as ["P6", "P35"], or `kbsync watch add P6`'
        yield Check("watch", "fail", "no relation is watched", then)
    elif strange:
        text = f"{len(watched)} relations, {len(strange)} without prompts of their own: {', '.join(strange)}"
        yield Check(
            "watch", "warn", text, "add them to the catalogue (docs/relations.md); plain prompts do till then"
        )
    else:
        yield Check("watch", "ok", f"{len(watched)} relations, each with prompts")


def _watched(settings: Settings) -> tuple[str, ...]:
    """The relations of the file, and those that commands have added. Raises ConfigError for a filter of theirs."""
    from kbsync.store import schema
    from kbsync.store.engine import open_store
    from kbsync.sync import watching

    found = watching.of_file(settings)
    if schema.check(settings.store.url) is schema.SchemaState.CURRENT:
        with open_store(settings.store.url, create=False) as store, store.read() as tx:
            found = watching.watches(tx, settings)
    watching.check(found.values())
    return tuple(found)


def check_store(settings: Settings) -> Iterator[Check]:
    """The store can be reached, and has this program's schema."""
    from kbsync.store import schema
    from kbsync.store.connect import parse_url, place

    where = place(parse_url(settings.store.url)).removeprefix("the store ")
    state = schema.check(settings.store.url)
    if state is schema.SchemaState.EMPTY:
        yield Check("store", "ok", f"{where} is not there yet; the first sync makes it")
        return
    try:
        schema.refuse(state, "it")
    except SchemaMismatch as error:
        then = "kbsync db upgrade" if state is schema.SchemaState.OLDER else ""
        yield Check("store", "fail", f"{where}: {error}", then)
        return
    yield Check("store", "ok", f"{where}, schema up to date")


def check_folders(settings: Settings) -> Iterator[Check]:
    """The folders can be written, and their disks have room."""
    from kbsync.store.connect import parse_url

    folders = {"model.cache": settings.model.cache, "checkpoint.folder": settings.checkpoint.folder}
    url = parse_url(settings.store.url)
    if url.get_backend_name() == "sqlite":
        folders["store.url"] = Path(str(url.database)).parent
    for key, folder in folders.items():
        yield _folder(key, folder)


def _folder(key: str, folder: Path) -> Check:
    there = folder
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            return Check(key, "fail", f"{there} is a file, not a folder", f"set {key} to a folder")
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Check(key, "fail", f"{folder} can't be reached: {error.strerror}", f"set {key} to another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(key, "fail", f"{there} can't be written", f"give yourself the right, or set {key} elsewhere")
    if free < LITTLE_DISK:
        level: Level = "fail" if free < NO_DISK else "warn"
        return Check(key, level, f"{folder}: only {size(free)} free", "make room, or set it to another disk")
    return Check(key, "ok", f"{folder}, {size(free)} free")


def check_endpoint(settings: Settings) -> Iterator[Check]:
    """The endpoint answers SPARQL, and its data is fresh."""
    from kbsync.source import breaker
    from kbsync.source.client import SparqlClient
    from kbsync.source.pull import window_end
    from kbsync.sync.clock import now

    source = settings.source
    state = _remembered(settings)
    if state is not None and state.open_until is not None and breaker.is_open(state, now()):
        text = f"{state.host} asked to be left alone until {words(state.open_until)} UTC: {state.reason}"
        yield Check(
            "endpoint", "fail", text, "wait until then; docs/operations.md, When the source does not answer"
        )
        return
    if PUBLIC_SERVICE in source.endpoint and not source.contact:
        text = "the public service wants to know whom to write to, and blocks clients that don't say"
        yield Check("contact", "warn", text, "set source.contact to an e-mail address or a page")
    quick = source.model_copy(update={"attempts": 1, "timeout_s": min(source.timeout_s, ENDPOINT_WAIT_S)})
    relation = next(iter(settings.watch.relations), "P36")
    newest = window_end(SparqlClient(quick), relation)
    if newest is None:
        text = f"{source.endpoint} answers, but has no item with {relation}"
        yield Check("endpoint", "warn", text, "check source.endpoint: is it a Wikidata endpoint?")
        return
    lag = (now() - newest).total_seconds()
    text = f"{source.endpoint} answers; its data is as of {words(newest)} UTC"
    if lag > OLD_S:
        yield Check(
            "endpoint", "warn", f"{text}, {lag / 3600:.1f} h behind", "newer changes come when it catches up"
        )
    else:
        yield Check("endpoint", "ok", text)


def _remembered(settings: Settings) -> EndpointState | None:
    """What the store remembers of the endpoint; asking one that wants to be left alone is how bans begin."""
    from kbsync.source.transport import place_of
    from kbsync.store import endpoints, schema
    from kbsync.store.engine import open_store

    if schema.check(settings.store.url) is not schema.SchemaState.CURRENT:
        return None
    with open_store(settings.store.url, create=False) as store, store.read() as tx:
        return endpoints.endpoint(tx, place_of(settings.source.endpoint))


def check_daemon(settings: Settings) -> Iterator[Check]:
    """A daemon is up."""
    from kbsync.store import daemons, schema
    from kbsync.store.engine import open_store
    from kbsync.sync.clock import now

    up: list[daemons.Daemon] = []
    if schema.check(settings.store.url) is schema.SchemaState.CURRENT:
        with open_store(settings.store.url, create=False) as store, store.read() as tx:
            up = daemons.up(tx, now())
    if up:
        yield Check("daemon", "ok", f"up, process {up[0].pid} on {up[0].host}")
    else:
        yield Check("daemon", "warn", "not running: nothing syncs on the schedule", "kbsync run")


def check_room(settings: Settings) -> Iterator[Check]:
    """The model has room for more facts, as far as the last candidate tells."""
    from kbsync.store import schema
    from kbsync.store.engine import open_store
    from kbsync.sync.room import last_room

    room = None
    if schema.check(settings.store.url) is schema.SchemaState.CURRENT:
        with open_store(settings.store.url, create=False) as store, store.read() as tx:
            room = last_room(tx)
    if room is None:
        yield Check("room", "ok", "no candidate was judged yet")
        return
    for warning in room.warnings():
        yield Check("room", "warn", warning, "docs/operations.md, When the model fills up")
    if not room.warnings():
        yield Check("room", "ok", room.words())
