"""The commands that load a model, with a tiny one: ask, covariance, checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from kbsync.checkpoint.publish import live
from tests.cli.conftest import Call, data, error
from tests.cli.tiny import go_live
from tests.tiny import save_tiny

SETTINGS = """
[covariance]
tokens = 400
chunk_tokens = 32
facts_share = 0
[edit]
prefixes = 0
contexts = []
key_contexts = []
layers = [1, 2]
"""


@pytest.fixture(autouse=True)
def _settings(config: Path, tiny: Path) -> None:
    text = config.read_text().replace("[model]", f'[model]\nbase = "{tiny}"\ndevice = "cpu"')
    config.write_text(text + SETTINGS)


@pytest.fixture
def published(config: Path) -> Path:
    """A checkpoint that is live."""
    return go_live(config)


def test_ask_before_the_first_sync(call: Call) -> None:
    """Nothing is published: both answers are the base model's, and people are told why."""
    said = data(call("ask", "The head of government of France is", "--tokens", "3", "--json"))
    assert said["base"] == said["synced"]
    assert said["checkpoint"] is None
    assert "nothing is published yet" in call("ask", "France", "--tokens", "1").stdout


def test_ask_both_models(call: Call, published: Path) -> None:
    """Two models, two answers, the same each time; the published one is named."""
    words = ("ask", "The head of government of France is", "--tokens", "8", "--json")
    said = data(call(*words))
    assert said["checkpoint"] == published.name
    assert said["base"] != said["synced"]
    assert data(call(*words)) == said
    shown = call(*words[:-1])
    assert f"the synced model ({published.name})" in shown.stdout


def test_ask_what_cannot_be_asked(call: Call) -> None:
    """An empty prompt, a model without a chat template, and a model that isn't there have their codes."""
    assert error(call("ask", " ", "--json"))["exit_code"] == 2
    assert error(call("ask", "x", "--chat", "--json"))["kind"] == "ModelError"
    assert "bytes that are not UTF-8" in error(call("ask", "a\udcffb", "--json"))["message"]


def test_ask_beyond_what_a_model_can_read(call: Call, config: Path, tmp_path: Path, tiny: Path) -> None:
    """Where positions are a table, the answer ends with it, and a prompt that is longer is named."""
    folder = save_tiny(tmp_path / "gpt2", "gpt2", layers=5)
    config.write_text(config.read_text().replace(str(tiny), str(folder)))
    assert data(call("ask", "The capital of France is", "--tokens", "2000", "--json"))["base"]
    assert "more than the 512 tokens" in error(call("ask", "Paris " * 600, "--json"))["message"]


def test_a_model_that_is_not_there(call: Call, config: Path, tiny: Path) -> None:
    """ModelError, 5."""
    config.write_text(config.read_text().replace(str(tiny), "./nowhere"))
    assert error(call("ask", "x", "--json"))["exit_code"] == 5


def test_covariance_is_computed_once(call: Call, config: Path) -> None:
    """C is on disk afterwards, and the second call finds it there, unchanged."""
    first = data(call("covariance", "--json"))
    assert first["layers"] == [1, 2]
    assert first["tokens"] >= 400
    files = {path: path.stat().st_mtime_ns for path in (config.parent / "cache").rglob("*") if path.is_file()}
    assert files
    assert data(call("covariance", "--json")) == first
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert first["hash"] in call("covariance").stdout


def test_covariance_says_what_it_is_of(call: Call, config: Path) -> None:
    """Tokens by source, and the outline of each layer's spectrum: more tokens than a key has numbers, so C has a
    condition."""
    config.write_text(config.read_text().replace("facts_share = 0", "facts_share = 0\nsamples_share = 0.25"))
    found = data(call("covariance", "--json"))
    assert found["sources"] == {"samples": 104, "text": 310}
    assert sum(found["sources"].values()) == found["tokens"]
    assert list(found["spectrum"]) == ["1", "2"]
    for outline in found["spectrum"].values():
        assert outline["trace"] > 0
        assert outline["effective_rank"] >= 1
        assert outline["condition"] > 1
    shown = call("covariance").stdout
    assert "effective rank" in shown
    assert "samples" in shown


def test_list(call: Call, published: Path) -> None:
    """A line per checkpoint, with its status and where it lies."""
    (one,) = data(call("checkpoint", "list", "--json"))
    assert (one["name"], one["status"], one["path"]) == (published.name, "published", str(published))
    assert str(published) in call("checkpoint", "list").stdout


def test_verify(call: Call, published: Path) -> None:
    """The live one by default, or one by name; damage ends with 8 and says what is damaged."""
    for words in ([], [published.name]):
        found = data(call("checkpoint", "verify", *words, "--json"))
        assert found == {"checkpoint": published.name, "rebuilt": False, "problems": []}
    assert "is what its manifest says" in call("checkpoint", "verify").stdout
    (published / "edited.safetensors").write_bytes(b"damaged")
    damaged = error(call("checkpoint", "verify", "--json"))
    assert damaged["exit_code"] == 8
    assert "edited.safetensors" in damaged["message"]


def test_verify_by_rebuilding(call: Call, published: Path) -> None:
    """These weights are not what the (empty) live set gives: whole files, and still not the right ones."""
    result = call("checkpoint", "verify", "--rebuild", "--json")
    assert error(result)["exit_code"] == 8
    assert "other weights" in error(result)["message"]


def test_rollback_to_base_and_back(call: Call, config: Path, published: Path) -> None:
    """The link and the row move together; going nowhere is an error."""
    folder = config.parent / "checkpoints"
    assert data(call("checkpoint", "rollback", "--json"))["live"] is None
    assert live(folder) is None
    assert data(call("status", "--json"))["live"] is None
    assert error(call("checkpoint", "rollback", "--json"))["exit_code"] == 4
    assert call("checkpoint", "rollback", "--to", published.name).stdout == f"{published.name} is live now\n"
    assert live(folder) == published
    assert call("checkpoint", "rollback", "--base").stdout == "the base model is live now\n"
    assert error(call("checkpoint", "rollback", "--base", "--to", "x", "--json"))["exit_code"] == 2
    assert error(call("checkpoint", "rollback", "--to", "no-such", "--json"))["exit_code"] == 4


def test_export_is_what_was_published(call: Call, config: Path, published: Path) -> None:
    """Plain transformers loads the folder, and says what `ask` says of the synced model."""
    out = config.parent / "exported"
    assert data(call("checkpoint", "export", str(out), "--json")) == {"folder": str(out)}
    said = data(call("ask", "France is", "--tokens", "5", "--json"))["synced"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    ids = tokenizer("<s>France is", return_tensors="pt", add_special_tokens=False).input_ids
    made = model.generate(ids, max_new_tokens=5, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(made).strip() == said.strip()
    shutil.rmtree(out)
    assert call("checkpoint", "export", str(out)).stdout == f"exported to {out}\n"


@pytest.mark.parametrize(
    "words",
    [("checkpoint", "list"), ("checkpoint", "verify"), ("checkpoint", "rollback"), ("checkpoint", "export", "out")],
)
def test_looking_after_nothing_makes_nothing(call: Call, config: Path, words: tuple[str, ...]) -> None:
    """On a store that isn't there each command ends with 4, before a model is loaded or a file made."""
    before = sorted(config.parent.iterdir())
    assert error(call(*words, "--json"))["exit_code"] == 4
    assert sorted(config.parent.iterdir()) == before


def test_no_checkpoints_yet(call: Call, make_store: Callable[[], None]) -> None:
    """An empty list, in words too; and nothing to verify or export is a CheckpointError."""
    make_store()
    assert data(call("checkpoint", "list", "--json")) == []
    assert "no checkpoints yet" in call("checkpoint", "list").stdout
    assert error(call("checkpoint", "verify", "--json"))["exit_code"] == 8
    assert error(call("checkpoint", "export", "out", "--json"))["exit_code"] == 8


@pytest.fixture
def make_store(call: Call) -> Callable[[], None]:
    """Lay the store out."""

    def make() -> None:
        assert call("db", "upgrade").exit_code == 0

    return make
