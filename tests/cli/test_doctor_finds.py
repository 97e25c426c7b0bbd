"""Each thing that can be wrong is made wrong for real: doctor finds it, and names a next step that exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg
import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import select

from kbsync.cli import machine_checks, model_checks, store_checks
from kbsync.settings import Settings
from kbsync.store import daemons, pauses, runs, soundness
from kbsync.store.engine import open_store
from kbsync.store.soundness import ServerFacts, file_system
from kbsync.store.tables import RunRow, RunStatus
from kbsync.sync.clock import now
from tests.cli.conftest import Call, url_of
from tests.cli.test_main import COMMAND_LINES
from tests.stores import Server, chosen, execute

ROOT = Path(__file__).parents[2]
PROGRAMS = ("pip", "createdb", "timedatectl", "rm", "chown")


@dataclass
class Place:
    """Where kbsync is: its folder, its config file, and its store, in which the story has happened."""

    config: Path

    @property
    def folder(self) -> Path:
        return self.config.parent

    @property
    def url(self) -> str:
        return url_of(self.config)

    def add(self, text: str) -> None:
        """More of the config file."""
        self.config.write_text(f"{self.config.read_text()}\n{text}\n")

    def change(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))


@pytest.fixture
def here(told: Call, config: Path) -> Place:
    """All is well but for what the story left: a model whose files are not there."""
    del told
    model = config.parent / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    place = Place(config)
    last_run(place, RunStatus.UNCHANGED, "nothing new")
    place.change("[model]", f'[serve]\nport = 0\n[model]\nbase = "{model}"\ndevice = "cpu"')
    return place


def examine(call: Call, *words: str) -> list[dict[str, str]]:
    """All findings."""
    found: list[dict[str, str]] = json.loads(call("doctor", "--json", *(words or ("--offline",))).stdout)["checks"]
    for one in found:
        exists(one["then"])
    return found


def exists(then: str) -> None:
    """What a finding names as the next step is there: commands, pages, settings, programs."""
    for words in re.findall(r"(?<![\w/=.])kbsync((?: [a-z]+)+)", then):
        name = f"kbsync{words}"
        assert any(name == one or name.startswith(f"{one} ") for one in COMMAND_LINES), then
    for page in re.findall(r"docs/[\w.]+", then):
        assert (ROOT / page).is_file(), then
    for section, key in re.findall(r"\bset (\w+)\.(\w+)", then):
        assert key in Settings.model_fields[section].annotation.model_fields, then  # type: ignore[union-attr]
    if then and not re.match(rf"kbsync |set |{'|'.join(PROGRAMS)} ", then):
        assert not re.match(r"[a-z]+ --", then), then


def the(found: list[dict[str, str]], name: str, level: str) -> dict[str, str]:
    """The one finding of this name and level."""
    ((one),) = [one for one in found if (one["name"], one["level"]) == (name, level)]
    return one


# What is made wrong, and which finding has to come of it: its name, level, words of its text, and the next step.
WRONG: dict[str, tuple[Callable[[Place], object], str, str, str, str]] = {}


def wrong(name: str, level: str, words: str, then: str) -> Callable[[Callable[[Place], object]], object]:
    """One row of the table: what the function does to the place must be found so."""

    def enter(do: Callable[[Place], object]) -> object:
        WRONG[do.__name__] = do, name, level, words, then
        return do

    return enter


@wrong("store", "fail", "is damaged", "kbsync db restore FILE --force")
def a_damaged_page(place: Place) -> None:
    file = place.folder / "kbsync.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outcomes'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    whole = bytearray(file.read_bytes())
    whole[(root - 1) * size : (root - 1) * size + 200] = b"\xa5" * 200
    file.write_bytes(whole)


@wrong("store", "fail", "older schema", "kbsync db upgrade")
def an_older_schema(place: Place) -> None:
    execute(place.url, "UPDATE kbsync_schema SET version_num = '0001'")


@wrong("store", "fail", "another program", "set store.url")
def another_program_s_database(place: Place) -> None:
    execute(chosen().clear(place.folder / "kbsync.db"), "CREATE TABLE songs (id INTEGER)")


@wrong("schedule", "warn", "days away", "set schedule.cron")
def a_cron_line_of_leap_years(place: Place) -> None:
    month = (datetime.now(UTC).month + 5) % 12 + 1  # half a year away
    place.add(f'[schedule]\ncron = "0 0 1 {month} *"')


@wrong("schedule", "warn", "each time lies in the quiet hours", "set schedule.quiet_hours")
def quiet_hours_over_every_time(place: Place) -> None:
    place.add('[schedule]\ncron = "30 3 * * *"\nquiet_hours = "22:00-06:00"')


@wrong("leftovers", "warn", "1 unfinished in", "kbsync prune")
def a_killed_writer_s_folder(place: Place) -> None:
    left = place.folder / "checkpoints" / ".tmp-sync-000007-0a1b2c3d"
    left.mkdir(parents=True)
    (left / "edited.safetensors").write_bytes(b"x" * 4096)


@wrong("leftovers", "warn", "unfinished conversions", "rm -r")
def a_killed_conversion(place: Place) -> None:
    (place.folder / "cache" / "models" / ".convert-abc").mkdir(parents=True)


@wrong("device", "fail", "torch sees no CUDA devices", "set model.device")
def a_card_that_is_not_there(place: Place) -> None:
    place.change('device = "cpu"', 'device = "cuda:0"')


@wrong("http", "warn", "no token lets them read", "kbsync token add prometheus --read-only")
def others_without_a_token(place: Place) -> None:
    place.change("port = 0", 'port = 0\nhost = "0.0.0.0"')


@wrong("pause", "warn", "by me: a move", "kbsync resume")
def a_pause(place: Place) -> None:
    with open_store(place.url) as store, store.begin() as tx:
        pauses.pause(tx, "me", datetime.now(UTC), None, "a move")


@wrong("clock", "warn", "90 s from now", "timedatectl set-ntp true")
def a_daemon_of_the_future(place: Place) -> None:
    with open_store(place.url) as store, store.begin() as tx:
        daemons.start(tx, "elsewhere", 1, datetime.now(UTC) + timedelta(seconds=90.5))


def last_run(place: Place, status: RunStatus, reason: str) -> int:
    """One more run, that ended so."""
    with open_store(place.url) as store, store.begin() as tx:
        at = datetime.now(UTC) - timedelta(minutes=5)
        run = runs.start_run(tx, "schedule", at, {})
        runs.stage_started(tx, run, "solve", at)
        runs.finish_run(tx, run, status, at, reason)
    return run


@wrong("runs", "warn", "failed in solve: no memory for z", "kbsync sync")
def a_run_that_failed(place: Place) -> None:
    last_run(place, RunStatus.FAILED, "no memory\n for z")


@wrong("runs", "warn", "was refused in solve: perplexity_ratio", "docs/gate.md")
def a_run_that_was_refused(place: Place) -> None:
    last_run(place, RunStatus.REJECTED, "perplexity_ratio 1.300 is not ≤ 1.05")


@wrong("approval", "warn", "it would change much", "kbsync approve 5")
def a_run_that_asks(place: Place) -> None:
    assert last_run(place, RunStatus.WAITING, "it would change much") == 5


@wrong("runs", "warn", "its process 999999999 is gone", "kbsync sync")
def a_run_that_was_killed(place: Place) -> None:
    with open_store(place.url) as store, store.begin() as tx:
        row = tx.get(RunRow, runs.start_run(tx, "schedule", datetime.now(UTC), {}))
        assert row is not None
        row.pid = 999_999_999


@wrong("runs", "warn", "no sign of life since", "kbsync sync")
def a_run_that_fell_silent(place: Place) -> None:
    with open_store(place.url) as store, store.begin() as tx:
        row = tx.get(RunRow, runs.start_run(tx, "schedule", datetime.now(UTC), {}))
        assert row is not None
        row.host, row.beat_at = "elsewhere", datetime.now(UTC) - timedelta(minutes=9)


@wrong("overdue", "warn", "the next was due", "kbsync run")
def a_sync_that_is_overdue(place: Place) -> None:
    with open_store(place.url) as store, store.begin() as tx:
        row = tx.scalars(select(RunRow).order_by(RunRow.id.desc()).limit(1)).one()
        row.started_at -= timedelta(minutes=200)


@wrong("live", "warn", "leads to other, the store says model-1", "kbsync sync")
def a_link_that_disagrees(place: Place) -> None:
    other = place.folder / "checkpoints" / "other"
    other.mkdir(parents=True)
    (other.parent / "live").symlink_to("other")


@wrong("live", "warn", "is broken", "kbsync sync")
def a_link_to_nowhere(place: Place) -> None:
    (place.folder / "checkpoints").mkdir()
    (place.folder / "checkpoints" / "live").symlink_to("gone")


BEFORE: list[str] = []  # what is found where nothing was made wrong: asked once, it is the same in every test
OF_FILES = pytest.mark.sqlite("a file's own damage")


@pytest.mark.parametrize(
    "what", [pytest.param(one, marks=[OF_FILES] if one == "a_damaged_page" else []) for one in WRONG]
)
def test_it_is_found(told: Call, here: Place, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not before; with the words that name it, and the command or the setting that helps."""
    do, name, level, words, then = WRONG[what]
    monkeypatch.setattr("kbsync.checkpoint.verify.verify", lambda _: [])  # the story's checkpoint has no files
    if not BEFORE:
        BEFORE.extend(one["text"] for one in examine(told))
    assert not any(words in text for text in BEFORE), "it must be the change that is found"
    do(here)
    found = [one for one in examine(told) if (one["name"], one["level"]) == (name, level)]
    hit = [one for one in found if words in one["text"]]
    assert len(hit) == 1, found
    assert hit[0]["then"].startswith(then) or then in hit[0]["then"]


def test_healed_by_what_it_names(told: Call, here: Place) -> None:
    """The commands do help: after them the finding is gone."""
    a_pause(here)
    a_killed_writer_s_folder(here)
    others_without_a_token(here)
    named = {one["name"]: one["then"] for one in examine(told) if one["level"] == "warn"}
    for name in ("pause", "leftovers", "http"):
        assert told(*named[name].split()[1:]).exit_code == 0
    assert not {"pause", "leftovers"} & {one["name"] for one in examine(told)}
    assert the(examine(told), "http", "ok")


def test_a_port_that_is_taken(told: Call, here: Place) -> None:
    """By another program, unless a daemon of this machine has it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        here.change("port = 0", f"port = {port}")
        taken = the(examine(told), "http", "warn")
        assert f"port {port} of 127.0.0.1 is taken" in taken["text"]
        assert taken["then"].startswith("set serve.port")
        with open_store(here.url) as store, store.begin() as tx:
            daemons.start(tx, socket.gethostname(), os.getpid(), datetime.now(UTC))
        assert "a daemon of this machine" in the(examine(told), "http", "ok")["text"]


@pytest.mark.sqlite("the rights to a file")
def test_a_store_that_can_not_be_written(told: Call, here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own answer counts (asked as if by another user: root may write anywhere)."""
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode, **more: Path(path).name != "kbsync.db" and real(path, mode)
    )
    found = the(examine(told), "store", "fail")
    assert "can't be written by this user" in found["text"]
    assert found["then"].startswith("chown ")


@pytest.mark.sqlite("its version")
def test_an_old_sqlite(told: Call, here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One from before RETURNING."""
    del here
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.31.1")
    assert "SQLite 3.31.1 of this Python is older than 3.35.0" in the(examine(told), "sqlite", "fail")["text"]


@pytest.mark.sqlite("where a file lies")
def test_a_network_file_system(told: Call, here: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the mount that the store's folder lies on: the innermost one."""
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(soundness, "MOUNTS", mounts)
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {here.folder} nfs4 rw 0 0\n")
    assert "network file system (nfs4)" in the(examine(told), "store.url", "fail")["text"]
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {here.folder}/elsewhere nfs4 rw 0 0\n")
    assert ("store.url", "fail") not in [(one["name"], one["level"]) for one in examine(told)]


def test_mounts_with_blanks_and_without(tmp_path: Path) -> None:
    """A blank in a path is written as an octal number; a later mount hides an earlier one."""
    mounts = tmp_path / "mounts"
    deep = tmp_path / "a b" / "c"
    deep.mkdir(parents=True)
    spelled = str(tmp_path / "a b").replace(" ", "\\040")
    mounts.write_text(f"x / ext4 rw 0 0\nx {spelled} xfs rw 0 0\nx {spelled} cifs rw 0 0\n")
    assert file_system(deep, mounts) == "cifs"
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(deep, tmp_path / "none") is None


@pytest.mark.parametrize(("kilobytes", "level"), [(8_000_000, "ok"), (5_000, "warn"), (3_000, "fail")])
def test_memory(told: Call, here: Place, monkeypatch: pytest.MonkeyPatch, kilobytes: int, level: str) -> None:
    """A million numbers are 4 MB in float32: more than there is fails, hardly less warns."""
    save_file({"a.weight": torch.zeros(1000, 1000, dtype=torch.bfloat16)}, here.folder / "model/model.safetensors")
    info = here.folder / "meminfo"
    info.write_text(f"MemTotal: {kilobytes} kB\nMemAvailable: {kilobytes} kB\n")
    monkeypatch.setattr(model_checks, "MEMINFO", info)
    monkeypatch.setattr(model_checks, "CGROUP", here.folder / "none")
    assert "weights take 4" in the(examine(told), "memory", level)["text"]
    info.write_text("MemTotal: 9000000 kB\nMemAvailable: 9000000 kB\n")
    (here.folder / "none").write_text(f"{kilobytes * 1024}\n")  # a container's limit counts as well
    assert the(examine(told), "memory", level)


def test_packages_that_are_too_old(told: Call, here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is installed, and what kbsync's own record asks for; the command has the floor."""
    old = here.folder / "site" / "torch-2.1.0.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.1.0\n")
    own = here.folder / "site" / "kbsync-0.1.0.dist-info"
    own.mkdir()
    (own / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: kbsync\nVersion: 0.1.0\nRequires-Dist: torch>=2.13\n"
        "Requires-Dist: click\nRequires-Dist: no-such-package>=3\nRequires-Dist: never; extra == 'dev'\n"
    )
    monkeypatch.syspath_prepend(here.folder / "site")
    found = [one for one in examine(told) if one["name"] == "packages"]
    assert [(one["level"], one["text"]) for one in found] == [
        ("fail", "torch is 2.1.0, and kbsync needs >=2.13"),
        ("fail", "no-such-package is not installed"),
    ]
    assert found[0]["then"] == "pip install 'torch>=2.13'"


@pytest.mark.parametrize(
    ("lines", "missing"),
    [
        ("Type=notify\nWatchdogSec=120\nRestart=on-failure\n", None),
        ("Type=notify\nRestart=on-failure\n", "no WatchdogSec:"),
        ("# WatchdogSec=120\nRestart=always\n", "no Type=notify and no WatchdogSec:"),
        ("Type=notify\nWatchdogSec=0\n", "no WatchdogSec and no Restart:"),
    ],
)
def test_a_unit_without_a_watchdog(
    told: Call, here: Place, monkeypatch: pytest.MonkeyPatch, lines: str, missing: str | None
) -> None:
    """The service's unit, if there is one; that of another program is none of ours."""
    units = here.folder / "units"
    units.mkdir()
    monkeypatch.setattr(machine_checks, "UNITS", (units, here.folder / "nowhere"))
    (units / "other.service").write_text("[Service]\nExecStart=/usr/bin/other run\n")
    assert not [one for one in examine(told) if one["name"] == "service"]
    (units / "mine.service").write_text(f"[Service]\n{lines}ExecStart=/opt/kbsync/bin/kbsync -c x.toml run\n")
    if missing is None:
        assert "with a watchdog" in the(examine(told), "service", "ok")["text"]
    else:
        found = the(examine(told), "service", "warn")
        assert missing in found["text"]
        assert found["then"] == "kbsync config example systemd"


def test_the_unit_that_ships_is_in_order(monkeypatch: pytest.MonkeyPatch, here: Place, told: Call) -> None:
    """What `kbsync config example systemd` prints has what doctor wants."""
    units = here.folder / "units"
    units.mkdir()
    shutil.copy(ROOT / "config/kbsync.service", units)
    monkeypatch.setattr(machine_checks, "UNITS", (units,))
    assert the(examine(told), "service", "ok")


@contextmanager
def endpoint(ahead_s: float, **headers: str) -> Iterator[str]:
    """An endpoint whose clock is wrong, and which says nothing else of use."""

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            del timestamp
            return format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)

        def do_HEAD(self) -> None:
            self.send_response(405)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_POST(self) -> None:
            self.send_error(400)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{one.server_port}/sparql"
        finally:
            one.shutdown()
            thread.join()


@pytest.mark.parametrize(("ahead_s", "words"), [(600, "s ahead of"), (-600, "s behind")])
def test_a_clock_that_is_wrong(told: Call, here: Place, ahead_s: float, words: str) -> None:
    """By the endpoint's own word, whatever it answers."""
    with endpoint(ahead_s) as url:
        here.add(f'[source]\nendpoint = "{url}"')
        found = the(examine(told, "--json"), "clock", "warn")
    assert words in found["text"]
    assert found["then"] == "timedatectl set-ntp true"


def test_a_clock_that_is_right_and_one_that_a_cache_tells(told: Call, here: Place) -> None:
    """Within a minute it is; what a cache has kept says nothing of now."""
    with endpoint(20) as url:
        here.add(f'[source]\nendpoint = "{url}"')
        assert the(examine(told, "--json"), "clock", "ok")
    with endpoint(600, Age="600") as other:
        here.change(url, other)
        assert not [one for one in examine(told, "--json") if one["name"] == "clock"]


SOUND = ServerFacts(170004, "UTF8", False, 0.1)


@pytest.mark.parametrize(
    ("facts", "name", "level", "words"),
    [
        (SOUND, "server", "ok", "PostgreSQL 17, UTF8, clocks agree"),
        (ServerFacts(170004, "SQL_ASCII", False, 0), "encoding", "fail", "has the encoding SQL_ASCII"),
        (ServerFacts(120022, "UTF8", False, 0), "server", "warn", "PostgreSQL 12 is no longer maintained"),
        (ServerFacts(170004, "UTF8", True, 0), "server", "fail", "takes no writes"),
        (ServerFacts(170004, "UTF8", False, -42.0), "server", "warn", "42 s behind"),
        (ServerFacts(170004, "UTF8", False, 42.0), "server", "warn", "42 s ahead of"),
    ],
)
def test_servers(facts: ServerFacts, name: str, level: str, words: str) -> None:
    """Each thing that can be wrong with a PostgreSQL server."""
    (found,) = store_checks.judge_server(facts, "kb")
    assert (found.name, found.level) == (name, level)
    assert words in found.text
    exists(found.then)
    assert bool(found.then) is (level != "ok")


@pytest.mark.postgres
def test_a_real_server(call: Call, here: Place, server: Server) -> None:
    """A database of another encoding, and one that takes no writes, on a server that runs."""
    here.config.write_text(re.sub(r'(\nurl = ").*"', rf'\1{server.laid_out()}"', here.config.read_text()))
    found = examine(call)
    assert "UTF8, clocks agree" in the(found, "server", "ok")["text"]
    name = server.admin.set(database="kbsync_doctor")
    Server.run(server.admin, 'DROP DATABASE IF EXISTS "kbsync_doctor"')
    made = "CREATE DATABASE \"kbsync_doctor\" TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    Server.run(server.admin, made)
    try:
        url = name.set(drivername="postgresql+psycopg").render_as_string(False)
        facts = soundness.server_facts(url, now)
        assert facts.encoding == "SQL_ASCII"
        assert abs(facts.ahead_s) < store_checks.SKEW_S
        assert not facts.read_only
        Server.run(server.admin, "ALTER DATABASE kbsync_doctor SET default_transaction_read_only = on")
        assert soundness.server_facts(url, now).read_only
        with psycopg.connect(server.admin.render_as_string(False)) as connection:
            assert soundness.server_facts(url, now).version == connection.info.server_version
    finally:
        Server.run(server.admin, 'DROP DATABASE IF EXISTS "kbsync_doctor" WITH (FORCE)')


@pytest.mark.sqlite("a file's own damage")
def test_a_look_through_a_large_file_ends(here: Place) -> None:
    """Where there is no time to look at all of it, nothing is said against it: the fault is in the last row."""
    with sqlite3.connect(here.folder / "kbsync.db") as connection:
        connection.execute("CREATE TABLE zz (n INTEGER PRIMARY KEY, t TEXT)")
        texts = ((f"text {n}" if n < 20_000 else None,) for n in range(20_001))
        connection.executemany("INSERT INTO zz (t) VALUES (?)", texts)
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'TEXT', 'TEXT NOT NULL') WHERE name = 'zz'")
    assert soundness.damage(here.url, most_s=60) == "NULL value in zz.t"
    assert soundness.damage(here.url, most_s=-1) is None


def test_nothing_is_changed(told: Call, here: Place) -> None:
    """Doctor looks; the files are what they were."""

    def content() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in sorted(here.folder.rglob("*")) if file.is_file()}

    a_killed_writer_s_folder(here)
    examine(told)
    before = content()
    examine(told)
    assert content() == before
