"""A store in which something has happened, and commands asked as a shell would ask them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kbsync.cli.main import cli
from kbsync.store.engine import open_store
from tests.store.story import tell
from tests.stores import Stores, chosen

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine's, and a current folder of one's own."""
    for name in [name for name in os.environ if name.startswith("KBSYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def told_store(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Path:
    """A store with its story, to copy."""
    path = tmp_path_factory.mktemp("told") / "kbsync.db"
    with open_store(stores.make(path)) as store:
        tell(store)
    return path


@pytest.fixture
def config(tmp_path: Path, stores: Stores) -> Path:
    """A config file whose store lies beside it and isn't there yet."""
    path = tmp_path / "kbsync.toml"
    url = "sqlite:///kbsync.db" if stores.name == "sqlite" else url_of(path)
    path.write_text(
        '[model]\ncache = "cache"\n[watch]\nrelations = ["P6"]\n'
        f'[store]\nurl = "{url}"\n[checkpoint]\nfolder = "checkpoints"\n'
    )
    return path


def url_of(config: Path) -> str:
    """The URL of the store that a config file has."""
    return chosen().url(config.parent / "kbsync.db")


@pytest.fixture
def call(config: Path) -> Call:
    """Run `kbsync -c kbsync.toml …`; the result has exit_code, stdout and stderr."""

    def run(*words: str, input: str | None = None) -> Result:
        return CliRunner().invoke(cli, ["-c", str(config), *words], input=input)

    return run


@pytest.fixture
def told(call: Call, told_store: Path, config: Path, stores: Stores) -> Call:
    """`call` on a store in which the story has happened."""
    stores.copy(told_store, config.parent / "kbsync.db")
    return call


def data(result: Result) -> Any:
    """The one JSON document on stdout of a command that went well."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def error(result: Result) -> dict[str, Any]:
    """The error object on stdout, which is the only thing there."""
    document = json.loads(result.stdout)
    assert list(document) == ["error"]
    assert document["error"]["exit_code"] == result.exit_code
    assert result.stderr == f"kbsync: {document['error']['message']}\n"
    return document["error"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder."""
    from tests.cli.tiny import model_folder  # here, so that tests without a model don't wait for torch

    return model_folder(tmp_path_factory.mktemp("tiny"))
