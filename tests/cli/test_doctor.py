"""`kbsync doctor` finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kbsync.cli import source_checks
from kbsync.facts import EndpointState
from kbsync.settings import share
from kbsync.source.embedded import EmbeddedWikidata
from kbsync.source.transport import place_of
from kbsync.store import daemons, endpoints, schema
from kbsync.store.engine import open_store
from tests.cli.conftest import Call, url_of
from tests.source.faults import Answer, serve
from tests.stores import execute

Checks = dict[str, dict[str, Any]]


def examine(call: Call, *words: str) -> Checks:
    """The doctor's findings by name; the exit code is 1 exactly if one of them failed."""
    result = call("doctor", "--json", *words)
    report = json.loads(result.stdout)
    failed = [one for one in report["checks"] if one["level"] == "fail"]
    assert report["ok"] is (not failed)
    assert result.exit_code == (1 if failed else 0)
    return {one["name"]: one for one in report["checks"]}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The demo's slice of Wikidata, served."""
    with EmbeddedWikidata([share("data/demo/wikidata.nt.gz")]) as wikidata:
        yield wikidata.endpoint


@pytest.fixture(autouse=True)
def _model(config: Path) -> None:
    """A model folder of a family that can be edited, since the embedded model may not be installed."""
    folder = config.parent / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    change(config, "[model]", f'[serve]\nport = 0\n[model]\nbase = "{folder}"\ndevice = "cpu"')


def change(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def test_all_is_well_before_the_first_sync(call: Call, config: Path, endpoint: str) -> None:
    """With an endpoint that answers nothing fails, though no daemon is up and the slice is old; no file is made."""
    config.write_text(f'{config.read_text()}[source]\nendpoint = "{endpoint}"\n')
    before = sorted(config.parent.rglob("*"))
    found = examine(call)
    assert {name for name, one in found.items() if one["level"] == "warn"} == {"endpoint", "daemon"}
    assert "2021-12-30" in found["endpoint"]["text"]
    assert "behind" in found["endpoint"]["text"]
    assert found["daemon"]["then"] == "kbsync run"
    assert found["model"]["text"].endswith("(llama)")
    assert found["device"]["text"].startswith("cpu")
    assert found["device"]["text"].endswith("weights are loaded and edited in float32")
    assert "the first sync makes it" in found["store"]["text"]
    assert sorted(config.parent.rglob("*")) == before


def test_lines_for_people(call: Call) -> None:
    """A line each, the next step below it, and the count of failures on stderr."""
    result = call("doctor", "--offline")
    assert result.exit_code == 0
    assert "ok    watch: 1 relations, each with prompts" in result.stdout
    assert "warn  daemon: not running" in result.stdout
    assert "      → kbsync run" in result.stdout
    assert result.stdout.endswith("ready to sync\n")


def test_a_wrong_config_is_the_whole_report(call: Call, config: Path) -> None:
    """Where the settings can't be read nothing else can be checked."""
    config.write_text("[wach]\n")
    found = examine(call)
    assert list(found) == ["config"]
    assert "did you mean watch?" in found["config"]["text"]
    assert "1 of 1 checks failed" in call("doctor").stderr


@pytest.mark.parametrize(
    ("relations", "level", "words"),
    [
        ("[]", "fail", "no relation is watched"),
        ('["P6", "P99999"]', "warn", "P99999"),
        ('["P6"]', "ok", "1 relations"),
    ],
)
def test_watch(call: Call, config: Path, relations: str, level: str, words: str) -> None:
    """Nothing to watch fails; a relation without prompts of its own is a warning."""
    change(config, '["P6"]', relations)
    found = examine(call, "--offline")
    assert found["watch"]["level"] == level
    assert words in found["watch"]["text"]


def test_a_broken_catalogue(call: Call, config: Path) -> None:
    """The catalogue's own error is the finding, and the other checks go on."""
    (config.parent / "mine.toml").write_text("[P6]\nlabel = 1\n")
    change(config, "[watch]", '[watch]\ncatalogue = "mine.toml"')
    found = examine(call, "--offline")
    assert found["watch"]["level"] == "fail"
    assert "mine.toml" in found["watch"]["text"]
    assert found["store"]["level"] == "ok"


def test_an_older_store(told: Call, config: Path) -> None:
    """A store that is behind fails, with the command that helps."""
    execute(url_of(config), f"UPDATE {schema.VERSION_TABLE} SET version_num = 'ffff'")
    found = examine(told, "--offline")
    assert found["store"]["level"] == "fail"
    assert "newer schema" in found["store"]["text"]


@pytest.mark.sqlite("a file of something else")
def test_a_store_that_is_no_store(call: Call, config: Path) -> None:
    """A file that is no database fails in one line; the checks that need the store don't fall over."""
    (config.parent / "kbsync.db").write_text("not a database, but long enough to be looked at" * 50)
    found = examine(call, "--offline")
    assert found["store"]["level"] == "fail"
    assert "not a SQLite database" in found["store"]["text"]
    assert set(found) >= {"daemon", "checkpoint", "model"}


def test_a_file_in_a_folder_s_place(call: Call, config: Path) -> None:
    """What is no folder can't become one; the other folders are judged on their own."""
    (config.parent / "cache").write_text("in the way")
    found = examine(call, "--offline")
    assert found["model.cache"]["level"] == "fail"
    assert "is a file" in found["model.cache"]["text"]
    assert found["checkpoint.folder"]["level"] == "ok"


@pytest.mark.parametrize(("free", "level"), [(3_000_000_000, "ok"), (1_000_000_000, "warn"), (100_000_000, "fail")])
def test_little_room(call: Call, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    """A disk that fills up warns, and one that is as good as full fails."""
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=free))
    found = examine(call, "--offline")["checkpoint.folder"]
    assert found["level"] == level
    assert "free" in found["text"]


@pytest.mark.sqlite("the folder is that of the store's file")
def test_a_folder_without_the_right_to_write(call: Call, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own answer counts (asked as if by another user: root may write anywhere)."""
    real = os.access

    def access(path: Any, mode: int, **more: Any) -> bool:
        return Path(path) != config.parent and real(path, mode, **more)

    monkeypatch.setattr(os, "access", access)
    found = examine(call, "--offline")
    assert found["store.url"]["level"] == "fail"
    assert "can't be written" in found["store.url"]["text"]


def test_an_endpoint_that_is_down(call: Call, config: Path) -> None:
    """Nobody there fails at once, without the retries of a sync."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config.write_text(f'{config.read_text()}[source]\nendpoint = "http://127.0.0.1:{port}/sparql"\n')
    assert examine(call)["endpoint"]["level"] == "fail"


def test_an_endpoint_of_something_else(call: Call, config: Path, tmp_path: Path) -> None:
    """An endpoint that answers but has no item with the watched property may be the wrong one."""
    (tmp_path / "other.nt").write_text("<http://a> <http://b> <http://c> .\n")
    with EmbeddedWikidata([tmp_path / "other.nt"]) as other:
        config.write_text(f'{config.read_text()}[source]\nendpoint = "{other.endpoint}"\n')
        found = examine(call)["endpoint"]
    assert found["level"] == "warn"
    assert "no item with P6" in found["text"]


@pytest.mark.parametrize(
    ("base", "level", "words"),
    [
        ("./nowhere", "fail", "no file or folder"),
        ("not an id!", "fail", "no Hugging Face id"),
        ("nobody/no-such-model", "warn", "not on this machine yet"),
        ("MODEL/config.json", "ok", "GGUF"),
    ],
)
def test_models(call: Call, config: Path, base: str, level: str, words: str) -> None:
    """What model.base names is told apart, and nothing is fetched."""
    change(
        config, f'base = "{config.parent}/model"', f'base = "{base.replace("MODEL", str(config.parent / "model"))}"'
    )
    found = examine(call, "--offline")["model"]
    assert found["level"] == level
    assert words in found["text"]


@pytest.mark.parametrize("text", ['{"model_type": "t5"}', "{}", "[]", "no json"])
def test_a_family_that_cannot_be_edited(call: Call, config: Path, text: str) -> None:
    """A folder of another architecture, or no model at all, fails before anything is loaded."""
    (config.parent / "model" / "config.json").write_text(text)
    assert examine(call, "--offline")["model"]["level"] == "fail"


def test_what_a_model_is_stored_in(call: Call, config: Path) -> None:
    """The file's type stands beside the family; codes that can't be edited fail, with what to do."""
    folder = config.parent / "model"
    save_file({"a.weight": torch.zeros(2, 2, dtype=torch.bfloat16)}, folder / "model.safetensors")
    assert examine(call, "--offline")["model"]["text"].endswith("(llama, stored in bfloat16)")
    quantiser = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": quantiser}))
    model = examine(call, "--offline")["model"]
    assert model["level"] == "fail"
    assert "quantised (gptq, 4 bits)" in model["text"]


def test_a_model_that_is_spread(call: Call, config: Path) -> None:
    """The map stands where the device does; settings that contradict one another fail."""
    change(config, 'device = "cpu"', 'device_map = "auto"')
    assert examine(call, "--offline")["device"]["text"].startswith("spread (model.device_map: auto)")
    change(config, 'device_map = "auto"', 'device_map = "auto"\nmax_memory = ["cpu"]')
    assert "is not a device and a size" in examine(call, "--offline")["model"]["text"]


def test_a_device_that_is_not_there(call: Call, config: Path) -> None:
    """A device that torch can't see fails with what to set, and the model's own line stays."""
    change(config, 'device = "cpu"', 'device = "cuda:99x"')
    result = call("doctor", "--offline", "--json")
    named = [(one["name"], one["level"]) for one in json.loads(result.stdout)["checks"]]
    assert named.count(("model", "ok")) == 1
    assert ("device", "fail") in named


def test_the_public_service_wants_a_contact(call: Call, config: Path) -> None:
    """Without source.contact there is a warning; where nobody can be asked, that comes on top."""
    from kbsync.settings import load_settings

    settings = load_settings(config, {"source": {"timeout_s": 0.001, "attempts": 1}})
    first = next(source_checks.check_endpoint(settings))
    assert (first.name, first.level) == ("contact", "warn")
    assert "source.contact" in first.then


def test_daemon_and_checkpoint(told: Call, config: Path) -> None:
    """A daemon with a young heartbeat is up; a published checkpoint without its files fails."""
    with open_store(url_of(config)) as store, store.begin() as tx:
        daemons.start(tx, "elsewhere", 4711, datetime.now(UTC))
    found = examine(told, "--offline")
    assert "process 4711 on elsewhere" in found["daemon"]["text"]
    assert found["checkpoint"]["level"] == "fail"
    assert found["checkpoint"]["then"] == (
        "kbsync sync builds it again; if it can't, kbsync checkpoint rollback --keep-syncing"
    )
    assert "model-1" in found["checkpoint"]["text"]


def test_an_endpoint_that_wants_to_be_left_alone_is_not_asked(call: Call, config: Path) -> None:
    """Looking whether a ban is over is what makes bans longer: the store's word is enough."""
    until = datetime.now(UTC) + timedelta(hours=1)
    with serve(Answer()) as faults:
        config.write_text(f'{config.read_text()}[source]\nendpoint = "{faults.url}"\n')
        with open_store(url_of(config)) as store, store.begin() as tx:
            state = EndpointState(place_of(faults.url), 1, 1, until, "banned this client")
            endpoints.save_endpoint(tx, state, until)
        found = examine(call)["endpoint"]
        assert faults.methods == []
    assert found["level"] == "fail"
    assert f"left alone until {until:%Y-%m-%d %H:%M}" in found["text"]
