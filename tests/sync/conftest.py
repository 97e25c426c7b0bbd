"""One server, one model folder and one covariance for the session; a world and a store for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stamina
import torch
from transformers.utils import logging as transformers_logging

from kbsync.source.embedded import EmbeddedWikidata
from tests.stores import BACKENDS, Databases, Stores
from tests.sync import tiny_model
from tests.sync.content import Content, read_content
from tests.sync.harness import Bed
from tests.sync.rig import Rig
from tests.sync.world import WINDOW_1, WINDOW_2, World, book


@dataclass(frozen=True)
class Site:
    """A rig, what was kept of it after the first window, and what it held after the second."""

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
def pulled_store(
    tmp_path_factory: pytest.TempPathFactory, wikidata: EmbeddedWikidata, model_folder: Path, cache: Path,
    stores: Stores,
) -> Path:  # fmt: skip
    """A store after the first pull of the first day, to copy."""
    world = World(wikidata)
    world.reset()
    rig = Rig(world, tmp_path_factory.mktemp("pulled"), model_folder, cache, stores=stores)
    stores.make(rig.place)
    rig.sync()
    return rig.place


def settle(rig: Rig, kept: Path) -> Site:
    """Sync the first window after the first pull, keep the moment, and sync the second."""
    rig.world.reset()
    rig.world.changes(*WINDOW_1)
    rig.sync()
    rig.keep(kept)
    rig.world.changes(*WINDOW_2)
    rig.sync()
    return Site(rig, kept, read_content(rig))


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, wikidata: EmbeddedWikidata, model_folder: Path, cache: Path,
    stores: Stores, pulled_store: Path,
) -> Site:  # fmt: skip
    """A kbsync that has synced the first window: kept, to be put back whenever a test asks for it."""
    rig = Rig(World(wikidata), tmp_path_factory.mktemp("site"), model_folder, cache, stores=stores)
    stores.copy(pulled_store, rig.place)
    return settle(rig, tmp_path_factory.mktemp("kept") / "site")


@pytest.fixture
def world(wikidata: EmbeddedWikidata) -> World:
    """The first day."""
    one = World(wikidata)
    one.reset()
    return one


@pytest.fixture
def fresh(world: World, tmp_path: Path, model_folder: Path, cache: Path, stores: Stores) -> Rig:
    """A store that nothing was ever pulled into."""
    one = Rig(world, tmp_path, model_folder, cache, stores=stores)
    stores.make(one.place)
    return one


@pytest.fixture
def rig(
    pulled_store: Path, wikidata: EmbeddedWikidata, tmp_path: Path, model_folder: Path, cache: Path, stores: Stores
) -> Rig:
    """A store after the first pull of the first day."""
    one = Rig(World(wikidata), tmp_path, model_folder, cache, stores=stores)
    one.world.reset()
    stores.copy(pulled_store, one.place)
    return one


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
    site.rig.put_back(site.kept)
    site.rig.world.reset()
    site.rig.world.changes(*WINDOW_1)
    return site.rig


@pytest.fixture
def undisturbed(site: Site) -> Content:
    """What a store holds after both windows, synced one after the other and never disturbed."""
    return site.content


@pytest.fixture(scope="session")
def own_bed(site: Site) -> Bed:
    """The moment between the two windows, on the store of all other tests."""
    return Bed(site.rig, site.kept, site.content)


@pytest.fixture(scope="session")
def postgres_bed(
    tmp_path_factory: pytest.TempPathFactory, wikidata: EmbeddedWikidata, model_folder: Path, cache: Path,
    stores: Stores, request: pytest.FixtureRequest,
) -> Bed:  # fmt: skip
    """The same on PostgreSQL."""
    if stores.name == "postgres":
        return request.getfixturevalue("own_bed")
    databases = Databases(request.getfixturevalue("server"))
    rig = Rig(World(wikidata), tmp_path_factory.mktemp("postgres"), model_folder, cache, stores=databases)
    rig.world.reset()
    databases.make(rig.place)
    rig.sync()
    site = settle(rig, tmp_path_factory.mktemp("kept") / "site")
    return Bed(site.rig, site.kept, site.content)


@pytest.fixture(params=BACKENDS)
def bed(request: pytest.FixtureRequest) -> Bed:
    """The moment, on each store."""
    one: Bed = request.getfixturevalue("postgres_bed" if request.param == "postgres" else "own_bed")
    one.enter()
    return one
