"""Model folders that attack, made from a whole one. Each attack is a function that spoils the folder it is
given."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
Attack = Callable[[Path], None]


class Bomb:
    """Unpickled, it makes a file named `ran` where the process runs."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("ran", "w")


def _pickled(name: str) -> Attack:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(Bomb())) and None


def _zipped(name: str) -> Attack:
    def attack(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))

    return attack


def more(name: str, **keys: Any) -> Attack:
    """Keys added to a JSON file of the folder."""

    def attack(folder: Path) -> None:
        path = folder / name
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**found, **keys}))

    return attack


def _stranger(name: str) -> Attack:
    """A kind of model that nobody knows, with code of its own."""

    def attack(folder: Path) -> None:
        more("config.json", model_type="stranger")(folder)
        more(name, auto_map={"AutoModel": "x.Y"})(folder)

    return attack


def _text(name: str, text: str) -> Attack:
    return lambda folder: (folder / name).write_text(text) and None


def _deep(name: str) -> Attack:
    return _text(name, '{"a":' + "[" * 100_000 + "]" * 100_000 + "}")


def _linked(name: str) -> Attack:
    """A file of the folder, moved out of it and linked to."""

    def attack(folder: Path) -> None:
        outside = folder.parent / f"outside-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return attack


def _link(name: str, target: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return attack


def _fifo(name: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return attack


def _index(place: str) -> Attack:
    return more("model.safetensors.index.json", metadata={}, weight_map={"lm_head.weight": place})


def _sparse(name: str, size: int) -> Attack:
    def attack(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.write(b"{")
            file.truncate(size)

    return attack


def header(value: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    """A safetensors file: `value` is its header, as JSON or as text."""
    text = (value if isinstance(value, str) else json.dumps(value)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(**more: Any) -> dict[str, Any]:
    """A tensor of four float32, or nearly."""
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **more}


def _weights(content: bytes) -> Attack:
    return lambda folder: (folder / WEIGHTS).write_bytes(content) and None


_ONE = json.dumps(tensor())
# name → (the file as it is, a part of the refusal)
HEADERS: Mapping[str, tuple[bytes, str]] = {
    "nothing": (b"", "too few"),
    "too short for a length": (bytes(8), "too few"),
    "no JSON": (header("nothing"), "not JSON"),
    "longer than the file": (header({"a": tensor()}, length=10_000), "would have 10000 bytes"),
    "longest there is": (header({"a": tensor()}, length=2**64 - 1), "would have 18446744073709551615"),
    "cut short": (header({"a": tensor()}, length=20), "its header is not JSON"),
    "a list": (header("{}")[:8] + b"[]" + bytes(16), "not JSON"),
    "a key written twice": (header(f'{{"a":{_ONE},"a":{_ONE}}}'), "written twice"),
    "nested deep": (header('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), "nested too deep"),
    "NaN": (header('{"a":NaN}'), "NaN"),
    "metadata that are no texts": (header({"__metadata__": {"a": {}}, "a": tensor()}), "__metadata__"),
    "an unknown dtype": (header({"a": tensor(dtype="PICKLE")}), "unknown dtype"),
    "a dtype that is none": (header({"a": tensor(dtype=["F32"])}), "unknown dtype"),
    "a key too many": (header({"a": tensor(code="x")}), "other keys"),
    "a negative length": (header({"a": tensor(shape=[-2, -2])}), "no shape"),
    "a boolean length": (header({"a": tensor(shape=[True, 4])}), "no shape"),
    "a fraction": (header({"a": tensor(shape=[2.0, 2])}), "no shape"),
    "a thousand dimensions": (header({"a": tensor(shape=[1] * 1000)}), "no shape"),
    "a shape beyond 64 bits": (header({"a": tensor(shape=[2**63, 2])}), "no shape"),
    "a product beyond 64 bits": (header({"a": tensor(shape=[2**62, 2**62, 4])}), "don't fill"),
    "a shape that is too large": (header({"a": tensor(shape=[1000, 1000])}), "don't fill"),
    "offsets turned round": (header({"a": tensor(data_offsets=[16, 0])}), "no data_offsets"),
    "offsets beyond the end": (header({"a": tensor(data_offsets=[16, 32])}), "leave a gap"),
    "bytes beyond the end": (header({"a": tensor(shape=[8], data_offsets=[0, 32])}), "truncated"),
    "tensors that overlap": (header({"a": tensor(), "b": tensor()}), "overlap"),
    "bytes of no tensor": (header({"a": tensor()}, bytes(64)), "the file holds 64"),
}

_ROTATION = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 1e9}

# name → (what spoils the folder, the file that is named, a part of the reason)
ATTACKS: Mapping[str, tuple[Attack, str, str]] = {
    **{f"a pickle, {name}": (_pickled(name), name, "pickle")
       for name in ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "optimizer.pkl", "SHOUTED.BIN")},
    "a zip of a pickle": (_zipped("pytorch_model.bin"), "pytorch_model.bin", "pickle"),
    "a renamed pickle": (_pickled("weights.dat"), "weights.dat", "pickle"),
    "a renamed zip": (_zipped("weights.h5"), "weights.h5", "pickle"),
    "a pickle called safetensors": (_pickled("extra.safetensors"), "extra.safetensors", "pickle"),
    "a zip called safetensors": (_zipped(WEIGHTS), WEIGHTS, "pickle"),
    "code": (_text("modeling_x.py", "print('ran')"), "modeling_x.py", "code"),
    **{f"auto_map for another kind, {name}": (_stranger(name), name, "auto_map")
       for name in ("config.json", "tokenizer_config.json", "generation_config.json", "processor_config.json")},
    "trust_remote_code": (more("config.json", text_config={"trust_remote_code": True}), "config.json", "code"),
    "a kernel from the hub": (more("config.json", attn_implementation="someone/kernel"), "config.json", "kernel"),
    "a kernel under its inner name":
        (more("config.json", _attn_implementation_internal="someone/kernel"), "config.json", "kernel"),
    "kernels for parts":
        (more("config.json", attn_implementation={"": "eager", "x": "a/b"}), "config.json", "kernel"),
    "an adapter": (more("adapter_config.json", base_model_name_or_path="/etc"), "adapter_config.json", "adapter"),
    "weights elsewhere":
        (more("config.json", transformers_weights="../x.safetensors"), "config.json", "leads out"),
    "a vocabulary elsewhere":
        (more("tokenizer_config.json", vocab_file="/etc/passwd"), "tokenizer_config.json", "leads out"),
    "a tokenizer up the tree": (more("tokenizer_config.json", fast_tokenizer_files=["../tokenizer.1.json"]),
                                "tokenizer_config.json", "leads out"),
    "an index up the tree": (_index("../outside.safetensors"), "index.json", "no safetensors file of the folder"),
    "an index to an absolute path": (_index("/etc/passwd"), "index.json", "no safetensors file of the folder"),
    "an index to a pickle": (_index("pytorch_model-1.bin"), "index.json", "no safetensors file of the folder"),
    "an index with backslashes":
        (_index("..\\outside.safetensors"), "index.json", "no safetensors file of the folder"),
    "an index to nothing": (_index("model-1.safetensors"), "index.json", "not there"),
    "an index without places": (more("model.safetensors.index.json", weight_map=[]), "index.json", "weight_map"),
    "linked weights": (_linked(WEIGHTS), WEIGHTS, "link"),
    "a linked tokenizer": (_linked("tokenizer.json"), "tokenizer.json", "link"),
    "a link to a secret": (_link("LICENSE", "/etc/passwd"), "LICENSE", "link"),
    "a link that goes round": (_link("notes.txt", "notes.txt"), "notes.txt", "link"),
    "a link to a device": (_link("generation_config.json", "/dev/zero"), "generation_config.json", "link"),
    "a pipe": (_fifo("chat_template.jinja"), "chat_template.jinja", "neither a file nor a folder"),
    "linked templates": (_link("additional_chat_templates", "/etc"), "additional_chat_templates", "link"),
    **{f"deep JSON, {name}": (_deep(name), name, "nested too deep")
       for name in ("config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json")},
    "a vast configuration": (_sparse("generation_config.json", 10**9), "generation_config.json", "bytes"),
    "a vast tokenizer": (_sparse("tokenizer.json", 10**10), "tokenizer.json", "bytes"),
    "a configuration that is a list": (_text("config.json", "[]"), "config.json", "not a JSON object"),
    "a number of a million digits": (_text("config.json", '{"hidden_size":' + "9" * 10**6 + "}"), "config.json",
                                     "not JSON"),
    "a vast template": (_text("chat_template.jinja", "x" * 10**6), "chat_template.jinja", "template"),
    "a vast template among others":
        (more("tokenizer_config.json", chat_template=[{"name": "a", "template": "x" * 10**6}]),
         "tokenizer_config.json", "template"),
    "a million layers": (more("config.json", num_hidden_layers=10**6), "config.json", "1000000 layers"),
    "layers in a list": (more("config.json", attention_types=[[["global"], 10**9]]), "config.json", "layers"),
    "a billion heads": (more("config.json", num_attention_heads=10**9), "config.json", "heads"),
    "experts in every layer": (more("config.json", num_experts=10**6), "config.json", "experts"),
    "a billion positions": (more("config.json", max_position_embeddings=10**9), "config.json", "positions"),
    "a billion labels": (more("config.json", num_labels=10**9), "config.json", "num_labels"),
    "a vast rotation": (more("config.json", rope_parameters=_ROTATION), "config.json", "describes"),
    "a vast hidden state": (more("config.json", hidden_size=10**9), "config.json", "describes"),
    "a vast MLP": (more("config.json", intermediate_size=10**9), "config.json", "describes"),
    "a vast vocabulary": (more("config.json", vocab_size=10**9), "config.json", "describes"),
    "a vast head": (more("config.json", head_dim=10**8), "config.json", "describes"),
    "nothing but a name": (_text("config.json", '{"model_type": "llama"}'), "config.json", "describes"),
    "a header that lies": (_weights(HEADERS["tensors that overlap"][0]), WEIGHTS, "overlap"),
}  # fmt: skip
