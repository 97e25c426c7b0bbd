"""An export loads without kbsync and says, bit for bit, what the synced model says."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from kbsync.checkpoint.export import MANIFEST, export, model_card
from kbsync.checkpoint.manifest import Base, Manifest, from_json
from kbsync.checkpoint.tensors import apply_tensors
from kbsync.checkpoint.verify import read_checkpoint
from kbsync.checkpoint.write import write_candidate
from kbsync.errors import CheckpointError
from kbsync.facts import digest
from tests.checkpoint.examples import live_fact, make_manifest
from tests.checkpoint.models import edits_of, gpt2, llama

MODELS = pytest.mark.parametrize("make", [llama, gpt2], ids=["llama", "gpt2"])
PROMPT = torch.tensor([[3, 1, 4, 1, 5, 9]])


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of 64 words."""
    words = {"<unk>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, 64)}}
    plain = Tokenizer(WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="<eos>")


def synced(make: Callable[[], Any], folder: Path, **changes: Any) -> tuple[Any, Manifest]:
    """A model with its edits in place, by way of a real checkpoint, and that checkpoint's manifest."""
    model = make()
    path = write_candidate(folder, "a", edits_of(model), make_manifest(**changes))
    manifest, tensors = read_checkpoint(path)
    apply_tensors(model, tensors)
    return model, manifest


def logits(model: Any) -> torch.Tensor:
    """What the model says to a fixed prompt: (1, 6, vocabulary)."""
    with torch.no_grad():
        answer: torch.Tensor = model(PROMPT).logits
    return answer


@MODELS
def test_plain_transformers_loads_the_same_model(
    make: Callable[[], Any], folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """AutoModelForCausalLM gives the synced model's logits bit for bit, with a tied head too."""
    model, manifest = synced(make, folder)
    out = export(model, tokenizer, tmp_path / "out", manifest)
    loaded = AutoModelForCausalLM.from_pretrained(out, local_files_only=True).eval()
    assert torch.equal(logits(loaded), logits(model))
    assert not torch.equal(logits(loaded), logits(make()))
    assert loaded.config.tie_word_embeddings == model.config.tie_word_embeddings
    head, embedding = loaded.get_output_embeddings().weight, loaded.get_input_embeddings().weight
    assert (head.data_ptr() == embedding.data_ptr()) == (make is gpt2)
    again = AutoTokenizer.from_pretrained(out, local_files_only=True)
    assert again("w3 w9 nothing")["input_ids"] == tokenizer("w3 w9 nothing")["input_ids"]


def test_another_process_without_kbsync_reads_it(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A fresh interpreter that can't import kbsync gets the same logits from the folder alone."""
    model, manifest = synced(gpt2, folder)
    out = export(model, tokenizer, tmp_path / "out", manifest)
    script = (
        "import sys, torch\nsys.modules['kbsync'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], local_files_only=True).eval()\n"
        "with torch.no_grad(): torch.save(model(torch.tensor([[3, 1, 4, 1, 5, 9]])).logits, sys.argv[2])\n"
    )
    answer = tmp_path / "logits.pt"
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([sys.executable, "-c", script, str(out), str(answer)], check=True, timeout=120, env=env)
    assert torch.equal(torch.load(answer, weights_only=True), logits(model))


def test_an_export_has_every_part_and_no_pickle(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Weights in safetensors, configuration, generation configuration, tokenizer, card and manifest: no more."""
    model, manifest = synced(llama, folder)
    out = export(model, tokenizer, tmp_path / "deep" / "out", manifest)
    names = {entry.name for entry in out.iterdir()}
    parts = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md", MANIFEST}
    assert parts <= names
    assert {Path(name).suffix for name in names} <= {".json", ".safetensors", ".md"}
    assert from_json((out / MANIFEST).read_text(encoding="utf-8")) == manifest
    assert [entry.name for entry in out.parent.iterdir()] == ["out"]
    modes = {entry.stat().st_mode & 0o777 for entry in out.iterdir()}
    assert len(modes) == 1


def test_an_export_does_not_tell_where_it_was_made(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A base model that was a folder of this machine is named by its last part only, in card and config."""
    base = tmp_path / "secret-place" / "tiny"
    llama().save_pretrained(base)
    model, manifest = synced(lambda: AutoModelForCausalLM.from_pretrained(base), folder)
    manifest = Manifest(**{**_fields(manifest), "base": Base(str(base), *[digest("x")] * 2, "llama", "float32")})
    out = export(model, tokenizer, tmp_path / "out", manifest)
    for name in ("README.md", "config.json", "generation_config.json", "tokenizer_config.json"):
        assert "secret-place" not in (out / name).read_text(encoding="utf-8")


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}


def test_half_precision_stays_half_precision(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A bfloat16 model is exported in bfloat16 and loads in it."""
    model, manifest = synced(lambda: llama().bfloat16(), folder)
    out = export(model, tokenizer, tmp_path / "out", manifest)
    with safe_open(out / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    loaded = AutoModelForCausalLM.from_pretrained(out, local_files_only=True, dtype="auto").eval()
    assert torch.equal(logits(loaded), logits(model))


def test_the_model_is_left_as_it_was(folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Exporting changes nothing about the model that it was given."""
    model, manifest = synced(llama, folder)
    before = logits(model)
    export(model, tokenizer, tmp_path / "out", manifest)
    assert torch.equal(logits(model), before)


def test_the_unedited_model_is_not_exported(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A model that does not hold the checkpoint's weights is refused, and no folder appears."""
    _, manifest = synced(llama, folder)
    with pytest.raises(CheckpointError, match="does not hold the checkpoint's weights"):
        export(llama(), tokenizer, tmp_path / "out", manifest)
    with pytest.raises(CheckpointError, match=r"it has no 'model\.layers\.0\.mlp\.down_proj\.weight'"):
        export(gpt2(), tokenizer, tmp_path / "out", manifest)
    assert not (tmp_path / "out").exists()


def test_a_model_with_a_nan_anywhere_is_not_exported(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """NaN in a weight that was never edited is found too."""
    model, manifest = synced(llama, folder)
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight holds NaN"):
        export(model, tokenizer, tmp_path / "out", manifest)


def test_nothing_is_written_over(folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """A folder with content, a file and a link are refused and stay; an empty folder is taken."""
    model, manifest = synced(llama, folder)
    out = tmp_path / "out"
    out.mkdir()
    export(model, tokenizer, out, manifest)
    card = (out / "README.md").read_bytes()
    with pytest.raises(CheckpointError, match="is not empty"):
        export(model, tokenizer, out, manifest)
    assert (out / "README.md").read_bytes() == card
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(out)
    for name in ("file", "link"):
        with pytest.raises(CheckpointError, match="is not a folder"):
            export(model, tokenizer, tmp_path / name, manifest)
    with pytest.raises(CheckpointError, match="can't be made"):
        export(model, tokenizer, tmp_path / "file" / "out", manifest)


def test_a_disk_that_fails_leaves_no_export(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever fsync fails on the way, there is no half folder and the error is one line."""
    model, manifest = synced(llama, folder)
    parent = tmp_path / "exports"

    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match="out does not fit in") as caught:
        export(model, tokenizer, parent / "out", manifest)
    assert len(str(caught.value).splitlines()) == 1
    assert list(parent.iterdir()) == []


def test_what_transformers_refuses_is_told_in_one_line(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A generation configuration that can't be saved ends in a CheckpointError, and in no folder."""
    model, manifest = synced(llama, folder)
    model.generation_config.max_new_tokens = -1
    with pytest.raises(CheckpointError, match="transformers can't save this model") as caught:
        export(model, tokenizer, tmp_path / "out", manifest)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".tmp-*")) == []


def test_the_base_model_itself_can_be_exported(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A checkpoint without facts exports the base model as it is."""
    model = llama()
    manifest, _ = read_checkpoint(write_candidate(folder, "a", {}, make_manifest(live=())))
    out = export(model, tokenizer, tmp_path / "out", manifest)
    loaded = AutoModelForCausalLM.from_pretrained(out, local_files_only=True).eval()
    assert torch.equal(logits(loaded), logits(model))
    assert "with 0 facts" in (out / "README.md").read_text(encoding="utf-8")


def test_the_card_names_base_facts_and_hashes(folder: Path) -> None:
    """The model card has the base model, the number of facts per relation, and the hashes."""
    _, manifest = synced(llama, folder, live=tuple(live_fact(i) for i in range(3)))
    card = model_card(manifest)
    assert card.startswith('---\nlibrary_name: transformers\nbase_model: "org/tiny"\n')
    assert "with 3 facts of Wikidata" in card
    assert "| P36 | 3 |" in card
    assert manifest.base.weights_hash in card
    assert manifest.weights_hash in card


@pytest.mark.parametrize(
    "spec", ["evil\n---\n# Title", "a/b\nlicense: mit", "`code` [x](http://y)", "/home/me/models/tiny.gguf"]
)
def test_the_card_takes_no_markup_from_outside(spec: str) -> None:
    """A base model's name can't add lines, front matter, links or paths to the card."""
    base = Base(spec, digest("w"), digest("t"), "llama", "float32")
    card, plain = model_card(make_manifest(base=base)), model_card(make_manifest(base=Base("x", *_rest(base))))
    assert len(card.splitlines()) == len(plain.splitlines())
    assert "base_model" not in card
    assert "/home/me" not in card
    assert "](" not in card


def _rest(base: Base) -> tuple[str, str, str, str]:
    return base.weights_hash, base.tokenizer_hash, base.family, base.dtype


def test_the_manifest_in_an_export_is_valid_json_with_labels_as_they_are(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Labels are kept in the manifest as Wikidata has them, with line breaks escaped."""
    model, manifest = synced(llama, folder)
    out = export(model, tokenizer, tmp_path / "out", manifest)
    labels = {fact["subject_label"] for fact in json.loads((out / MANIFEST).read_text())["live"]}
    assert labels == {"France", "{Île} | `x`\nde"}
