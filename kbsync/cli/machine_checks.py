"""The doctor's checks of this machine: packages, folders and disk, what was left behind, the port, the service."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.cli.checks import Check, Level, reading
from kbsync.cli.show import size
from kbsync.errors import KbsyncError

if TYPE_CHECKING:
    from kbsync.settings import Settings

LITTLE_DISK = 2e9  # bytes: a base model, its covariances and some checkpoints need more
NO_DISK = 2e8
UNITS = (Path("/etc/systemd/system"), Path("/usr/local/lib/systemd/system"), Path("/usr/lib/systemd/system"))


def check_packages(settings: Settings) -> Iterator[Check]:
    """Each package that kbsync needs is there, and new enough."""
    del settings
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("kbsync") or ()]
    except PackageNotFoundError:  # run from a folder, nothing to compare with
        return
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    well = True
    for one in needed:
        try:
            found = version(one.name)
        except PackageNotFoundError:
            found = None
        if found is not None and one.specifier.contains(found, prereleases=True):
            continue
        well = False
        what = "is not installed" if found is None else f"is {found}, and kbsync needs {one.specifier}"
        yield Check("packages", "fail", f"{one.name} {what}", f"pip install '{one.name}{one.specifier}'")
    if well:
        yield Check("packages", "ok", f"all {len(needed)} are new enough")


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


def check_leftovers(settings: Settings) -> Iterator[Check]:
    """What killed writers left behind, while nobody writes."""
    from kbsync.checkpoint.durable import TEMPORARY
    from kbsync.store import runs

    with reading(settings) as tx:
        if tx is not None and runs.running(tx) is not None:
            return
    found = sorted(settings.checkpoint.folder.glob(f"{TEMPORARY}*"))
    if found:
        text = f"{len(found)} unfinished in {settings.checkpoint.folder}, {size(sum(map(_bytes, found)))}"
        yield Check("leftovers", "warn", text, "kbsync prune")
    converted = sorted((settings.model.cache / "models").glob(".convert-*"))
    if converted:
        text = f"{len(converted)} unfinished conversions of models, {size(sum(map(_bytes, converted)))}"
        yield Check("leftovers", "warn", text, f"rm -r {settings.model.cache}/models/.convert-*")


def _bytes(path: Path) -> int:
    try:
        if not path.is_dir():
            return path.lstat().st_size
        return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
    except OSError:  # gone in between
        return 0


def check_http(settings: Settings) -> Iterator[Check]:
    """The port is free, or the daemon's own; and others that may reach it can show a token."""
    from kbsync.serve.server import bind
    from kbsync.settings import is_loopback
    from kbsync.store import daemons, tokens
    from kbsync.sync.clock import now

    serve = settings.serve
    if not serve.enabled:
        return
    with reading(settings) as tx:
        here = tx is not None and any(one.host == socket.gethostname() for one in daemons.up(tx, now()))
        some = tx is not None and any(one.revoked_at is None for one in tokens.tokens(tx))
    if not here:
        try:
            bind(serve).close()
        except KbsyncError as error:
            yield Check("http", "warn", str(error), "set serve.port to a free one")
            return
    if not is_loopback(serve.host) and not some and not serve.open_reads:
        text = f"other machines reach {serve.host}:{serve.port}, and no token lets them read"
        yield Check("http", "warn", text, "kbsync token add prometheus --read-only")
        return
    yield Check("http", "ok", f"{serve.host}:{serve.port}" + (", a daemon of this machine" if here else " is free"))


def check_service(settings: Settings) -> Iterator[Check]:
    """A systemd unit that runs the daemon has a watchdog, which starts it again when it hangs."""
    del settings
    for unit in _units():
        try:
            text = unit.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        said = {line.split("=", 1)[0].strip(): line.split("=", 1)[1].strip() for line in _lines(text)}
        if "kbsync" not in said.get("ExecStart", "") or " run" not in f"{said['ExecStart']} ":
            continue
        missing = [name for name, has in _wanted(said) if not has]
        if missing:
            what = f"{unit} has no {' and no '.join(missing)}: a daemon that hangs is not started again"
            yield Check("service", "warn", what, "kbsync config example systemd")
        else:
            yield Check("service", "ok", f"{unit}, with a watchdog")


def _units() -> list[Path]:
    return [unit for folder in UNITS if folder.is_dir() for unit in sorted(folder.glob("*.service"))]


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "=" in line and not line.lstrip().startswith(("#", ";"))]


def _wanted(said: dict[str, str]) -> list[tuple[str, bool]]:
    return [
        ("Type=notify", said.get("Type", "") in ("notify", "notify-reload")),
        ("WatchdogSec", said.get("WatchdogSec", "0") not in ("0", "")),
        ("Restart", said.get("Restart", "no") not in ("no", "on-success")),
    ]
