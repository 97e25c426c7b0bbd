"""One server, one model folder and one covariance for the session; a world and a store for each test."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stamina
import torch
from transformers.utils import logging as transformers_logging

from kbsync.source.embedded import EmbeddedWikidata
from kbsync.store.engine import open_store
from tests.store.conftest import BACKENDS, Server, server  # noqa: F401  the PostgreSQL server, where one is given
from tests.sync import tiny_model
from tests.sync.content import Content, read_content
from tests.sync.harness import Bed, copy_database
from tests.sync.rig import Rig
from tests.sync.world import WINDOW_1, WINDOW_2, World, book


@dataclass(frozen=True)
class Site:
    """A rig, a copy of its folder after the first window, and what it held after the second.

    The copy goes back to the folder that it came from, since a store names its checkpoints by their full path.
    """

    rig: Rig
    kept: Path
    content: Content


transformers_logging.disable_progress_bar()


@pytest.fixture(scope="session")
def wikidata() -> Iterator[EmbeddedWikidata]:
    """A SPARQL server that every test fills anew."""
    with EmbeddedWikidata([]) as one:
        yield one


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model on disk."""
    torch.set_num_threads(1)
    return tiny_model.save(tmp_path_factory.mktemp("model"), book())


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the covariance is computed once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, to copy."""
    path = tmp_path_factory.mktemp("template") / "kbsync.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def pulled_store(
    tmp_path_factory: pytest.TempPathFactory, wikidata: EmbeddedWikidata, model_folder: Path, cache: Path,
    empty_store: Path,
) -> Path:  # fmt: skip
    """A SQLite file after the first pull of the first day, to copy."""
    folder = tmp_path_factory.mktemp("pulled")
    shutil.copy(empty_store, folder / "kbsync.db")
    world = World(wikidata)
    world.reset()
    Rig(world, folder, model_folder, cache).sync()
    return folder / "kbsync.db"


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, wikidata: EmbeddedWikidata, model_folder: Path, cache: Path,
    pulled_store: Path,
) -> Site:  # fmt: skip
    """A kbsync that has synced the first window: kept, to be put back whenever a test asks for it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(pulled_store, folder / "kbsync.db")
    world = World(wikidata)
    world.reset()
    world.changes(*WINDOW_1)
    rig = Rig(world, folder, model_folder, cache)
    rig.sync()
    kept = tmp_path_factory.mktemp("kept") / "site"
    shutil.copytree(folder, kept, symlinks=True)
    world.changes(*WINDOW_2)
    rig.sync()
    return Site(rig, kept, read_content(rig))


@pytest.fixture
def world(wikidata: EmbeddedWikidata) -> World:
    """The first day."""
    one = World(wikidata)
    one.reset()
    return one


@pytest.fixture
def fresh(world: World, tmp_path: Path, model_folder: Path, cache: Path, empty_store: Path) -> Rig:
    """A store that nothing was ever pulled into."""
    shutil.copy(empty_store, tmp_path / "kbsync.db")
    return Rig(world, tmp_path, model_folder, cache)


@pytest.fixture
def rig(pulled_store: Path, wikidata: EmbeddedWikidata, tmp_path: Path, model_folder: Path, cache: Path) -> Rig:
    """A store after the first pull of the first day."""
    shutil.copy(pulled_store, tmp_path / "kbsync.db")
    one = World(wikidata)
    one.reset()
    return Rig(one, tmp_path, model_folder, cache)


@pytest.fixture(autouse=True)
def no_backoff() -> Iterator[None]:
    """Retries come at once; their number stays what the settings say."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting from outside."""
    for name in [name for name in os.environ if name.startswith("KBSYNC_") and "__" in name]:
        monkeypatch.delenv(name)


@pytest.fixture
def synced(site: Site) -> Rig:
    """A kbsync that has synced the first window, in a world where that is all that happened yet."""
    shutil.rmtree(site.rig.folder)
    shutil.copytree(site.kept, site.rig.folder, symlinks=True)
    site.rig.world.reset()
    site.rig.world.changes(*WINDOW_1)
    return site.rig


@pytest.fixture
def undisturbed(site: Site) -> Content:
    """What a store holds after both windows, synced one after the other and never disturbed."""
    return site.content


@pytest.fixture(scope="session")
def sqlite_bed(site: Site) -> Bed:
    """The moment between the two windows, on SQLite."""
    return Bed("sqlite", site.rig, site.kept, site.content)


@pytest.fixture(scope="session")
def postgres_bed(
    tmp_path_factory: pytest.TempPathFactory, wikidata: EmbeddedWikidata, model_folder: Path, cache: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Bed]:  # fmt: skip
    """The same on PostgreSQL, in databases of their own."""
    whole: Server = request.getfixturevalue("server")
    admin = whole.admin.set(database=f"kbsync_{uuid.uuid4().hex[:8]}")
    mine = Server(admin)
    whole.run(whole.admin, f'CREATE DATABASE "{admin.database}" TEMPLATE template0')
    whole.run(whole.admin, f'CREATE DATABASE "{admin.database}_bed" TEMPLATE template0')
    url = admin.set(drivername="postgresql+psycopg", database=f"{admin.database}_bed").render_as_string(False)
    folder = tmp_path_factory.mktemp("postgres")
    world = World(wikidata)
    world.reset()
    rig = Rig(world, folder, model_folder, cache, url)
    rig.sync()
    world.changes(*WINDOW_1)
    rig.sync()
    kept = tmp_path_factory.mktemp("kept") / "site"
    shutil.copytree(folder, kept, symlinks=True)
    copy_database(mine, "kept", "bed")
    world.changes(*WINDOW_2)
    rig.sync()
    yield Bed("postgres", rig, kept, read_content(rig), mine)
    for name in (f"{admin.database}_bed", f"{admin.database}_kept", admin.database):
        whole.run(whole.admin, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(params=BACKENDS)
def bed(request: pytest.FixtureRequest) -> Bed:
    """The moment, on each store."""
    one: Bed = request.getfixturevalue(f"{request.param}_bed")
    one.enter()
    return one
