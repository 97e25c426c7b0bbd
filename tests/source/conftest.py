"""Real servers: the full slice once per session, and an empty one that each test fills."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import stamina

from kbsync.settings import SourceSettings
from kbsync.source.client import SparqlClient
from kbsync.source.embedded import EmbeddedWikidata

DATA = Path(__file__).parent.parent / "data" / "wikidata"


@pytest.fixture
def slice_server(tmp_path: Path) -> Iterator[EmbeddedWikidata]:
    """The full slice, to update."""
    file = tmp_path / "slice.nt"
    file.write_bytes(lzma.decompress((DATA / "slice.nt.xz").read_bytes()))
    with EmbeddedWikidata([file]) as server:
        file.unlink()
        yield server


@pytest.fixture(scope="session")
def one_server() -> Iterator[EmbeddedWikidata]:
    """A server without data, shared by the tests that ask for `wikidata`."""
    with EmbeddedWikidata([]) as server:
        yield server


@pytest.fixture
def wikidata(one_server: EmbeddedWikidata) -> EmbeddedWikidata:
    """An empty server."""
    one_server.update("CLEAR ALL")
    return one_server


@pytest.fixture
def settings_for() -> Callable[..., SourceSettings]:
    """Settings for an endpoint, with small waits."""

    def make(endpoint: str, **changes: object) -> SourceSettings:
        return SourceSettings.model_validate(
            {"endpoint": endpoint, "contact": "tests", "timeout_s": 20.0, "overlap_s": 0, **changes}
        )

    return make


@pytest.fixture
def client(wikidata: EmbeddedWikidata, settings_for: Callable[..., SourceSettings]) -> SparqlClient:
    """A client of the empty server."""
    return SparqlClient(settings_for(wikidata.endpoint))


@pytest.fixture(autouse=True)
def no_backoff() -> Iterator[None]:
    """Retries come at once; their number stays what the settings say."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield
